"""`Facts` of this node, read when they are asked for, each once until something is changed."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from kpx.doctor.facts import (
    Answer,
    Call,
    Flows,
    Holder,
    IpvsTable,
    NotKnown,
    ProxyProcess,
    Reach,
    Removal,
    ReversePath,
    RuleSet,
)
from kpx.doctor.finding import Command
from kpx.doctor.reading import connecting, locks, pages, processes, removal, reverse_path, rule_sets, tracking
from kpx.doctor.reading.memo import Memo
from kpx.doctor.reading.pages import Samples
from kpx.doctor.reading.sources import source_of
from kpx.kernel import links, modules, peers, sockets, sysctl
from kpx.kernel.iptables.program import IptablesError
from kpx.kernel.links import InterfaceAddress
from kpx.kernel.routes import Route, Routing
from kpx.net import Family
from kpx.proxier.published import Listed, Status
from kpx.proxier.sysctls import host_cores
from kpx.proxier.unix_socket import tool_socket
from kpx.tools import stock
from kpx.tools.cluster import Cluster, Options, find
from kpx.tools.daemon import Daemon, NoDaemon
from kpx.tools.errors import ToolError
from kpx.tools.flows import Usage
from kpx.tools.kernel import Held
from kpx.tools.stock import Configuration
from kpx.trace.reading.kernel import CannotTrace, trace_here
from kpx.trace.reading.senders import OUTSIDE, UnknownSender
from kpx.trace.result import Hop, Trace
from kpx.trace.target import Target

_DAEMON_SECONDS, _MORE_SECONDS = 2.0, 5.0
_CONNECT_SECONDS = 1.0


class LiveFacts:
    """`Facts` of the network namespace of the thread that makes it."""

    def __init__(self, options: Options, seconds: float) -> None:
        """`seconds` is how long one reading may take."""
        self._options = options
        self._seconds = seconds
        self._memo = Memo(seconds)
        self._former: list[Memo] = []

    def fresh(self) -> None:
        """Forget what was read: something was changed."""
        self._former.append(self._memo)
        self._memo = Memo(self._seconds)

    @property
    def hangs(self) -> bool:
        """Whether something that was asked has not answered yet."""
        return any(one.hangs for one in (*self._former, self._memo))

    # The cluster, and the proxy.

    def cluster(self) -> Cluster:
        return self._both()[0]

    def source(self) -> tuple[str, ...]:
        given = self._options
        named = {"--kubeconfig": given.kubeconfig, "--manifests": given.manifests, "--node": given.node}
        return tuple(word for option, value in named.items() if value for word in (option, value))

    def held(self) -> Held | None:
        return self._both()[1]

    def _both(self) -> tuple[Cluster, Held | None, bool]:
        """What is wanted, what is held, and whether somebody tells the mode: else it is what there are rules of."""
        # Without an answer of the API server, the kernel is asked: that takes longer than the server is given.
        return self._memo.get("what the cluster wants", self._find, self._options.seconds + _MORE_SECONDS)

    def _find(self) -> tuple[Cluster, Held | None, bool]:
        """A daemon that is held by a signal would not answer: its objects are read where it has them from."""
        options = self._options
        dumb = next((one for one in self.proxies() if one.stopped), None)
        if dumb and not (options.manifests or options.kubeconfig or options.kernel_only):
            options = source_of(dumb, options)
        try:
            cluster, found = find(options)
        except ToolError as error:
            if options.manifests or options.kubeconfig:
                raise
            return Cluster("none", "nobody", options.node, "", [], (str(error),)), None, False
        if not cluster.mode and found:
            return replace(cluster, mode=_mode(found)), found, False
        return cluster, found, bool(cluster.mode)

    def mode(self) -> str:
        return self.cluster().mode

    def rule_sets(self) -> tuple[RuleSet, ...]:
        return self._memo.get("the rules of all modes", rule_sets.read)

    def current(self) -> str:
        mode = self.mode() if self._both()[2] else ""
        if mode == "iptables":
            try:
                return self._memo.get("the variant of iptables", rule_sets.iptables_kind)
            except IptablesError as error:
                raise NotKnown(str(error)) from error
        if mode == "nftables":
            return "kpx" if self.status() or self._kpx_made() else "kube-proxy"
        return mode

    def _kpx_made(self) -> bool:
        if any(one.name == "kube-proxy" for one in self.proxies()):
            return False
        return any(one.kind == "kpx" for one in self.rule_sets())

    def configuration(self) -> Configuration:
        found = self._memo.get("the proxy's configuration", self._configuration)
        if found is None:
            raise NotKnown("no proxy tells its configuration (127.0.0.1:10249/configz)")
        return found

    def _configuration(self) -> Configuration | None:
        status = self.status()
        told = stock.parse(bytes(status.configuration)) if status else None
        return told or (None if self._dumb() else stock.configuration())

    def _dumb(self) -> bool:
        return any(one.stopped for one in self.proxies())

    def proxies(self) -> tuple[ProxyProcess, ...]:
        return self._memo.get("the processes", processes.proxies)

    def restart(self) -> tuple[Command, ...]:
        return processes.restart(self._options.node or os.uname().nodename)

    def status(self) -> Status | None:
        return self._memo.get("the daemon's status", self._status)

    def _status(self) -> Status | None:
        if self._dumb():
            return None
        try:
            return self._daemon().status()
        except ToolError:
            return None

    def _daemon(self) -> Daemon:
        return Daemon(tool_socket(), _DAEMON_SECONDS)

    def _listed(self, what: str) -> Listed:
        def ask() -> Listed:
            if self._dumb():
                raise NotKnown("the daemon does not answer")
            try:
                answer: Listed = getattr(self._daemon(), what)()
            except NoDaemon as error:
                raise NotKnown(f"only kpx tells this: {error}") from error
            return answer

        return self._memo.get(("the daemon's", what), ask)

    def syncs(self) -> Listed:
        return self._listed("syncs")

    def drift(self) -> Listed:
        return self._listed("drift")

    def rejected(self) -> Listed:
        return self._listed("rejected")

    def get(self, port: int, path: str, address: str = "127.0.0.1") -> Answer:
        return self._memo.get(("the page", address, port, path), lambda: pages.get(port, path, address))

    def metrics(self) -> Samples:
        return self._memo.get("the metrics", lambda: pages.metrics(self))

    # The kernel.

    def clock(self) -> float:
        return time.time()

    def setting(self, name: str) -> str:
        try:
            return sysctl.read(name)
        except sysctl.SysctlError as error:
            raise NotKnown(str(error)) from error

    def writable(self, name: str) -> bool:
        return bool(sysctl.path(name).stat().st_mode & 0o200)

    def module(self, name: str) -> bool:
        return modules.present(name)

    def text(self, path: str) -> str:
        try:
            return Path(path).read_text(errors="replace")
        except OSError as error:
            raise NotKnown(f"{path} cannot be read: {error.strerror}") from error

    def cores(self) -> int:
        return host_cores()

    def kernel_release(self) -> tuple[int, int]:
        first, second = re.findall(r"\d+", os.uname().release)[:2]
        return int(first), int(second)

    def addresses(self) -> list[InterfaceAddress]:
        return self._memo.get("the addresses", links.addresses)

    def route(self, destination: str) -> Route:
        def ask() -> Route:
            with Routing() as routing:
                return routing.route(destination)

        return self._memo.get(("the route to", destination), ask)

    def reverse_path(self) -> ReversePath:
        return self._memo.get("the reverse path filter", reverse_path.read)

    def main_address(self, family: Family) -> str:
        return self.route(OUTSIDE[family]).source

    def bridged(self) -> Mapping[str, Sequence[str]]:
        return self._memo.get("the interfaces", peers.masters)

    # The way of packets.

    def trace(self, target: Target, sender: str) -> Trace:
        def walk() -> Trace:
            try:
                return trace_here(target, sender)
            except (CannotTrace, UnknownSender) as error:
                raise NotKnown(str(error)) from error

        return self._memo.get(("the path of", str(target), "from", sender), walk)

    def _pods(self) -> dict[str, Path]:
        return self._memo.get("the pods' network namespaces", connecting.pods)

    def pods(self) -> tuple[str, ...]:
        return tuple(self._pods())

    def connect(self, calls: Sequence[Call]) -> list[Reach]:
        pods = self._pods() if any(one.sender for one in calls) else {}
        for one in calls:
            self._memo.begin(one, partial(connecting.connect, pods.get(one.sender), one, _CONNECT_SECONDS))
        return [self._memo.result(one) for one in calls]

    # Tables of connections.

    def flows(self) -> Flows:
        return self._memo.get("the conntrack table", lambda: tracking.flows(self.cluster()))

    def usage(self) -> Usage:
        return self._memo.get("the size of the conntrack table", tracking.usage)

    def softnet_drops(self) -> tuple[int, float]:
        return self._memo.get("/proc/net/softnet_stat", tracking.softnet_drops)

    def ipvs(self) -> IpvsTable:
        return self._memo.get("the table of IPVS", tracking.ipvs)

    # Who.

    def listeners(self, protocol: str, port: int) -> tuple[Holder, ...]:
        def look() -> tuple[Holder, ...]:
            return tuple(
                processes.holder(pid, f"{one.address} port {port}")
                for one in sockets.listening(protocol, port)
                if (pid := sockets.owner(one.inode)) is not None
            )

        return self._memo.get(("the sockets on", protocol, port), look)

    def lock_holder(self) -> Holder | None:
        return self._memo.get("the xtables lock", locks.lasting_holder)

    def removal(self, family: Family, hop: Hop) -> Removal | None:
        return removal.find(family, hop)


def _mode(found: Held) -> str:
    """The mode in what made the rules: ``kpx, mode nftables``."""
    return found.program.rpartition("mode ")[2]
