"""The chains of mode iptables, of kpx and of kube-proxy alike: KUBE-SEP counts the connections of an endpoint.

Chains are found by their hashes; names are read from the comments of KUBE-SERVICES. Pure but for what begins
with `read`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from kpx.kernel.iptables.program import Iptables, IptablesError, with_table
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.expressions import Counter
from kpx.kernel.nft.objects import Rule
from kpx.kernel.nft.wire import TableName
from kpx.net import Family
from kpx.proxier.frontends import Frontends, Kind, Verdict
from kpx.proxier.iptables import names
from kpx.proxier.nftables.settings import NF_FAMILIES
from kpx.tools.errors import ToolError
from kpx.tools.kernel import Destination, Finds, Port, port_name

_PACKETS = re.compile(r"\[(\d+):\d+\] -A ")
_PROTOCOL = re.compile(r" -p (\w+)")
_NUMBER = re.compile(r" --dport (\d+)")
_ADDRESS = re.compile(r" -d ([0-9a-f.:]+)/\d+")
_COMMENT = re.compile(r' --comment (?:"([^"]*)"|(\S+))')
_TARGET = re.compile(r" -j (\S+)(?: --to-destination (\S+))?")
_LEADS = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-")
_KINDS = {"cluster IP": Kind.CLUSTER_IP, "external IP": Kind.EXTERNAL_IP, "loadbalancer IP": Kind.LOAD_BALANCER}


@dataclass(slots=True)
class Chains:
    """What the nat table of one family holds of Services."""

    # KUBE-SEP chain -> where it leads, and the packets that went there: one for each connection.
    endpoints: dict[str, tuple[Destination, int]] = field(default_factory=dict)
    # Chain -> the chains of Services and endpoints that its rules name.
    leads: dict[str, list[str]] = field(default_factory=dict)
    entrances: list[str] = field(default_factory=list)


def parse(lines: Iterable[str]) -> Chains:
    """Read ``iptables-save -c -t nat``."""
    found = Chains()
    for line in lines:
        if not line.startswith("["):
            continue
        match = _PACKETS.match(line)
        if match is None:
            continue
        chain, _, rule = line[match.end() :].partition(" ")
        rule = " " + rule
        if chain.startswith("KUBE-SEP-"):
            target = _TARGET.search(rule)
            if target and target[2]:
                found.endpoints[chain] = _destination(target[2]), int(match[1])
        elif chain.startswith(_LEADS):
            target = _TARGET.search(rule)
            if target and names.is_service_chain(target[1]):
                found.leads.setdefault(chain, []).append(target[1])
        elif chain in (names.SERVICES, names.NODE_PORTS):
            found.entrances.append(rule)
    return found


def _destination(text: str) -> Destination:
    address, _, port = text.rpartition(":")
    return address.strip("[]"), int(port)


class IptablesHeld:
    """The `Held` of mode iptables."""

    program = "mode iptables"
    counts = True

    def __init__(self, chains: Mapping[Family, Chains], refusals: Mapping[Family, Iterable[str]]) -> None:
        """`refusals` are the rules of the filter table."""
        self._chains = chains
        self._refusals = refusals

    def connections(self, family: Family, frontends: Frontends) -> Mapping[Destination, int]:
        chains = self._chains.get(family, Chains())
        found: dict[Destination, int] = {}
        for one in frontends.reachable:
            held = chains.endpoints.get(names.endpoint_chain(frontends.port, one))
            found[one.ip, one.port] = held[1] if held else 0
        return found

    def ports(self) -> list[Port]:
        finds = Finds()
        for family, chains in self._chains.items():
            for rule in chains.entrances:
                _enter(finds, family, chains, rule)
        for family, rules in self._refusals.items():
            for rule in rules:
                _refuse(finds, family, rule)
        return finds.ports()


def _enter(finds: Finds, family: Family, chains: Chains, rule: str) -> None:
    """Note the address of a rule in KUBE-SERVICES or KUBE-NODEPORTS, and the endpoints it leads to."""
    target, number, protocol = _TARGET.search(rule), _NUMBER.search(rule), _PROTOCOL.search(rule)
    if not (target and number and protocol and target[1].startswith(_LEADS)):
        return
    name, _, what = _comment(rule).partition(" ")
    found = finds.of(family, port_name(name, protocol[1]))
    address = _ADDRESS.search(rule)
    if what in _KINDS and address:
        found.answers(_KINDS[what], address[1], int(number[1]))
    elif not what:
        found.answers(Kind.NODE_PORT, None, int(number[1]))
    for chain in _reached(chains, target[1]):
        if chain in chains.endpoints:
            found.leads(*chains.endpoints[chain][0])


def _reached(chains: Chains, start: str) -> Iterator[str]:
    """The chains that a packet may come to."""
    seen, waiting = {start}, [start]
    while waiting:
        chain = waiting.pop()
        yield chain
        more = [one for one in chains.leads.get(chain, ()) if one not in seen]
        seen.update(more)
        waiting += more


def _refuse(finds: Finds, family: Family, rule: str) -> None:
    """Note an address that is refused, of a rule in the filter table such as ``has no endpoints``."""
    number, protocol = _NUMBER.search(rule), _PROTOCOL.search(rule)
    name, _, why = _comment(rule).partition(" ")
    if not (number and protocol and why in ("has no endpoints", "has no local endpoints")):
        return
    found = finds.of(family, port_name(name, protocol[1]))
    verdict = Verdict.DROP if " -j DROP" in rule else Verdict.REJECT
    address = _ADDRESS.search(rule)
    if address is None:
        found.answers(Kind.NODE_PORT, None, int(number[1]), verdict)
    else:
        cluster = rule.startswith(f" -A {names.SERVICES} ")
        found.answers(Kind.CLUSTER_IP if cluster else Kind.EXTERNAL_IP, address[1], int(number[1]), verdict)


def _comment(rule: str) -> str:
    match = _COMMENT.search(rule)
    return (match[1] or match[2]) if match else ""


def read() -> IptablesHeld | None:
    """The rules of whichever interface holds chains of Services; None if none does. Raises `ToolError`."""
    try:
        return read_from({family: [_saving(one) for one in with_table(family, "nat")] for family in Family})
    except IptablesError as error:
        raise ToolError(f"the iptables rules cannot be read: {error}") from error


def read_alone(ports: Iterable[Port]) -> IptablesHeld | None:
    """What counts the connections of these service ports, and no more; None where iptables-nft holds none of it.

    The legacy variant gives its tables as a whole only. Raises OSError.
    """
    found: dict[Family, Chains] = {}
    with Nft() as nft:
        for family, one in ports:
            table = TableName(NF_FAMILIES[family], "nat")
            for endpoint in one.reachable:
                chain = names.endpoint_chain(one.port, endpoint)
                rules = nft.rules(table, chain)
                if rules:
                    destination = endpoint.ip, endpoint.port
                    found.setdefault(family, Chains()).endpoints[chain] = destination, _packets(rules[-1].value)
    return IptablesHeld(found, {}) if found else None


def _packets(translation: Rule) -> int:
    """What the last rule of an endpoint's chain, which translates, has counted."""
    return next((one.packets for one in translation.expressions if isinstance(one, Counter)), 0)


Saving = Callable[[str], Iterable[str]]


def _saving(programs: Iptables) -> Saving:
    return lambda table: programs.save(table, counters=True)


def read_from(printed: Mapping[Family, Iterable[Saving]]) -> IptablesHeld | None:
    """The rules in what ``iptables-save -c`` prints of tables: in each family, of the first that holds Services."""
    chains: dict[Family, Chains] = {}
    refusals: dict[Family, list[str]] = {}
    for family, variants in printed.items():
        for saved in variants:
            if (found := parse(saved("nat"))).entrances:
                chains[family], refusals[family] = found, _filter_rules(saved("filter"))
                break
    return IptablesHeld(chains, refusals) if chains else None


def _filter_rules(lines: Iterable[str]) -> list[str]:
    """The rules for Services without endpoints."""
    rules = (line.partition("] ")[2] for line in lines if "endpoints" in line)
    return [f" {rule}" for rule in rules if rule.startswith("-A KUBE-")]
