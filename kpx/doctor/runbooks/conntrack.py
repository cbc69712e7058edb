"""Runbook 5: the tables of connections are full, or hold flows that lead nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kpx.config.types import Conntrack
from kpx.doctor import fixes
from kpx.doctor.check import SETTLES, Runbook, check
from kpx.doctor.facts import Facts, NotKnown
from kpx.doctor.finding import Evidence, Fix, Result, failed, passed, skipped, told, warned
from kpx.doctor.subject import Subject, mode, service, wanted_is_known
from kpx.proxier.sysctls import conntrack_limit
from kpx.tools.errors import ToolError
from kpx.tools.flows import Share, Usage

_MAX = "net/netfilter/nf_conntrack_max"
_BUCKETS = "net/netfilter/nf_conntrack_buckets"
_HASH_SIZE = "/sys/module/nf_conntrack/parameters/hashsize"
_BACKLOG = "net/core/netdev_max_backlog"
_TIMES = ("tcp_timeout_established", "tcp_timeout_close_wait", "udp_timeout", "udp_timeout_stream")
_ADVISED_TIMES = {"tcp_timeout_established": 86400, "tcp_timeout_close_wait": 60}
_WARN, _FAIL = 0.80, 0.95
_ENTRIES_A_BUCKET = 8
_ADVISED_BACKLOG = 250_000
_SOON = 600.0  # seconds to a full table that are worth a warning
_LARGEST = 2_097_152
_MEMORY_PER_FLOW = 320  # bytes, of the slab nf_conntrack
_CONNTRACK = "kpx conntrack"
_IPVS_LOAD = 4
_VS = "net/ipv4/vs"


@check(
    "KPX-CT-001",
    "the conntrack table has room",
    why="A full table drops the first packet of every new connection: connections fail at random.",
    remedy="Raise nf_conntrack_max (and the hash size), find the client that fills it, shorten the time-outs.",
    links=("https://docs.kernel.org/networking/nf_conntrack-sysctl.html",),
)
def room(facts: Facts, _: Subject) -> Iterator[Result]:
    usage = facts.usage()
    share = usage.entries / usage.limit if usage.limit else 0.0
    evidence = (
        Evidence(f"{usage.entries}", "/proc/sys/net/netfilter/nf_conntrack_count"),
        Evidence(f"{usage.limit}", f"/proc/sys/{_MAX}"),
    )
    if share < _WARN:
        yield passed(f"{share:.1%} of it is used", *evidence)
        return
    clients = _clients(facts)
    says = (
        f"{share:.1%} of it is used; most flows are from {clients[0].name}: {clients[0].flows}"
        if clients
        else f"{share:.1%} of it is used"
    )
    result = failed if share >= _FAIL else warned
    yield result(says, *evidence, fix=_more_room(facts, usage), verify=_CONNTRACK)


def _clients(facts: Facts) -> Sequence[Share]:
    """Whose flows there are most of; none where that cannot be told: to read a table that is full takes long."""
    try:
        return facts.flows().clients
    except (NotKnown, ToolError):
        return ()


def _more_room(facts: Facts, usage: Usage) -> Fix:
    """A larger table; in a network namespace of its own, which cannot have one, the largest client's flows go."""
    size = min(max(4 * usage.limit, _advised(facts)), max(_LARGEST, usage.limit))
    if size <= usage.limit:
        return fixes.by_hand("the table is large: find whose connections fill it", ("kpx", "conntrack"))
    if facts.writable(_MAX):
        grow = fixes.sysctl(
            f"let the table have {size} entries ({size * _MEMORY_PER_FLOW >> 20} MiB)", _MAX, size, str(usage.limit)
        )
        buckets = f"echo {size // 4} > {_HASH_SIZE}"
        return Fix(grow.says, grow.now, (*grow.keep, buckets), grow.undo)
    clients = _clients(facts)
    if not clients:
        return fixes.by_hand(f"raise the limit where the host sets it ({fixes.dotted_name(_MAX)}={size})")
    client = clients[0].name
    family = "ipv6" if ":" in client else "ipv4"
    return Fix(
        f"the limit is the host's to raise ({fixes.dotted_name(_MAX)}={size}); here, forget the flows of {client}",
        now=(("conntrack", "-D", "-f", family, "-s", client),),
        keep=(f"echo '{fixes.dotted_name(_MAX)} = {size}' >> /etc/sysctl.d/99-conntrack.conf  # on the host",),
        foreign=True,
    )


def _advised(facts: Facts) -> int:
    """The number of entries for a node of this size, as kube-proxy has it."""
    return conntrack_limit(Conntrack(), facts.cores())


