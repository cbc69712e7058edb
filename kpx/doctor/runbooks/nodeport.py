"""Runbook 2: a node port is not reached from outside the cluster."""

from __future__ import annotations

from collections.abc import Iterator

from kpx.doctor import fixes
from kpx.doctor.check import Runbook, check
from kpx.doctor.facts import Call, Facts, NotKnown
from kpx.doctor.finding import Evidence, Fix, Result, failed, passed, skipped, warned
from kpx.doctor.runbooks import endpoints, packets, policies, proxy, rules, settings
from kpx.doctor.subject import Subject, ports
from kpx.net import Family, is_link_local, is_loopback, join_port
from kpx.proxier.frontends import Frontend, Frontends, Kind, Verdict
from kpx.proxier.ipvs.names import DEVICE
from kpx.proxier.nodeports import PRIMARY, NodePortAddresses

_MOST = 5
_RANGE = "net/ipv4/ip_local_port_range"
_NODE_PORTS = "30000-32767"
_RESERVED = "net/ipv4/ip_local_reserved_ports"


def node_ports(facts: Facts, subject: Subject) -> list[tuple[Family, Frontends, Frontend]]:
    return [
        (family, one, frontend)
        for family, one in ports(facts, subject)
        for frontend in one.frontends
        if frontend.kind is Kind.NODE_PORT
    ]


@check(
    "KPX-NP-001",
    "a node port is allocated",
    why="Only Services of type NodePort, and LoadBalancer unless they say otherwise, answer on the nodes' addresses.",
    remedy="Let the Service be of type NodePort; spec.ports[].nodePort tells the number.",
)
def allocated(facts: Facts, subject: Subject) -> Iterator[Result]:
    found = node_ports(facts, subject)
    numbers = sorted({frontend.port for _, _, frontend in found})
    if found:
        listed = ", ".join(map(str, numbers[:_MOST])) + (" ..." if len(numbers) > _MOST else "")
        yield passed(f"{len(numbers)} node ports", Evidence(listed, facts.cluster().origin))
    else:
        raise NotKnown("no node port is allocated: the Service is not of type NodePort")


@check(
    "KPX-NP-002",
    "node ports answer on the addresses that clients use",
    why="nodePortAddresses narrows them to some networks: on all other addresses of the node a node port is closed.",
    remedy="Widen nodePortAddresses in the proxy's configuration, or let clients use an address within it.",
)
def bound(facts: Facts, _: Subject) -> Iterator[Result]:
    config = facts.configuration()
    networks = config.node_port_addresses or ()
    evidence = Evidence(", ".join(networks) or "none: all addresses", "the proxy's configuration, nodePortAddresses")
    if not networks or PRIMARY in networks:
        yield passed("they answer on the node's addresses", evidence)
        return
    for family in Family:
        own = _own(facts, family)
        outgoing = facts.main_address(family)
        answering = NodePortAddresses(networks, family).matching(own)
        if outgoing and outgoing not in answering:
            yield failed(
                f"node ports do not answer on {outgoing}, the node's own {family.value} address",
                evidence,
                Evidence(", ".join(answering) or "none", "the node's addresses within it"),
                fix=fixes.by_hand(
                    f"add {outgoing}'s network to nodePortAddresses (or say `primary`), and start the proxy anew",
                    ("kubectl", "edit", "configmap", "--namespace", "kube-system", "kube-proxy"),
                    *facts.restart(),
                ),
                verify="kpx doctor nodeport",
            )
        elif answering:
            yield passed(f"they answer on {', '.join(answering[:_MOST])}", evidence)


def _own(facts: Facts, family: Family) -> list[str]:
    return [
        one.address
        for one in facts.addresses()
        if one.family is family and one.interface != DEVICE and not is_link_local(one.address)
    ]


@check(
    "KPX-NP-004",
    "no process of the node has a node port",
    why="The rules take what comes for a node port: the process is not reached, and in some modes takes it in turn.",
    remedy="End the process or move it to another port, and keep node ports free: net.ipv4.ip_local_reserved_ports.",
)
def taken(facts: Facts, subject: Subject) -> Iterator[Result]:
    found = node_ports(facts, subject)
    if not found:
        yield skipped("no node port is served")
        return
    proxies = {one.pid for one in facts.proxies()}
    seen: set[int] = set()
    for _, one, frontend in found:
        protocol = frontend.protocol.lower()
        for holder in facts.listeners(protocol, frontend.port) if frontend.port not in seen else ():
            # In mode nftables node ports do not answer on loopback.
            if holder.pid in proxies or (facts.mode() == "nftables" and is_loopback(holder.what.split()[0])):
                continue
            seen.add(frontend.port)
            yield failed(
                f"{holder.name}[{holder.pid}] has a socket on node port {frontend.port}",
                Evidence(
                    f"{holder.name}[{holder.pid}] on {holder.what}", f"/proc/net/{protocol}, /proc/{holder.pid}/fd"
                ),
                subject=str(one.port.service),
                fix=Fix(
                    f"end the process {holder.pid}, or move it to another port",
                    now=(("kill", str(holder.pid)),),
                    keep=fixes.sysctl("", _RESERVED, _NODE_PORTS, "").keep,
                    foreign=True,
                ),
                verify=f"ss -lnp 'sport = :{frontend.port}'",
            )
    if not seen:
        yield passed(
            "none has", Evidence(f"{len({f.port for _, _, f in found})} ports", "/proc/net/tcp, /proc/net/udp")
        )


