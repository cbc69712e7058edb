"""A command that waits ends with whoever reads its output, and not before."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from kpx.tools.reader import ended_with_reader

WAITING = """
import time
from kpx.tools.reader import ended_with_reader
try:
    with ended_with_reader():
        print("waiting", flush=True)
        time.sleep(600)
except BrokenPipeError:
    raise SystemExit(7)
"""
ELSEWHERE = """
import os, socket, sys
from kpx.tools.reader import ended_with_reader
ours, theirs = socket.socketpair()
theirs.close()
with ended_with_reader():
    try:
        ours.send(b"x")
    except BrokenPipeError as error:
        print(error.errno == 32)
"""


def test_it_ends_though_it_prints_nothing_more() -> None:
    with subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE) as waiting:
        assert waiting.stdout
        try:
            assert waiting.stdout.readline() == b"waiting\n"
            waiting.stdout.close()
            assert waiting.wait(30) == 7
        finally:
            waiting.kill()


def test_another_pipe_that_breaks_is_its_writers_business() -> None:
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], capture_output=True, check=True, text=True)
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.parametrize("output", [subprocess.DEVNULL, subprocess.PIPE])
def test_nothing_stays_of_it(output: int) -> None:
    program = (
        "import os, signal, threading; from kpx.tools.reader import ended_with_reader\n"
        "before = sorted(os.listdir('/proc/self/fd'))\n"
        "with ended_with_reader(): pass\n"
        "assert sorted(os.listdir('/proc/self/fd')) == before\n"
        "assert threading.active_count() == 1\n"
        "assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN\n"
    )
    subprocess.run([sys.executable, "-c", program], stdout=output, check=True)


def test_without_a_pipe_nothing_is_watched() -> None:
    before = threading.active_count()
    with ended_with_reader():  # pytest's standard output is a file, or a terminal's
        assert threading.active_count() == before
