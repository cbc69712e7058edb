"""Objects from a folder of YAML and JSON files, watched: an edit shows at once."""

from __future__ import annotations

import logging
import stat
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from kpx import inotify
from kpx.cluster.documents import Found, Parts, Unparsable, parse
from kpx.cluster.events import Applied, ClusterError, Event, Key, Removed, Synced
from kpx.cluster.objects import Kind, Object
from kpx.inotify import Inotify

logger = logging.getLogger(__name__)

_SUFFIXES = (".yaml", ".yml", ".json")
_POLL_SECONDS = 0.5

_WRITING = inotify.CREATE | inotify.MODIFY
_SETTLED = inotify.CLOSE_WRITE | inotify.MOVED_TO | inotify.MOVED_FROM | inotify.DELETE
_GONE = inotify.MOVE_SELF | inotify.IGNORED

_Signature = tuple[int, int, int]
_Events = list[tuple[int, str]]


class ManifestSource:
    """The `Source` that follows the files of a folder, as a proxy on `node_name` would get their objects.

    Where an object is in several files, or twice in one, the last counts, in the order of the files' names. A file
    that does not parse may be half written: it leaves its objects as they were. So does one that has become empty, as
    a file is for a moment when it is written again, before inotify can tell. Hidden files and subfolders do not count.
    """

    def __init__(self, directory: str | Path, node_name: str) -> None:
        """Raises `ClusterError` if there is no such folder."""
        self._directory = Path(directory)
        if not self._directory.is_dir():
            raise ClusterError(f"{directory} is not a folder: create it, or give --manifests one that is")
        self._node_name = node_name
        self._signatures: dict[str, _Signature] = {}
        self._files: dict[str, Parts] = {}
        self._published: dict[Key, Found] = {}
        self._unsynced = list(Kind)
        self._complaints: dict[str, str] = {}
        self._duplicates: set[str] = set()

    def run(self, emit: Callable[[Event], None], stop: threading.Event) -> None:
        """Deliver events until `stop` is set; then return within a second."""
        while not stop.is_set():
            try:
                with Inotify(self._directory, _WRITING | _SETTLED | inotify.MOVE_SELF) as watch:
                    self._follow(watch, emit, stop)
            except OSError as error:
                self._complain("", f"cannot watch {self._directory}, its objects stay as they were: {error.strerror}")
            stop.wait(_POLL_SECONDS)

    def _follow(self, watch: Inotify, emit: Callable[[Event], None], stop: threading.Event) -> None:
        """Tell what there is and what changes, until `stop` is set or the folder is gone."""
        self._complaints.pop("", None)
        names, events, writing = self._stirred(), _Events(), set[str]()
        while not stop.is_set() and not any(mask & _GONE for mask, _ in events):
            later = self._read(names, watch) if names else _Events()
            if names:
                self._publish(emit)
            while self._unsynced:
                emit(Synced(self._unsynced.pop()))
            events = later or watch.read(_POLL_SECONDS)
            names = self._touched(events, writing)

    def _touched(self, events: _Events, writing: set[str]) -> set[str]:
        """The files to read after some events: those of which the last event does not say that they are being written.

        The others are kept in `writing` until there is another event of theirs. Where an event does not name a file of
        ours (a ConfigMap volume swaps a folder behind links; the kernel lost events), all that look different count.
        """
        touched = set()
        for name, mask in {name: mask for mask, name in events}.items():
            if mask & _WRITING and not (mask & inotify.CREATE and self._is_link(name)):
                writing.add(name)
            else:
                writing.discard(name)
                touched.add(name)
        if any(mask & inotify.OVERFLOW for mask, _ in events):
            writing.clear()
        if not all(map(_is_manifest, touched)):
            touched |= self._stirred()
        return touched - writing

    def _stirred(self) -> set[str]:
        """The files that are new, gone, or look different."""
        found = {path.name: _signature(path) for path in self._directory.iterdir() if _is_manifest(path.name)}
        return {name for name in found.keys() | self._signatures if found.get(name) != self._signatures.get(name)}

    def _is_link(self, name: str) -> bool:
        path = self._directory / name
        with suppress(FileNotFoundError):
            return path.is_symlink() or path.stat().st_nlink > 1
        return False

    def _read(self, names: Iterable[str], watch: Inotify) -> _Events:
        """Read files; what has happened to the folder meanwhile. A file that it happened to may have been read half."""
        contents = {name: self._content(name) for name in sorted(names) if _is_manifest(name)}
        events = watch.read(0.0)
        for name in contents.keys() - {name for _, name in events}:
            self._take(name, contents[name])
        return events

    def _content(self, name: str) -> tuple[_Signature, bytes] | OSError | None:
        path = self._directory / name
        try:
            signature = _signature(path)
            return (signature, path.read_bytes()) if signature else None
        except OSError as error:
            return error

    def _take(self, name: str, content: tuple[_Signature, bytes] | OSError | None) -> None:
        if content is None:
            for kept in (self._signatures, self._files, self._complaints):
                kept.pop(name, None)
            return
        try:
            if isinstance(content, OSError):
                raise content
            self._signatures[name], data = content
            known = self._files.get(name, {})
            if known and not data:
                raise Unparsable(f"{name} is empty (to remove its objects, delete it)")
            self._files[name] = parse(name, data, self._node_name, known)
            self._complaints.pop(name, None)
        except (OSError, Unparsable) as error:
            self._complain(name, f"{error}; the objects of this file stay as they were until it can be read")

    def _publish(self, emit: Callable[[Event], None]) -> None:
        """Tell how what is in the files differs from what was told before."""
        merged = self._merged()
        for key in self._published:
            if key not in merged:
                emit(Removed(key))
        for key, found in merged.items():
            if self._published.get(key) != found:
                emit(found)
        self._published = merged

    def _merged(self) -> dict[Key, Found]:
        """All that is found, by key; says once which objects are found twice."""
        merged: dict[Key, Found] = {}
        origin: dict[Key, str] = {}
        duplicates = set()
        for name, parts in sorted(self._files.items()):
            for found in (found for part in parts.values() for found in part):
                if found.key in merged:
                    kind, namespace, what = found.key
                    duplicates.add(f"{kind.value} {namespace}/{what} is in {origin[found.key]} and again in {name}")
                merged[found.key], origin[found.key] = found, name
        for duplicate in sorted(duplicates - self._duplicates):
            logger.warning("%s: the last one counts", duplicate)
        self._duplicates = duplicates
        return merged

    def _complain(self, name: str, text: str) -> None:
        if self._complaints.get(name) != text:
            self._complaints[name] = text
            logger.warning("%s", text)


def objects(directory: Path) -> list[Object]:
    """All objects in a folder as it is now, those too that are for no proxy; raises `ClusterError`."""
    found: dict[Key, Object] = {}
    try:
        for path in sorted(path for path in directory.iterdir() if _is_manifest(path.name) and path.is_file()):
            for part in parse(path.name, path.read_bytes(), None, {}).values():
                found.update((one.key, one.object) for one in part if isinstance(one, Applied))
    except OSError as error:
        raise ClusterError(f"{error.filename or directory} cannot be read: {error.strerror}") from error
    return list(found.values())


def _is_manifest(name: str) -> bool:
    return name.endswith(_SUFFIXES) and not name.startswith(".")


def _signature(path: Path) -> _Signature | None:
    """What changes when a file is written; None where there is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size) if stat.S_ISREG(status.st_mode) else None
