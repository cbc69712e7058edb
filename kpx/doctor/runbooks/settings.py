"""Settings of the kernel without which packets of Services are lost."""

from __future__ import annotations

from collections.abc import Iterator

from kpx.doctor import fixes
from kpx.doctor.check import check
from kpx.doctor.facts import Facts, NotKnown
from kpx.doctor.finding import Evidence, Fix, Result, failed, passed, skipped, told, warned
from kpx.doctor.subject import Subject, mode, samples
from kpx.net import Family, family_of
from kpx.proxier.frontends import Kind
from kpx.trace.reading.senders import OUTSIDE

_FORWARDING = {Family.IPV4: "net/ipv4/ip_forward", Family.IPV6: "net/ipv6/conf/all/forwarding"}
_CONF = {Family.IPV4: "net/ipv4/conf", Family.IPV6: "net/ipv6/conf"}
_LOCALNET = "net/ipv4/conf/all/route_localnet"
_BRIDGE = ("net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables")
_LIBERAL = "net/netfilter/nf_conntrack_tcp_be_liberal"
_LIBERAL_SINCE = (6, 1)
_MOST_ENDPOINTS = 20


def _source(name: str) -> str:
    return f"/proc/sys/{name}"


def _families(facts: Facts) -> list[Family]:
    there = {family for family, _ in facts.cluster().ports}
    return [family for family in Family if family in there] or [Family.IPV4]


@check(
    "KPX-KN-001",
    "the node forwards packets",
    why="A packet to a Service is translated and then forwarded to a pod: without forwarding it ends here, silently.",
    remedy="Switch forwarding on, and find what switches it off (a file in /etc/sysctl.d, a network manager).",
)
def forwarding(facts: Facts, _: Subject) -> Iterator[Result]:
    for family in _families(facts):
        name = _FORWARDING[family]
        value = facts.setting(name)
        evidence = Evidence(value, _source(name))
        if value == "0":
            fix = fixes.sysctl("switch forwarding on", name, 1, value)
            yield failed(
                f"{family.value} packets are not forwarded",
                evidence,
                fix=_keeping_routes(facts, fix) if family is Family.IPV6 else fix,
                verify=f"sysctl {fixes.dotted_name(name)}",
            )
            continue
        closed = [one for one in _interfaces(facts, family) if _is(facts, f"{_CONF[family]}/{one}/forwarding", "0")]
        for interface in closed:
            own = f"{_CONF[family]}/{interface}/forwarding"
            yield failed(
                f"{family.value} packets that come in by {interface} are not forwarded",
                Evidence("0", _source(own)),
                fix=fixes.sysctl("switch forwarding on there", own, 1, "0"),
                verify=f"sysctl {fixes.dotted_name(own)}",
            )
        if not closed:
            yield passed(f"{family.value} packets are forwarded", evidence)


def _keeping_routes(facts: Facts, fix: Fix) -> Fix:
    """A node that forwards listens to no router (accept_ra=1), and forgets the routes that it has from one."""
    listening = dict.fromkeys(
        one.interface
        for one in facts.addresses()
        if family_of(one.address) is Family.IPV6 and _is(facts, f"{_CONF[Family.IPV6]}/{one.interface}/accept_ra", "1")
    )
    first = [fixes.sysctl("", f"{_CONF[Family.IPV6]}/{one}/accept_ra", 2, "1") for one in listening if one != "lo"]
    now = tuple(command for one in first for command in one.now)
    keep = tuple(one.keep[0] for one in first)
    undo = tuple(command for one in first for command in one.undo)
    return Fix(fix.says, (*now, *fix.now), (*keep, *fix.keep), (*fix.undo, *undo))


def _interfaces(facts: Facts, family: Family) -> list[str]:
    """Those that packets to Services come in by: the way out, and the ways to endpoints of this node."""
    outside = [facts.route(OUTSIDE[family]).interface] if facts.main_address(family) else []
    local = [each.ip for of, one in facts.cluster().ports if of is family for each in one.endpoints if each.local]
    inside = [facts.route(address).interface for address in list(dict.fromkeys(local))[:_MOST_ENDPOINTS]]
    return [one for one in dict.fromkeys((*outside, *inside)) if one not in ("", "lo")]


def _is(facts: Facts, name: str, value: str) -> bool:
    try:
        return facts.setting(name) == value
    except NotKnown:
        return False


def _filter(interface: str) -> str:
    return f"{_CONF[Family.IPV4]}/{interface}/rp_filter"


@check(
    "KPX-KN-002",
    "packets between bridged pods pass the rules",
    why="A bridge takes the answer of a pod of this node past the rules, untranslated, but for br_netfilter.",
    remedy="Load br_netfilter, and set net.bridge.bridge-nf-call-iptables.",
)
def bridges(facts: Facts, _: Subject) -> Iterator[Result]:
    bridge = _pods_bridge(facts)
    if not bridge:
        yield passed("the pods of this node are not on a bridge", Evidence("none", "ip route get ENDPOINT"))
        return
    for name in _BRIDGE[: 1 + (Family.IPV6 in _families(facts))]:
        try:
            value = facts.setting(name)
        except NotKnown:
            value = ""
        if value == "1":
            yield passed("bridged packets pass the rules", Evidence(value, _source(name)))
            continue
        fix = fixes.sysctl("hand bridged packets to the rules", name, 1, value or "0")
        load = (("modprobe", "br_netfilter"),) if not value else ()
        keep = ("echo br_netfilter > /etc/modules-load.d/br_netfilter.conf",)
        fix = Fix(fix.says, (*load, *fix.now), (*keep, *fix.keep), fix.undo)
        yield failed(
            f"the pods of this node are on the bridge {bridge}, and bridged packets pass the rules by",
            Evidence(value or "there is no such setting: br_netfilter is not loaded", _source(name)),
            Evidence(f"{bridge}: {', '.join(facts.bridged()[bridge][:5])}", f"ip link show master {bridge}"),
            fix=fix,
            verify=f"sysctl {fixes.dotted_name(name)}",
        )