@check(
    "KPX-CT-002",
    "no connections are dropped, and none fails to be entered",
    why="`drop` counts packets lost as the table is full, `insert_failed` flows whose translation another took.",
    remedy="Drops: more room. insert_failed: UDP from one port at once (DNS), which NodeLocal DNSCache avoids.",
    links=("https://github.com/kubernetes/kubernetes/issues/56903",),
)
def drops(facts: Facts, _: Subject) -> Iterator[Result]:
    usage = facts.usage()
    told_of = {name: usage.statistics.get(name, 0) for name in ("drop", "early_drop", "insert_failed")}
    now = {name: usage.statistics_per_second.get(name, 0.0) for name in told_of}
    evidence = [
        Evidence(f"{name} {count}, {now[name]:+g} a second", "/proc/net/stat/nf_conntrack")
        for name, count in told_of.items()
    ]
    growing = [name for name in told_of if now[name] > 0]
    if growing:
        lost = growing != ["insert_failed"]
        says = f"{' and '.join(growing)} {'grow' if len(growing) > 1 else 'grows'} now"
        fix = _more_room(facts, usage) if lost else None
        yield (failed if lost else warned)(says, *evidence, fix=fix, verify=_CONNTRACK)
    elif any(told_of.values()):
        yield told("none now; there were some since the kernel started", *evidence)
    else:
        yield passed("none", *evidence)


@check(
    "KPX-CT-003",
    "the table does not fill up soon",
    why="A table that grows steadily is full at a time that can be told.",
    remedy="Find what opens the connections: `kpx conntrack` names Services, clients and backends.",
)
def growth(facts: Facts, _: Subject) -> Iterator[Result]:
    usage = facts.usage()
    evidence = Evidence(f"{usage.per_second:+g} entries a second", "/proc/sys/net/netfilter/nf_conntrack_count")
    if usage.seconds_to_full is not None and usage.seconds_to_full < _SOON:
        yield warned(
            f"it is full in {usage.seconds_to_full:.0f} s at this rate",
            evidence,
            fix=_more_room(facts, usage),
            verify=_CONNTRACK,
        )
    else:
        yield passed("it does not at this rate", evidence)


@check(
    "KPX-CT-004",
    "the hash table fits the number of entries",
    why="Long chains in the hash table cost every packet time.",
    remedy="nf_conntrack's parameter hashsize: a fourth of the entries.",
)
def buckets(facts: Facts, _: Subject) -> Iterator[Result]:
    size, limit = int(facts.setting(_BUCKETS)), int(facts.setting(_MAX))
    evidence = (Evidence(str(size), f"/proc/sys/{_BUCKETS}"), Evidence(str(limit), f"/proc/sys/{_MAX}"))
    if size and limit / size > _ENTRIES_A_BUCKET:
        keep = (
            f"echo {limit // 4} > {_HASH_SIZE}",
            f"echo 'options nf_conntrack hashsize={limit // 4}' > /etc/modprobe.d/nf_conntrack.conf",
        )
        yield warned(
            f"up to {limit / size:.0f} entries share a bucket",
            *evidence,
            fix=Fix("make the hash table larger", keep=keep),
        )
    else:
        yield passed(f"at most {limit / max(size, 1):.1f} entries share a bucket", *evidence)


@check(
    "KPX-CT-005",
    "the node has room for packets that come in",
    why="Where a processor's queue is full, packets are dropped before any rule sees them.",
    remedy="Raise net.core.netdev_max_backlog; spread the interrupts of the network card.",
)
def backlog(facts: Facts, _: Subject) -> Iterator[Result]:
    total, rate = facts.softnet_drops()
    try:
        size = facts.setting(_BACKLOG)
    except NotKnown:  # a network namespace of its own does not show it
        size = ""
    evidence = [Evidence(f"{total} dropped, {rate:+g} a second", "/proc/net/softnet_stat, column 2")]
    evidence += [Evidence(size, f"/proc/sys/{_BACKLOG}")] if size else []
    if rate > 0 and size:
        yield warned("packets are dropped", *evidence, fix=fixes.sysctl("queue more", _BACKLOG, _ADVISED_BACKLOG, size))
    elif rate > 0:
        yield warned("packets are dropped", *evidence)
    else:
        yield passed("none is dropped now", *evidence)


@check(
    "KPX-CT-006",
    "time-outs, and the size that is advised for this node",
    why="An idle connection keeps its entry for the time-out; the kernel's own is 5 days, kube-proxy's 1.",
    remedy="nf_conntrack_tcp_timeout_established = 86400, nf_conntrack_tcp_timeout_close_wait = 60, in /etc/sysctl.d.",
)
def sizing(facts: Facts, _: Subject) -> Iterator[Result]:
    found = {name: facts.setting(f"net/netfilter/nf_conntrack_{name}") for name in _TIMES}
    evidence = [Evidence(f"{value} s", f"/proc/sys/net/netfilter/nf_conntrack_{name}") for name, value in found.items()]
    limit, advised = int(facts.setting(_MAX)), _advised(facts)
    lines = [f"{fixes.dotted_name(_MAX)} = {max(limit, advised)}"]
    lines += [f"net.netfilter.nf_conntrack_{name} = {value}" for name, value in _ADVISED_TIMES.items()]
    keep = tuple(f"echo '{line}' >> /etc/sysctl.d/99-conntrack.conf" for line in lines)
    says = f"{limit} entries are allowed; for this node at least {advised} are advised, {1 << 20} where it is busy"
    yield told(says, *evidence, fix=Fix("the sizing as a file", keep=(*keep, "sysctl --system")))


