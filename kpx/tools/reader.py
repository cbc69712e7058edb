"""The end of a command with whoever reads what it prints: ``kpx ... | head``."""

from __future__ import annotations

import os
import select
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def ended_with_reader() -> Iterator[None]:
    """Raise `BrokenPipeError` in the block as soon as nobody can read standard output any more.

    A pipe tells that only to who writes to it (pipe(7)), and what waits for a packet or a change may not write for
    long. Without a pipe, nothing is watched. To be entered by the main thread, which takes the signals.
    """
    output = _pipe()
    if output is None:
        yield
        return
    gone = threading.Event()
    main, (stop, stopping) = threading.get_ident(), os.pipe()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if gone.is_set():  # else it is about another pipe, whose writer gets an error
            raise BrokenPipeError

    def watch() -> None:
        poll = select.poll()
        poll.register(output, 0)  # which is for errors only
        poll.register(stop, 0)
        if any(one == output for one, _ in poll.poll()):
            gone.set()
            signal.pthread_kill(main, signal.SIGPIPE)

    former = signal.signal(signal.SIGPIPE, interrupt)
    thread = threading.Thread(target=watch, name="reader", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.signal(signal.SIGPIPE, former)
        os.close(stopping)
        thread.join()
        os.close(stop)


def _pipe() -> int | None:
    """Standard output, if it is a pipe."""
    try:
        output = sys.stdout.fileno()
        return output if stat.S_ISFIFO(os.fstat(output).st_mode) else None
    except (OSError, ValueError):  # a stream of Python's own, or a closed one
        return None
