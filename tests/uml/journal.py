"""What pytest in the guest tells pytest on the host: a file of JSON lines, in a folder that both see."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Data = dict[str, Any]


class Writer:
    """The guest's side."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def started(self, nodeid: str) -> None:
        self._write({"started": nodeid})

    def report(self, nodeid: str, data: Data) -> None:
        self._write({"of": nodeid, "report": data})

    def finished(self, nodeid: str) -> None:
        self._write({"finished": nodeid})

    def _write(self, entry: Data) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


class Reader:
    """The host's side: what has arrived so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._reports: dict[str, list[Data]] = {}
        self._finished: set[str] = set()
        self.running: str | None = None

    def update(self) -> None:
        """Take in what is new. A line that is not complete yet waits for its end."""
        for line in self._new_lines():
            entry = json.loads(line)
            if "report" in entry:
                self._reports.setdefault(entry["of"], []).append(entry["report"])
            elif "started" in entry:
                self.running = entry["started"]
            else:
                self._finished.add(entry["finished"])
                self.running = None

    def _new_lines(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if line.endswith(b"\n"):
                    self._read += len(line)
                    yield line

    def finished(self, nodeid: str) -> bool:
        return nodeid in self._finished

    def reports(self, nodeid: str) -> list[Data]:
        """The reports of a test, also of one that is not finished."""
        return self._reports.get(nodeid, [])

    @property
    def silent_since(self) -> float:
        """When something was written last, as `time.time` has it."""
        return self._path.stat().st_mtime