@check(
    "KPX-CT-007",
    "whose connections fill the table",
    why="One client or Service with most of the entries is where to look first.",
    remedy="`kpx conntrack --service NAMESPACE/NAME` lists them.",
)
def consumers(facts: Facts, _: Subject) -> Iterator[Result]:
    flows = facts.flows()
    shares = [
        *((f"Service {one.name}", one.flows) for one in flows.services),
        *((f"client {one.name}", one.flows) for one in flows.clients),
    ]
    evidence = [Evidence(f"{name}: {count}", _CONNTRACK) for name, count in shares]
    yield told(f"{flows.total} flows", *evidence)


@check(
    "KPX-CT-008",
    "IPVS has room for its connections",
    why="IPVS keeps a table of its own, of a fixed number of buckets: long chains cost every packet time.",
    remedy="options ip_vs conn_tab_bits=20, in /etc/modprobe.d, and load the module anew; shorter time-outs.",
)
def ipvs_room(facts: Facts, _: Subject) -> Iterator[Result]:
    table = facts.ipvs()
    load = table.connections / table.buckets if table.buckets else 0.0
    evidence = (
        Evidence(str(table.connections), "/proc/net/ip_vs_conn"),
        Evidence(f"{table.buckets} buckets", "ipvsadm -Ln"),
    )
    if load > _IPVS_LOAD:
        keep = ("echo 'options ip_vs conn_tab_bits=20' > /etc/modprobe.d/ip_vs.conf",)
        yield warned(
            f"{load:.0f} connections share a bucket",
            *evidence,
            fix=Fix("a larger table, from the next boot", keep=keep),
        )
    else:
        yield passed(f"{load:.2f} connections share a bucket", *evidence)


@check(
    "KPX-CT-009",
    "the time-outs of IPVS, and what becomes of connections to a server that is gone",
    why="Idle connections are forgotten after 15 minutes, sooner than a client's keepalive of 2 hours may notice.",
    remedy="ipvs.tcpTimeout, tcpFinTimeout, udpTimeout in the proxy's configuration; net.ipv4.vs.expire_nodest_conn.",
    links=("https://github.com/kubernetes/kubernetes/issues/81775",),
)
def ipvs_settings(facts: Facts, _: Subject) -> Iterator[Result]:
    table = facts.ipvs()
    times = Evidence(f"tcp {table.tcp} s, tcpfin {table.tcp_fin} s, udp {table.udp} s", "ipvsadm -L --timeout")
    wanted = {"expire_nodest_conn": "1", "conntrack": "1"}
    found = {name: facts.setting(f"{_VS}/{name}") for name in wanted}
    bad = [name for name, value in found.items() if value != wanted[name]]
    evidence = [Evidence(value, f"/proc/sys/{_VS}/{name}") for name, value in found.items()]
    if (used := mode(facts)) != "ipvs":
        yield skipped(f"mode {used} does not use it")
    elif bad:
        fix = fixes.sysctl("set it as kube-proxy does", f"{_VS}/{bad[0]}", 1, found[bad[0]])
        yield warned(f"{', '.join(bad)}: connections to a real server that is gone may hang", times, *evidence, fix=fix)
    else:
        yield passed("as kube-proxy sets them", times, *evidence)


@check(
    "KPX-CT-010",
    "no flow leads to an endpoint that is gone",
    why="A UDP flow lives as long as its client sends: it goes on to an endpoint that is gone, whatever the rules say.",
    remedy="`kpx conntrack --stale --delete` removes exactly those; the proxies do at changes that they see.",
    links=("https://github.com/kubernetes/kubernetes/issues/139628",),
    settles=SETTLES,
)
def stale(facts: Facts, subject: Subject) -> Iterator[Result]:
    if not wanted_is_known(facts):
        yield skipped("what the cluster wants is not known")
        return
    wanted = service(facts, subject) if subject.named else None
    found = [(port, flow) for port, flow in facts.flows().stale if wanted is None or (port and port.service == wanted)]
    if not found:
        yield passed("none does", Evidence(f"{facts.flows().total} flows", "kpx conntrack --stale"))
        return
    only = (*(("--service", str(wanted)) if wanted else ()), *facts.source())
    yield failed(
        f"{len(found)} {'flows lead' if len(found) > 1 else 'flow leads'} to endpoints that are gone",
        *(Evidence(str(flow), "kpx conntrack --stale") for _, flow in found[:3]),
        subject=str(wanted or ""),
        fix=Fix(
            "remove them: the next packet is led anew",
            now=(("kpx", "conntrack", "--stale", "--delete", "--yes", *only),),
        ),
        verify=" ".join(("kpx", "conntrack", "--stale", *only)),
    )


RUNBOOK = Runbook(
    "conntrack",
    "the tables of connections are full, or hold what leads nowhere",
    (room, drops, growth, buckets, backlog, stale, sizing, consumers, ipvs_room, ipvs_settings),
)
