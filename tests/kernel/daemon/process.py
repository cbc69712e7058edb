"""The daemon as a process: started as a node starts it, asked over HTTP, told to end by signals."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kpx.lab import namespaces
from kpx.proxier.unix_socket import VARIABLE

KPX = (sys.executable, "-m", "kpx")
# Runs a program as somebody who may do nothing but read the checkout, which may be in root's home.
UNPRIVILEGED = (
    *("setpriv", "--reuid=65534", "--clear-groups"),
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"),
)
HEALTHZ, METRICS = 10256, 10249
# The guest in which the tests of mode ipvs run has one slow processor.
DEADLINE_SECONDS = 60.0 if "UML_RUN" in os.environ else 30.0
_POLL_SECONDS = 0.01

T = TypeVar("T")


def eventually(read: Callable[[], T], good: Callable[[T], bool] = bool, what: str = "") -> T:
    """What `read` gives once it is `good`, within some seconds. An OSError counts as not good yet."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        last: object
        try:
            last = found = read()
            if good(found):
                return found
        except OSError as error:
            last = error
        assert time.monotonic() < deadline, f"{what or 'it does not come about'}; at last: {str(last)[:2000]}"
        time.sleep(_POLL_SECONDS)


@dataclass(frozen=True)
class Ended:
    """A command that has ended: its exit status as a shell sees it, and what it wrote."""

    status: int
    stdout: str
    stderr: str

    @property
    def fault(self) -> str:
        """The one sentence on why it failed. Nothing but log lines may stand beside it, and no traceback."""
        assert "Traceback" not in self.stderr, self.stderr
        found = re.findall(r"^(?:Error: |.*\] Error running ProxyServer: )(.*)$", self.stderr, re.MULTILINE)
        assert len(found) == 1, self.stderr
        return str(found[0])


def run(*command: str, env: Mapping[str, str] | None = None) -> Ended:
    """Run a command to its end in the test's network namespace."""
    done = subprocess.run(
        command,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    return Ended(_as_shell(done.returncode), done.stdout, done.stderr)


@dataclass(frozen=True)
class Answer:
    """An answer over HTTP; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: str


class Daemon:
    """A daemon that was started; what it writes is its `log`. `namespace` names where it runs, None for the test's."""

    def __init__(
        self, command: Sequence[str], log: Path, namespace: str | None = None, path: Path | None = None
    ) -> None:
        """`path` is that of its unix socket, None for one beside the log."""
        self.command = command
        self.namespace = namespace
        self.socket = path or log.with_suffix(".sock")
        self._log = log
        mortal = ["setpriv", "--pdeathsig", "KILL", *command]  # it must not outlive a test session that is killed
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                mortal,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, VARIABLE: str(self.socket)},
            )

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def logs(self, pattern: str) -> re.Match[str]:
        """Wait until it has logged something that matches."""

        def found() -> re.Match[str] | None:
            ended = self._has_ended
            match = re.search(pattern, self.log)
            assert match or not ended, f"it ended without logging {pattern!r}:\n{self.log}"
            return match

        match = eventually(found, what=f"it does not log {pattern!r}")
        assert match
        return match

    def synced(self) -> Daemon:
        """Wait until both families are programmed."""

        def times() -> dict[str, float]:
            assert not self._has_ended, self.log
            return self.metrics("kubeproxy_sync_proxy_rules_last_timestamp_seconds")

        eventually(times, lambda series: len(series) == 2, "it does not sync")
        return self

    def healthy(self) -> Daemon:
        """Wait until ``/healthz`` is content: that follows shortly after the rules are in."""
        eventually(lambda: self.get("/healthz", HEALTHZ), lambda answer: answer.status == 200, "it is not healthy")
        return self

    def get(self, path: str, port: int = METRICS, *, method: str = "GET", body: str | None = None) -> Answer:
        """Ask it. Raises OSError if nobody listens."""
        with ExitStack() as stack:
            if self.namespace:
                stack.enter_context(namespaces.entered(self.namespace))
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
            connection.connect()
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, response.read().decode())
        finally:
            connection.close()

    def metrics(self, name: str) -> dict[str, float]:
        """The series of a metric, by what stands in their braces."""
        return {
            labels or "": float(value)
            for labels, value in re.findall(
                rf"^{re.escape(name)}(?:{{(.*)}})? (\S+)$", self.get("/metrics").body, re.MULTILINE
            )
        }

    def metric(self, name: str) -> float:
        """The sum of a metric's series."""
        return sum(self.metrics(name).values())

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for the end; the exit status as a shell sees it."""
        return _as_shell(self.process.wait(DEADLINE_SECONDS))

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal; the exit status as a shell sees it."""
        self.send(number)
        return self.ended()

    @property
    def _has_ended(self) -> bool:
        return self.process.poll() is not None


def _as_shell(returncode: int) -> int:
    return 128 - returncode if returncode < 0 else returncode