def _pods_bridge(facts: Facts) -> str:
    """The bridge that endpoints of this node are on; empty if there is none."""
    bridges = facts.bridged()
    local = dict.fromkeys(each.ip for _, one in facts.cluster().ports for each in one.endpoints if each.local)
    for address in list(local)[:_MOST_ENDPOINTS] if bridges else ():
        if (interface := facts.route(address).interface) in bridges:
            return interface
    return ""


@check(
    "KPX-KN-003",
    "reverse path filtering lets clients in",
    why="A strict filter (1) drops packets that come in by another interface than the answer would leave by.",
    remedy="Set rp_filter to 2 (loose) on such an interface, or mend the routes.",
)
def reverse_path(facts: Facts, _: Subject) -> Iterator[Result]:
    found = facts.reverse_path()
    evidence = (
        Evidence(", ".join(found.strict[:5]) or "nowhere strict", "/proc/sys/net/ipv4/conf/*/rp_filter"),
        Evidence(f"{found.dropped} packets dropped", "nstat -az TcpExtIPReversePathFilter"),
        Evidence(f"{found.rules} rules of policy routing", "ip rule"),
    )
    if not found.strict or not found.dropped:
        yield passed("it drops nothing", *evidence)
        return
    names = ("all",) if found.everywhere else found.strict
    fix = Fix(
        "filter loosely: the source must be reachable, by whatever interface",
        now=tuple(("sysctl", "-w", f"{fixes.dotted_name(_filter(name))}=2") for name in names),
        keep=tuple(f"echo '{fixes.dotted_name(_filter(name))} = 2' >> /etc/sysctl.d/90-kpx.conf" for name in names),
        undo=tuple(("sysctl", "-w", f"{fixes.dotted_name(_filter(name))}=1") for name in names),
    )
    says = f"it is strict on {len(found.strict)} interfaces, and has dropped {found.dropped} packets"
    verify = "nstat -az TcpExtIPReversePathFilter"
    if found.rules:
        yield failed(f"{says}; with policy routing the answers may leave elsewhere", *evidence, fix=fix, verify=verify)
    else:
        yield warned(says, *evidence, fix=fix, verify=verify)


@check(
    "KPX-KN-005",
    "packets that conntrack calls invalid do no harm",
    why="On kernels before 6.1 a packet outside the window passes untranslated, and the client resets its connection.",
    remedy="Set nf_conntrack_tcp_be_liberal (kube-proxy: --conntrack-tcp-be-liberal).",
    links=("https://github.com/kubernetes/kubernetes/issues/74839",),
)
def invalid(facts: Facts, _: Subject) -> Iterator[Result]:
    release = facts.kernel_release()
    evidence = Evidence(".".join(map(str, release)), "uname -r")
    if release >= _LIBERAL_SINCE:
        yield passed("this kernel is of 6.1 or later", evidence)
        return
    value = facts.setting(_LIBERAL)
    if facts.mode() != "nftables" or value != "0":
        yield passed("there is a rule or a setting against it", evidence, Evidence(value, _source(_LIBERAL)))
        return
    fix = fixes.sysctl("take such packets for valid", _LIBERAL, 1, value)
    yield warned("such packets can reset connections", evidence, Evidence(value, _source(_LIBERAL)), fix=fix)


@check(
    "KPX-KN-006",
    "node ports answer on 127.0.0.1",
    why="In mode iptables node ports answer on localhost too, which the kernel only routes with route_localnet.",
    remedy="Set net.ipv4.conf.all.route_localnet, or use the node's own address: other modes have no node ports there.",
)
def localnet(facts: Facts, subject: Subject) -> Iterator[Result]:
    if (used := mode(facts)) != "iptables":
        yield told(f"mode {used} has no node ports on 127.0.0.1: use the node's address")
        return
    if not any(True for _ in samples(facts, subject, Kind.NODE_PORT)):
        yield skipped("no node port is served")
        return
    value = facts.setting(_LOCALNET)
    evidence = Evidence(value, _source(_LOCALNET))
    if value != "0" or not _on_localhost(facts):
        yield passed("they do, or are not to", evidence)
        return
    yield failed(
        "node ports do not answer on 127.0.0.1",
        evidence,
        fix=fixes.sysctl("route 127.0.0.0/8 to pods", _LOCALNET, 1, value),
        verify="kpx doctor nodeport",
    )


def _on_localhost(facts: Facts) -> bool:
    """Whether the configuration wants node ports on localhost: unless nodePortAddresses leaves it out."""
    try:
        networks = facts.configuration().node_port_addresses
    except NotKnown:
        return True
    return not networks or any(one.startswith(("127.", "0.0.0.0/0")) for one in networks)
