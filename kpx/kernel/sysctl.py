"""Kernel settings under /proc/sys and /sys, read and written as text, with errors that name the file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

PROC_SYS = Path("/proc/sys")
_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EOPNOTSUPP}


class SysctlError(OSError):
    """A setting could not be read or written; the text is a sentence that names its file."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(code, sentence)
        self.sentence = sentence

    def __str__(self) -> str:
        return self.sentence

    @property
    def read_only(self) -> bool:
        """Whether the setting may not be changed from here (another network namespace, a read-only /sys, no root)."""
        return self.errno in _READ_ONLY


def path(name: str) -> Path:
    """The file of a setting: ``net/ipv4/ip_forward`` below /proc/sys, or an absolute path (a module's parameter)."""
    return PROC_SYS / name


def read(name: str) -> str:
    """The value of a setting, as the network namespace of the calling thread has it."""
    try:
        return path(name).read_text().strip()
    except OSError as error:
        raise _failed(f"cannot read {path(name)}", error) from error


def read_int(name: str) -> int:
    """The value of a numeric setting."""
    value = read(name)
    try:
        return int(value)
    except ValueError as error:
        raise SysctlError(errno.EINVAL, f"{path(name)} holds {value!r}, which is no number") from error


def write(name: str, value: int | str) -> None:
    """Change a setting that exists."""
    try:
        descriptor = os.open(path(name), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, str(value).encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _failed(f"cannot set {path(name)} to {value}", error) from error


def _failed(what: str, error: OSError) -> SysctlError:
    return SysctlError(error.errno or errno.EIO, f"{what}: {error.strerror}")
