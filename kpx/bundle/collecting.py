"""Reads a node for a bundle, part by part: one that fails, or hangs, is told of and does not hold up the others."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any

import msgspec

from kpx.bundle import contents
from kpx.bundle.answers import Recorder
from kpx.bundle.archive import Part
from kpx.cluster.objects import Node, Object, Service
from kpx.doctor import catalogue, running
from kpx.doctor.facts import NotKnown
from kpx.doctor.reading import pages
from kpx.doctor.reading.live import LiveFacts
from kpx.doctor.reading.memo import Memo
from kpx.doctor.reading.processes import command
from kpx.doctor.subject import Subject
from kpx.kernel import links, routing_tables, sockets, sysctl
from kpx.kernel.conntrack import Flow
from kpx.kernel.ipset import Ipsets, IpsetUnavailable
from kpx.kernel.iptables.program import IptablesError, Variant, legacy_tables, programs
from kpx.kernel.ipvs.table import Ipvs, loaded
from kpx.kernel.netlink import NETLINK_NETFILTER, Socket
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.recorded import record
from kpx.kernel.nft.wire import TableName
from kpx.kernel.routes import Routing
from kpx.net import Family
from kpx.proxier.published import publish
from kpx.tools import conntrack_command
from kpx.tools.cluster import Options, all_objects
from kpx.tools.errors import ToolError
from kpx.trace.document import printable
from kpx.trace.reading.rules import NF_FAMILY, TABLES

Files = Iterator[tuple[str, bytes]]

# Keys and seeds of the kernel are below /proc/sys too: only these are read.
_SETTINGS = (
    "net/ipv4/ip_forward",
    "net/ipv4/ip_local_*port*",
    "net/ipv4/conf/*/forwarding",
    "net/ipv4/conf/*/rp_filter",
    "net/ipv4/conf/*/route_localnet",
    "net/ipv4/conf/*/arp_*",
    "net/ipv4/conf/*/accept_local",
    "net/ipv6/conf/*/forwarding",
    "net/ipv6/conf/*/disable_ipv6",
    "net/ipv4/neigh/default/gc_thresh*",
    "net/ipv4/vs/*",
    "net/netfilter/nf_conntrack_*",
    "net/bridge/bridge-nf-*",
    "net/core/netdev_*",
    "net/core/somaxconn",
)
_CHECK_SECONDS, _DOCTOR_SECONDS = 10.0, 60.0


class Collector:
    """Collects the files of a bundle. `told` hears of each part that begins."""

    def __init__(self, options: Options, seconds: float, flows: int, told: Callable[[str], None]) -> None:
        self._options = options
        self._seconds = seconds
        self._flows = flows
        self._told = told
        self._memo = Memo(seconds)
        self._facts = LiveFacts(options, seconds)
        self._failures: list[str] = []
        self.parts: list[Part] = []
        self.files: dict[str, bytes] = {}

    @property
    def node(self) -> str:
        with suppress(ToolError, NotKnown):
            return self._facts.cluster().node
        return self._options.node

    @property
    def hangs(self) -> bool:
        return self._memo.hangs or self._facts.hangs

    def collect(self) -> None:
        """The rules come first: what is read after them takes longer, and they change."""
        readers: Mapping[str, Callable[[], Files]] = {
            contents.RULESET: _ruleset,
            contents.IPTABLES: self._iptables,
            contents.IPVS: _ipvs,
            contents.IPSETS: self._ipsets,
            contents.NETWORK: _network,
            contents.SOCKETS: _sockets,
            contents.SETTINGS: _settings,
            contents.CONNTRACK: self._conntrack,
            contents.CLUSTER: self._cluster,
            contents.ANSWERS: self._doctor,
            contents.RULESET_TEXT: self._ruleset_text,
        }
        for name, read in readers.items():
            self._part(name, read)

    def _part(self, name: str, read: Callable[[], Files]) -> None:
        self._told(name)
        started = time.monotonic()
        failures = self._failures = []  # a part that hangs goes on with its own
        patience = _DOCTOR_SECONDS if name == contents.ANSWERS else self._seconds
        try:
            self.files |= self._memo.get(name, lambda: dict(read()), patience)
        except Exception as error:
            failures.append(str(error) or type(error).__name__)
        self.parts.append(Part(name, round(time.monotonic() - started, 3), "; ".join(failures)))

    def _iptables(self) -> Files:
        """Each table of each variant that has it; none is brought into being by looking."""
        failures = self._failures
        with Nft() as nft:
            there = _quietly(lambda: {entry.table for entry in nft.tables()}) or set()
        for family in Family:
            in_nft = [name for name in TABLES if TableName(NF_FAMILY[family], name) in there]
            for variant, names in ((Variant.LEGACY, legacy_tables(family)), (Variant.NFT, in_nft)):
                if not names or (found := programs(family, variant)) is None:
                    continue
                for table in names:
                    try:
                        text = found.saved(table)
                    except IptablesError as error:  # a table that was made with nft itself cannot be printed
                        failures.append(str(error))
                        continue
                    yield contents.iptables_file(variant, family, table), text.encode(errors="replace")

    def _ipsets(self) -> Files:
        kept, failures = [], self._failures
        try:
            opened = Ipsets()
        except IpsetUnavailable:
            return
        with opened as ipsets:
            for name, header in ipsets.headers().items():
                entries = _quietly(partial(ipsets.entries, name))
                if entries is None:
                    failures.append(f"the entries of the IP set {name} ({header.type}) cannot be read")
                kept.append(contents.KeptSet(header, None if entries is None else tuple(sorted(entries))))
        yield contents.IPSETS, _json(kept)

    def _conntrack(self) -> Files:
        total, kept = 0, list[Flow]()
        with Socket(NETLINK_NETFILTER) as netlink:
            for flow in conntrack_command.flows(netlink):
                total += 1
                if len(kept) < self._flows:
                    kept.append(flow)
        yield contents.CONNTRACK, _json(contents.KeptFlows(total, tuple(kept)))

    def _cluster(self) -> Files:
        """Only the fields that a proxy reads are ever decoded, and no object but these; annotations are left out."""
        failures = self._failures
        cluster = self._facts.cluster()
        objects: list[Object] = []
        try:
            objects = [_plain(one) for one in all_objects(self._options)]
        except ToolError as error:
            failures.append(str(error))
        objects = [one for one in objects if not isinstance(one, Node) or one.metadata.name == cluster.node]
        kept = contents.KeptCluster(
            cluster.source,
            cluster.origin,
            cluster.node,
            cluster.mode,
            cluster.notes,
            tuple(publish(family, one) for family, one in cluster.ports),
            cluster.proxy,
            next((one for one in objects if isinstance(one, Node)), None),
            tuple(one for one in objects if isinstance(one, Service)),
        )
        yield contents.CLUSTER, _json(kept)
        yield contents.OBJECTS, msgspec.json.format(_json(objects))

    def _doctor(self) -> Files:
        """All runbooks are run, for what they ask; and what only one does that is of a single Service."""
        recorder = Recorder(self._facts)
        for runbook, check in running.steps(catalogue.RUNBOOKS):
            running.run(runbook, check, recorder.as_facts, Subject(), _CHECK_SECONDS)
        with suppress(NotKnown, ToolError):
            recorder.as_facts.pods()
        yield contents.ANSWERS, _json(recorder.answers)
        address, port = pages.metrics_server(self._facts)
        if page := self._facts.get(port, pages.METRICS, address).body:
            yield contents.METRICS, page.encode()

    def _ruleset_text(self) -> Files:
        try:
            done = subprocess.run(["nft", "list", "ruleset"], capture_output=True, timeout=self._seconds, check=False)
        except FileNotFoundError:
            raise ToolError("the program nft is not installed (the ruleset itself is there)") from None
        if done.returncode and contents.RULESET in self.files:
            raise ToolError(f"nft list ruleset failed: {done.stderr.decode(errors='replace').strip()}")
        yield contents.RULESET_TEXT, done.stdout


def _ruleset() -> Files:
    """Nothing of a kernel without nf_tables."""
    with Nft() as nft:
        if _quietly(nft.tables) is not None:
            yield contents.RULESET, record(nft)


def _ipvs() -> Files:
    if not loaded():
        yield contents.IPVS, _json([])
        return
    with Ipvs() as ipvs:
        kept = [contents.KeptServer(one, tuple(ipvs.reals(one.virtual))) for one in ipvs.virtuals()]
    yield contents.IPVS, _json(kept)


def _network() -> Files:
    with Routing() as routing:
        neighbours = tuple((family, tuple(routing.neighbours(family))) for family in Family)
    kept = contents.Network(
        tuple(routing_tables.read_links()),
        tuple(links.addresses()),
        tuple(routing_tables.read_speaking()),
        tuple(routing_tables.read_routes()),
        tuple(routing_tables.read_rules()),
        neighbours,
    )
    yield contents.NETWORK, msgspec.json.format(_json(kept))


def _sockets() -> Files:
    kept = []
    for protocol in ("tcp", "udp"):
        for port, one in sockets.all_listening(protocol):
            pid = sockets.owner(one.inode) or 0
            kept.append(contents.KeptSocket(protocol, one.address, port, pid, command(pid) if pid else ""))
    yield contents.SOCKETS, msgspec.json.format(_json(kept))


def _settings() -> Files:
    found: contents.Settings = {}
    for path in chain.from_iterable(sysctl.PROC_SYS.glob(pattern) for pattern in _SETTINGS):
        with suppress(OSError):
            found[str(path.relative_to(sysctl.PROC_SYS))] = path.read_text().strip()
    yield contents.SETTINGS, msgspec.json.format(_json(found))


def _plain(one: Object) -> Object:
    return msgspec.structs.replace(one, metadata=msgspec.structs.replace(one.metadata, annotations=None))


def _quietly(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (OSError, LookupError, ValueError):
        return None


def _json(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(printable(msgspec.to_builtins(value)))
