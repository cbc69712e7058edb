"""Signs of life on the standard error: one line that changes on a terminal, else a line for each step."""

from __future__ import annotations

import sys
from types import TracebackType


class Progress:
    """Tells what is being done. As a context it clears its line at the end."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._doing = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._terminal:
            self._write("\r\033[K")

    def of(self, what: str) -> None:
        """Name the measurement that the next steps belong to."""
        self._doing = what

    def step(self, text: str) -> None:
        line = f"{self._doing}: {text}" if self._doing else text
        self._write(f"\r\033[K{line[:100]}" if self._terminal else f"{line}\n")

    def detail(self, text: str) -> None:
        """Tell how far a step is, where that does not cost a line."""
        if self._terminal:
            self.step(text)

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
