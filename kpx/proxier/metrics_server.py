"""The metrics server: metrics, and what the process tells about itself.

Source: kube-proxy 1.36, but for /debug/pprof: Go's profiles have no counterpart here, so it holds the stack of every
thread, under the name ``goroutine`` too.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from http import HTTPStatus

from prometheus_client import CollectorRegistry, Counter, Gauge

from kpx import logs
from kpx.proxier.health import rfc3339
from kpx.proxier.http_messages import JSON, NOT_FOUND, Request, Response
from kpx.proxier.metrics import CONTENT_TYPE, render

_NOTICE = (
    "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees"
    " and is for debugging purposes only."
)


class MetricsPages:
    """The handler of the metrics server.

    ``configz`` is the effective configuration as JSON, ``flags`` are the command line's, without dashes; ``healthy``
    tells whether the proxier keeps up. ``profiling`` opens the paths of enableProfiling; ``flagz`` and ``statusz``
    are the feature gates of those pages.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        mode: str,
        version: str,
        configz: str,
        flags: Mapping[str, str],
        healthy: Callable[[], bool],
        profiling: bool,
        flagz: bool = True,
        statusz: bool = True,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        self._version = version
        self._flags = flags
        self._healthy = healthy
        self._wall = wall
        self._started = wall()
        self._checks = _Checks()
        pages: dict[str, tuple[bool, Callable[[Request], Response]]] = {
            "/metrics": (True, lambda _: Response(render(registry), content_type=CONTENT_TYPE)),
            "/metrics/slis": (True, lambda _: Response(render(self._checks.registry), content_type=CONTENT_TYPE)),
            "/healthz": (True, self._healthz),
            "/healthz/ping": (True, self._healthz),
            "/proxyMode": (True, lambda _: Response(mode.encode())),
            "/configz": (True, lambda _: Response(configz.encode(), content_type=JSON)),
            "/flagz": (flagz, self._flagz),
            "/statusz": (statusz, self._statusz),
            "/debug/flags/v": (profiling, _set_verbosity),
            "/debug/pprof/": (profiling, lambda _: Response(thread_stacks().encode())),
            "/debug/pprof/goroutine": (profiling, lambda _: Response(thread_stacks().encode())),
        }
        self._pages = {path: page for path, (exists, page) in pages.items() if exists}

    def __call__(self, request: Request) -> Response:
        page = self._pages.get(request.path)
        return page(request) if page else NOT_FOUND

    def _healthz(self, request: Request) -> Response:
        """That this is answered at all is the check, which is called ping."""
        self._checks.passed("ping")
        return Response(b"[+]ping ok\nhealthz check passed\n" if "verbose" in request.query else b"ok")

    def _flagz(self, _: Request) -> Response:
        return _page("flagz", [f"{name}:{value}" for name, value in sorted(self._flags.items())])

    def _statusz(self, _: Request) -> Response:
        up = (self._wall() - self._started) // 1_000_000_000
        lines = [
            f"Started: {rfc3339(self._started)}",
            f"Up: {up // 3600} hr {up // 60 % 60:02d} min {up % 60:02d} sec",
            f"Healthy: {str(self._healthy()).lower()}",
            f"Python version: {sys.version.split()[0]}",
            f"Binary version: {self._version}",
            f"Emulation version: {self._version}",
            f"Paths: {' '.join(sorted(self._pages))}",
        ]
        return _page("statusz", lines)


class _Checks:
    """The two metrics of Kubernetes' health checks, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._last = Gauge(
            "kubernetes_healthcheck",
            "[STABLE] This metric records the result of a single healthcheck.",
            ("name", "type"),
            registry=self.registry,
        )
        self._all = Counter(
            "kubernetes_healthchecks_total",
            "[STABLE] This metric records the results of all healthcheck.",
            ("name", "status", "type"),
            registry=self.registry,
        )

    def passed(self, name: str) -> None:
        self._last.labels(name, "healthz").set(1)
        self._all.labels(name, "success", "healthz").inc()


def thread_stacks() -> str:
    """Where every thread of the process is, innermost call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"thread {names.get(identity, identity)}:\n{''.join(traceback.format_stack(frame))}"
        for identity, frame in sys._current_frames().items()
    )


def _set_verbosity(request: Request) -> Response:
    """Change the level of the log (``-v``), as Kubernetes components let one."""
    if request.method != "PUT":
        return Response(b"unsupported http method\n", HTTPStatus.NOT_ACCEPTABLE)
    text = request.body.decode(errors="replace").strip()
    if not (text.isascii() and text.isdigit()):
        why = f"failed set klog.logging.verbosity {text}: it is no number\n"
        return Response(why.encode(), HTTPStatus.BAD_REQUEST)
    logs.set_verbosity(int(text))
    return Response(f"successfully set klog.logging.verbosity to {text}".encode())


def _page(name: str, lines: list[str]) -> Response:
    text = f"\nkube-proxy {name}\n{_NOTICE}\n\n" + "".join(f"{line}\n" for line in lines)
    return Response(text.encode())
