"""The daemon's entry: from the words of its command line to an exit status."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from kpx import __version__, logs
from kpx.cluster.events import ClusterError
from kpx.cluster.recorder import LogRecorder
from kpx.config.arguments import Arguments, log_flags, parse_arguments
from kpx.config.effective import effective_configuration
from kpx.config.errors import ConfigError
from kpx.config.nodename import node_name
from kpx.config.types import KubeProxyConfiguration
from kpx.config.usage import usage
from kpx.config.writing import write
from kpx.kernel.sysctl import SysctlError
from kpx.kernel.undo import leftovers
from kpx.logs import v
from kpx.proxier.backend import BackendError
from kpx.proxier.cleanup import cleanup, remove_others
from kpx.proxier.loop import ProxyStopped
from kpx.proxier.memory import collect_no_garbage, return_freed_memory
from kpx.proxier.metrics import Metrics
from kpx.proxier.server import Cluster, Server
from kpx.proxier.site import ModeUnavailable
from kpx.proxier.surroundings import StartError

logger = logging.getLogger(__name__)

# The release whose behaviour kpx keeps; kpx's own version is its build metadata (Semantic Versioning 2.0.0, 10).
VERSION = f"v1.36.2+kpx.{__version__}"
_CAP_NET_ADMIN = 12


def main(argv: Sequence[str], program: str = "kpx daemon") -> int:
    """Run the daemon, or one of its special modes; return the exit status."""
    try:
        arguments = parse_arguments(argv, program)
        if arguments.help:
            print(usage(program), end="")
            return 0
        if arguments.version:
            print(f"Kubernetes {VERSION}")
            return 0
        config, warnings = effective_configuration(arguments)
        if arguments.write_config_to:
            write(config, arguments.write_config_to)
            return 0
    except ConfigError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    logs.configure(verbosity=config.logging.verbosity, form=config.logging.format)
    for warning in warnings:
        logger.warning("%s", warning)
    for line in log_flags(arguments):
        v(1, logger, "%s", line)
    return _run(arguments, config)


def clean_others(kept: str) -> int:
    """Remove the rules of other modes than `kept`; return the exit status."""
    logs.configure(verbosity=0, form="text")
    try:
        _require_privilege()
        remove_others(kept)
    except (StartError, BackendError) as error:
        print(f"kpx cleanup: {error}", file=sys.stderr)
        return 1
    return 0


def _run(arguments: Arguments, config: KubeProxyConfiguration) -> int:
    collect_no_garbage()
    return_freed_memory()
    _end_at_once_on_signals()
    _end_with_any_thread()
    try:
        _require_privilege()
        if leftovers():
            logger.info("Took back what a trace that was killed had left in the kernel")
        if arguments.cleanup:
            cleanup()
            return 0
        metrics = Metrics(VERSION.removeprefix("v"))
        server = Server(arguments, config, _cluster(arguments, config, metrics), metrics, VERSION)
    except (StartError, ModeUnavailable, ClusterError, ConfigError, BackendError) as error:
        logger.error("Error running ProxyServer: %s", error)
        return 1
    _serve(server)
    return 0


def _serve(server: Server) -> None:
    """Run until the end of the process; returns only where there was nothing to serve."""
    try:
        server.run()
    except (StartError, ModeUnavailable, SysctlError, ProxyStopped) as error:
        logger.error("Error running ProxyServer: %s", error)
        _end(1)
    except Exception:
        logger.critical("Error running ProxyServer", exc_info=True)
        _end(1)


def _end(status: int) -> NoReturn:
    """End at once: threads that serve, or wait for the cluster, hold nothing that needs an orderly end."""
    sys.stderr.flush()
    os._exit(status)


def _end_at_once_on_signals() -> None:
    """The rules stay in the kernel: there is nothing to do at the end but to end."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        # The first process of a container gets no signal that it does not handle itself.
        signal.signal(number, (lambda n, _: _end(128 + n)) if os.getpid() == 1 else signal.SIG_DFL)


def _end_with_any_thread() -> None:
    """A proxy that has lost a part is to be started anew, as one is whose goroutine panics."""
    log = threading.excepthook

    def end(failure: threading.ExceptHookArgs) -> None:
        log(failure)
        _end(1)

    threading.excepthook = end


def _require_privilege() -> None:
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    if not int(effective, 16) >> _CAP_NET_ADMIN & 1:
        raise StartError("programming the kernel needs root (CAP_NET_ADMIN): run it with sudo, or privileged in a pod")


def _cluster(arguments: Arguments, config: KubeProxyConfiguration, metrics: Metrics) -> Cluster:
    name = node_name(config.hostname_override, socket.gethostname())
    if arguments.manifests:
        from kpx.cluster.manifests import ManifestSource

        return Cluster(ManifestSource(arguments.manifests, name), LogRecorder(), patient=False)
    from kpx.cluster.kubernetes import Connection, EventRecorder, KubernetesSource

    client = config.client_connection
    connection = Connection.from_config(
        client.kubeconfig, arguments.master, client.qps, client.burst, metrics.api_answered
    )
    recorder = EventRecorder(connection, socket.gethostname())
    threading.Thread(target=recorder.run, args=(threading.Event(),), name="events", daemon=True).start()
    source = KubernetesSource(connection, name)
    return Cluster(
        source, recorder, patient=True, ages=lambda: {kind.value: age for kind, age in source.ages().items()}
    )