@check(
    "KPX-NP-005",
    "the node gives no node port to its own connections",
    why="The kernel may choose a node port as the source port of a connection, whose answers the rules then take.",
    remedy="Keep the range of node ports out of it: net.ipv4.ip_local_reserved_ports.",
    links=("https://github.com/kubernetes/kubernetes/issues/139276",),
)
def source_ports(facts: Facts, subject: Subject) -> Iterator[Result]:
    numbers = {frontend.port for _, _, frontend in node_ports(facts, subject)}
    if not numbers:
        yield skipped("no node port is served")
        return
    low, high = map(int, facts.setting(_RANGE).split())
    reserved = facts.setting(_RESERVED)
    inside = sorted(one for one in numbers if low <= one <= high and not _reserved(one, reserved))
    evidence = (
        Evidence(f"{low}-{high}", f"/proc/sys/{_RANGE}"),
        Evidence(reserved or "none", f"/proc/sys/{_RESERVED}"),
    )
    if inside:
        wanted = ",".join(filter(None, (reserved, _NODE_PORTS)))
        fix = fixes.sysctl("reserve the node ports", _RESERVED, wanted, reserved)
        yield warned(f"{len(inside)} node ports, such as {inside[0]}, are in the range", *evidence, fix=fix)
    else:
        yield passed("none is in the range of such ports", *evidence)


def _reserved(port: int, ranges: str) -> bool:
    for one in filter(None, ranges.split(",")):
        low, _, high = one.partition("-")
        if int(low) <= port <= int(high or low):
            return True
    return False


@check(
    "KPX-NP-006",
    "the node port answers on the node's addresses",
    why="Asked from the node itself: what answers here and not from outside is stopped by a firewall on the way.",
    remedy="See the failed checks of the rules and of the endpoints; then the firewall in front of the node.",
)
def answering(facts: Facts, subject: Subject) -> Iterator[Result]:
    if not subject.named:
        raise NotKnown("connections are tried for a Service that is named: kpx doctor nodeport NAMESPACE/NAME")
    asked = [
        (one, Call("", frontend.protocol.lower(), address, frontend.port))
        for family, one, frontend in node_ports(facts, subject)
        if frontend.verdict is Verdict.FORWARD
        for address in _addresses(facts, family)
    ]
    if not asked:
        raise NotKnown("no node port is to be answered here")
    reached = facts.connect([call for _, call in asked])
    for (one, call), reach in zip(asked, reached, strict=True):
        if not reach.through:
            target = join_port(call.address, call.port)
            yield failed(
                f"{target} gives the node {reach.outcome.value}",
                Evidence(f"{reach.outcome.value} {reach.detail}".strip(), "connect() from the node"),
                subject=str(one.port.service),
                verify=f"kpx trace {target} --from node",
            )
    if all(reach.through for reach in reached):
        yield endpoints.answered(f"{len(asked)} connections were tried", reached, "")


def _addresses(facts: Facts, family: Family) -> list[str]:
    """The addresses on which node ports should answer: in mode nftables, unless told otherwise, the node's main one."""
    own = [one for one in _own(facts, family) if not is_loopback(one)]
    try:
        networks = facts.configuration().node_port_addresses or ()
    except NotKnown:
        networks = ()
    if PRIMARY in networks or (not networks and facts.mode() == "nftables"):
        return list(filter(None, (facts.main_address(family),)))
    return NodePortAddresses(networks, family).matching(own)


RUNBOOK = Runbook(
    "nodeport",
    "a node port is not reached from outside",
    (
        allocated,
        proxy.runs,
        rules.addresses,
        packets.led_outside,
        packets.refused_outside,
        packets.astray_outside,
        bound,
        taken,
        source_ports,
        settings.forwarding,
        settings.reverse_path,
        settings.localnet,
        endpoints.present,
        endpoints.ready,
        endpoints.directly,
        answering,
        policies.local,
        policies.health_check,
        policies.sources,
    ),
)
