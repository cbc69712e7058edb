"""`kpx top` as a process on a terminal: it leaves the terminal as it found it, however it ends."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kpx import lab
from kpx.lab import Lab
from kpx.lab.topology import NODE
from tests.kernel.daemon.conftest import Daemons, Node
from tests.kernel.daemon.places import started, within
from tests.kernel.daemon.process import DEADLINE_SECONDS, KPX, run

ALTERNATE_SCREEN, MAIN_SCREEN, SHOW_CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"


class Terminal:
    """A terminal of 80 columns in which `kpx top` runs."""

    def __init__(self, place: Lab, socket: Path, *words: str, **environment: str) -> None:
        self.ours, self._theirs = pty.openpty()
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.settings = termios.tcgetattr(self._theirs)
        self.output = ""
        variables = {"KPX_SOCKET": str(socket), "KUBECONFIG": "", "TERM": "xterm-256color", **environment}
        given = [f"{name}={value}" for name, value in variables.items()]
        self.process = subprocess.Popen(
            lab.command(place.name, NODE, ["env", *given, *KPX, "top", *words]),
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def until(self, text: str) -> None:
        """Read until a text was written."""
        self._read(lambda: text in self.output, f"{text!r} to be written")

    def until_matches(self, pattern: str) -> None:
        """Read until something was written that matches."""
        self._read(lambda: re.search(pattern, self.output) is not None, f"{pattern!r} to be written")

    def ended(self) -> int:
        """Read until the process ends; its exit status."""
        self._read(lambda: self.process.poll() is not None, "the end")
        return self.process.returncode

    def press(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def hang_up(self) -> None:
        """Close the terminal, as when a connection breaks."""
        os.close(self._theirs)
        os.close(self.ours)
        self.ours = self._theirs = -1

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.ours >= 0:
            self.hang_up()

    @property
    def restored(self) -> bool:
        """Whether the terminal is as it was before."""
        after = self.output.rpartition(ALTERNATE_SCREEN)[2]
        return MAIN_SCREEN in after and SHOW_CURSOR in after and termios.tcgetattr(self._theirs) == self.settings

    def _read(self, enough: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not enough():
            assert time.monotonic() < deadline, f"waited for {what}; it wrote {self.output[-2000:]!r}"
            if select.select([self.ours], [], [], 0.05)[0]:
                self.output += os.read(self.ours, 65536).decode(errors="replace")


Opened = Callable[..., Terminal]


@pytest.fixture
def opened(place: Lab, node: Node, daemons: Daemons) -> Iterator[Opened]:
    """Opens terminals beside a daemon."""
    made: list[Terminal] = []
    daemon = started(daemons, place, node, "nftables")

    def opening(*words: str, **environment: str) -> Terminal:
        made.append(Terminal(place, daemon.socket, *words, **environment))
        return made[-1]

    yield opening
    for one in made:
        one.close()


@pytest.mark.parametrize(
    "ending",
    [
        lambda terminal: terminal.press("q"),
        lambda terminal: terminal.press("\x03"),
        lambda terminal: terminal.process.send_signal(signal.SIGTERM),
        lambda terminal: terminal.process.send_signal(signal.SIGHUP),
    ],
    ids=["q", "ctrl-c", "SIGTERM", "SIGHUP"],
)
def test_the_terminal_is_left_as_it_was(ending: Callable[[Terminal], None], opened: Opened) -> None:
    terminal = opened()
    terminal.until("web:http")

    ending(terminal)

    assert terminal.ended() == 0
    assert terminal.restored
    assert "Traceback" not in terminal.output


def test_no_trace_stays_armed(opened: Opened, place: Lab) -> None:
    terminal = opened("trace")
    terminal.until("web:http")
    for keys, text in (("G\r", "SENT"), ("l", "waiting for a new flow")):
        terminal.press(keys)
        terminal.until(text)
    assert "kpx-trace" in within(place, "nft", "list", "tables")

    terminal.process.send_signal(signal.SIGTERM)

    assert terminal.ended() == 0
    assert "kpx-trace" not in within(place, "nft", "list", "tables")


def test_a_terminal_that_is_gone_ends_it(opened: Opened) -> None:
    terminal = opened()
    terminal.until("web:http")

    terminal.hang_up()

    terminal.process.wait(DEADLINE_SECONDS)


def codes(output: str) -> set[str]:
    """The codes for how characters look that were written."""
    return {code for found in re.findall(r"\x1b\[([0-9;]*)m", output) for code in found.split(";")}


def colours(output: str) -> set[str]:
    """The colours among them."""
    return {code for code in codes(output) if re.fullmatch(r"3[0-8]|4[0-8]|9[0-7]|10[0-7]", code)}


def test_no_colour_where_none_is_wanted(opened: Opened) -> None:
    coloured, plain = opened(), opened(NO_COLOR="1")
    for terminal in (coloured, plain):
        terminal.until("web:http")
        terminal.press("4")
        terminal.until("growth")
        terminal.press("q")
        terminal.ended()

    assert colours(coloured.output)
    assert not colours(plain.output)
    assert {"1", "7"} <= codes(plain.output)  # what is chosen is seen all the same


def test_it_begins_with_the_page_that_is_asked_for_in_ascii(opened: Opened) -> None:
    terminal = opened("conntrack", "--ascii")
    terminal.until("growth")
    terminal.press("q")
    terminal.ended()

    assert "#...." in terminal.output
    assert "█" not in terminal.output


def test_text_where_there_is_no_terminal(place: Lab, node: Node, daemons: Daemons) -> None:
    socket = started(daemons, place, node, "nftables").socket

    def top(*words: str, status: int = 0) -> str:
        command = ["env", f"KPX_SOCKET={socket}", "KUBECONFIG=", "HOME=/nowhere", *KPX, "top", *words]
        done = run(*lab.command(place.name, NODE, command))
        assert done.status == status, done
        return done.stdout + done.stderr

    once = top("--once", "-d", "0.2")
    assert "kpx top  node-a" in once
    assert "shop       web:http        ClusterIP     10.96.100.1 +1" in once
    assert "\x1b" not in once
    assert "TOP SERVICES" in top("conntrack", "--once", "-d", "0.2")
    assert "TCP  10.96.100.1:80" in top("rules", "--once", "-d", "0.2")
    assert "the first sync" in top("syncs", "--once", "-d", "0.2")

    lines = top("-n", "2", "-d", "0.2").splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d shop/web:http/TCP namespace=shop name=web:http .*", lines[-1])
    assert len(lines) >= 10
    assert "kpx trace" in top("trace", "--once", status=2)
    assert "the manifests cannot be read" in top("--once", "--manifests", "/nowhere", status=1)


def test_light_traffic_in_a_lab_until_it_is_ended(opened: Opened, place: Lab) -> None:
    terminal = opened()
    terminal.until("0 conn/s")
    traffic = subprocess.Popen([*KPX, "lab", "traffic", "--name", place.name, "--rate", "50"], stderr=subprocess.PIPE)
    try:
        terminal.until_matches(r"[1-9][0-9.]* conn/s")
    finally:
        traffic.terminate()
        _, told = traffic.communicate(timeout=DEADLINE_SECONDS)

    assert traffic.returncode == 0
    assert b"Traceback" not in told


def test_text_ends_with_its_reader(place: Lab, node: Node, daemons: Daemons) -> None:
    socket = started(daemons, place, node, "nftables").socket
    command = ["env", f"KPX_SOCKET={socket}", "KUBECONFIG=", "HOME=/nowhere", *KPX, "top", "--plain", "-d", "1"]
    with subprocess.Popen(lab.command(place.name, NODE, command), stdout=subprocess.PIPE) as process:
        assert process.stdout
        try:
            assert process.stdout.readline()
            process.stdout.close()
            assert process.wait(DEADLINE_SECONDS) == 0
        finally:
            process.kill()
