"""The file: a tar archive, compressed with gzip, with a manifest that says what is in it and what could not be had."""

from __future__ import annotations

import gzip
import io
import os
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from kpx.bundle.secrets import blotted
from kpx.proxier.published import API_VERSION
from kpx.tools.errors import ToolError, UsageError

T = TypeVar("T")

MANIFEST = "manifest.json"
_MODE = 0o600  # it tells a lot of a cluster
_MOST_BYTES = 1 << 30


class Part(msgspec.Struct, frozen=True):
    """What was read together, and how long that took; ``error`` says why it is not there, or not the whole."""

    name: str
    seconds: float
    error: str = ""


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """When, where and by what a bundle was made: ``made`` is in UTC, ``byte_order`` that of the machine."""

    kpx: str
    node: str
    made: str
    kernel: str
    parts: tuple[Part, ...]
    byte_order: str = sys.byteorder
    api_version: str = API_VERSION

    @property
    def text(self) -> str:
        return f"the bundle of node {self.node}, made {self.made}"


def write(path: Path, folder: str, manifest: Manifest, files: Mapping[str, bytes], seconds: float) -> None:
    """Write a bundle, which takes the place of one that is there; `seconds` is the files' time. Raises `ToolError`."""
    documents = {MANIFEST: msgspec.json.format(msgspec.json.encode(manifest)), **files}
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise ToolError(f"{path} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w:gz", compresslevel=6) as archive:
            for member, data in documents.items():
                told = blotted(data)
                head = tarfile.TarInfo(f"{folder}/{member}")
                head.size, head.mode, head.mtime = len(told), _MODE, int(seconds)
                archive.addfile(head, io.BytesIO(told))
        Path(name).replace(path)
    except BaseException as error:
        with suppress(OSError):
            Path(name).unlink()
        if isinstance(error, OSError):
            raise ToolError(f"{path} cannot be written: {error.strerror}") from error
        raise


class Archive:
    """A bundle that was opened. Nothing of it is unpacked to disk."""

    def __init__(self, path: Path) -> None:
        """Raises `UsageError` where there is no such file, `ToolError` where it is something else, or damaged."""
        self._path = path
        try:
            with _Bounded(path) as whole, tarfile.open(fileobj=whole, mode="r|") as archive:
                self._files = _read(archive)
        except OSError as error:
            if isinstance(error, tarfile.TarError) or error.errno is None:
                raise self._damaged(error) from error
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:
            raise self._damaged(error) from error
        if MANIFEST not in self._files:
            raise ToolError(f"{path} is no bundle of kpx: it holds no {MANIFEST}; `kpx bundle` makes one")
        self.manifest: Manifest = self.document(MANIFEST, Manifest)
        if self.manifest.api_version != API_VERSION:
            raise ToolError(f"{path} is of {self.manifest.api_version}, and this kpx reads {API_VERSION}")
        if self.manifest.byte_order != sys.byteorder:
            raise ToolError(f"{path} was made on a {self.manifest.byte_order}-endian machine: read it on one of those")

    def _damaged(self, error: Exception) -> ToolError:
        return ToolError(f"{self._path} is no bundle of kpx, or it is damaged: {error or type(error).__name__}")

    def names(self, prefix: str = "") -> list[str]:
        return [name for name in self._files if name.startswith(prefix)]

    def data(self, name: str) -> bytes | None:
        """A file of it; None if that could not be had on the node."""
        return self._files.get(name)

    def document(self, name: str, kind: type[T] | Any) -> T:
        """A JSON document of it. Raises `ToolError`, with the reason if it could not be had on the node."""
        data = self._files.get(name)
        if data is None:
            raise ToolError(f"the bundle holds no {name}{self._why(name)}")
        try:
            found: T = msgspec.json.decode(data, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ToolError(f"{self._path} is damaged, or of another version: {name}: {error}") from error
        return found

    def _why(self, name: str) -> str:
        part = next((one for one in self.manifest.parts if one.error and name.startswith(one.name)), None)
        return f": {part.error}" if part else ""


class _Bounded(gzip.GzipFile):
    """What a file decompresses to, up to a limit: a small file can be made that fills the memory."""

    _left = _MOST_BYTES

    def read(self, size: int | None = -1) -> bytes:
        """Raises `ValueError` past the limit."""
        data = super().read(size)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"it holds more than {_MOST_BYTES >> 20} MiB")
        return data


def _read(archive: tarfile.TarFile) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for member in archive:
        content = archive.extractfile(member) if member.isreg() else None
        if content is not None:
            files[member.name.partition("/")[2]] = content.read()
    return files
