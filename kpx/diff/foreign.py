"""Rules of others that translate, drop or reject the packets of Services.

A packet to each Service is followed through the rules of the kernel, as `kpx trace` does, but one for all Services that
the rules of others cannot tell apart: these name few addresses and ports, and a node has thousands of Services.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from kpx.diff.difference import Difference, Sort
from kpx.diff.facts import Aspect
from kpx.diff.foreign_sets import contents
from kpx.diff.iptables_facts import place
from kpx.diff.layout import Ports
from kpx.kernel.nft.connection import Nft
from kpx.net import join_port
from kpx.proxier.frontends import Frontend, Frontends, Kind, ServicePortName, Verdict
from kpx.trace.outcome import Base, Hook, Rule, Rules
from kpx.trace.reading.kernel import Node, follow
from kpx.trace.reading.senders import UnknownSender
from kpx.trace.reasons import FOREIGN, of_proxy
from kpx.trace.result import Branch, Hop, Result
from kpx.trace.result import Verdict as Ended
from kpx.trace.target import Target

# So many sorts of Services are followed, at most: each takes some milliseconds.
_MOST_SORTS = 100
_HARMFUL = re.compile(
    r"(?:-j|-g) (?:DROP|REJECT|DNAT|REDIRECT|TPROXY|NFQUEUE|NOTRACK|NETMAP|CT)\b"
    r"|\b(?:drop|reject|dnat|redirect|tproxy|queue|notrack)\b|vmap"
)
_LEADS = re.compile(r"(?:-j|-g|jump|goto) (\S+)")
_ADDRESS = re.compile(r"(?<![\w.:])((?:\d+\.){3}\d+|[0-9a-f]*:[0-9a-f:]+)(?:/(\d+))?(?![\w.])")
_PORTS = re.compile(r"(?:--dports?|dport) (?:!= )?\{?([\d:, -]+)")
_INTERFACE = re.compile(r"(?:^| )-o |\boif(?:name)? ")
_SENDERS = {
    Kind.CLUSTER_IP: ("pod", "node"),
    Kind.EXTERNAL_IP: ("external",),
    Kind.LOAD_BALANCER: ("external",),
    Kind.NODE_PORT: ("external",),
}
_FROM = {"pod": "pods", "node": "this node", "external": "outside"}
_TRANSLATIONS = ("dnat to ", "redirect to ")
_ASPECTS = {Ended.DROPPED: Aspect.DROPPED, Ended.REJECTED: Aspect.REJECTED}


@dataclass(frozen=True, slots=True)
class Mentioned:
    """The addresses and ports by which rules of others tell packets apart.

    ``opaque``: also by sets of which the content is not known; ``interfaces``: also by where a packet goes out.
    """

    hosts: frozenset[int] = frozenset()
    networks: tuple[tuple[int, int], ...] = ()
    ports: tuple[tuple[int, int], ...] = ()
    opaque: bool = False
    interfaces: bool = False

    def sort(self, address: str | None, port: int, protocol: str) -> object:
        """What of a destination they can tell: equal for destinations that they treat alike."""
        if self.opaque:
            return address, port, protocol
        number = int(ipaddress.ip_address(address)) if address else -1
        return (
            number if number in self.hosts else None,
            tuple(first <= number <= last for first, last in self.networks),
            tuple(first <= port <= last for first, last in self.ports),
            protocol,
            address is None,
        )


@dataclass(frozen=True, slots=True)
class Harm:
    """What one rule of others does: to whose packets, sent on where (or on the way to which sorts of endpoints)."""

    aspect: Aspect
    sender: str
    where: str
    rule: str
    to: str = ""
    ends: frozenset[object] = frozenset()


def foreign_rules(rules: Rules) -> tuple[bool, dict[tuple[str, str], None]]:
    """Whether rules or policies of others may do harm, and all of them: the table and the text."""
    harmful = False
    found: dict[tuple[str, str], None] = {}
    for hook in Hook:
        for base in rules.bases(hook):
            harmful = harmful or not base.accepts
            found |= dict.fromkeys((base.table, rule.text) for rule in _reached(rules, base))
    return harmful or any(_HARMFUL.search(text) for _, text in found), found


def _reached(rules: Rules, base: Base) -> Iterator[Rule]:
    """The rules of others that a packet may come to from a base chain."""
    seen, waiting = {base.chain}, [base.chain]
    while waiting:
        chain = waiting.pop()
        if of_proxy(base.table, chain):
            continue
        for rule in rules.chain(base, chain):
            match = _LEADS.search(rule.text)
            if match is None or not of_proxy(base.table, match[1]):
                yield rule
            if match and match[1] not in seen:
                seen.add(match[1])
                waiting.append(match[1])


def mentioned(texts: Iterable[str], *, opaque: bool = False) -> Mentioned:
    """What rules, and the sets that they refer to, name. `opaque`: there are sets that could not be read."""
    networks: dict[tuple[int, int], None] = {}
    ports: dict[tuple[int, int], None] = {}
    hosts: set[int] = set()
    interfaces = False
    for text in texts:
        interfaces = interfaces or _INTERFACE.search(text) is not None
        for address, length in _ADDRESS.findall(text):
            try:
                network = ipaddress.ip_network(f"{address}/{length}" if length else address, strict=False)
            except ValueError:
                continue
            if network.num_addresses == 1:
                hosts.add(int(network[0]))
            else:
                networks[int(network[0]), int(network[-1])] = None
        for listed in _PORTS.findall(text):
            for one in re.split(r"[, ]+", listed.strip(" ,")):
                first, _, last = one.replace("-", ":").partition(":")
                if first.isdigit():
                    ports[int(first), int(last) if last.isdigit() else int(first)] = None
    return Mentioned(frozenset(hosts), tuple(networks), tuple(ports), opaque, interfaces)


Member = tuple[Frontends, Frontend]


class Foreign:
    """What rules of others do to service ports of one family."""

    def __init__(self, node: Node, nft: Nft, ports: Ports, damaged: Collection[ServicePortName]) -> None:
        """`nft` reads the sets of these rules; service ports that are `damaged` are no good example of any sort."""
        self._node = node
        self._nft = nft
        self._ports = ports
        self._damaged = damaged
        self._mentioned = Mentioned()
        self._interfaces: dict[str, str] = {}
        self.notes: list[str] = []

    def differences(self) -> Iterator[Difference]:
        """What they do, to each service port."""
        harmful, rules = foreign_rules(self._node.rules)
        if not harmful:
            return
        held = [contents(table, text, self._nft) for table, text in rules]
        texts = [*(text for _, text in rules), *(one for some in held for one in some or ())]
        self._mentioned = mentioned(texts, opaque=None in held)
        sorts = list(self._sorts().values())
        found: dict[tuple[ServicePortName, Aspect, str, str], Difference] = {}
        for members in sorts[:_MOST_SORTS]:
            example = next((one for one in members if one[0].port not in self._damaged), members[0])
            if harms := self._harms(*example):
                for frontends, frontend in members:
                    for one in self._told(frontends, frontend, harms):
                        assert one.port is not None
                        found.setdefault((one.port, one.aspect, one.where, one.rule), one)
        yield from found.values()
        if len(sorts) > _MOST_SORTS:
            self.notes.append(
                f"rules of others tell Services apart in {len(sorts)} ways: packets to {_MOST_SORTS} were followed"
            )

    def _sorts(self) -> dict[object, list[Member]]:
        """The addresses that are served, those together that the rules of others cannot tell apart."""
        sorts: dict[object, list[Member]] = {}
        for frontends in self._ports.values():
            ends = frozenset(self._ends(frontends).values())
            for one in frontends.frontends:
                if one.verdict is Verdict.FORWARD:
                    key = one.kind, self._mentioned.sort(one.address, one.port, one.protocol), ends
                    sorts.setdefault(key, []).append((frontends, one))
        return sorts

    def _ends(self, frontends: Frontends) -> dict[str, object]:
        """The sort of each endpoint."""
        protocol = frontends.port.protocol
        return {
            str(one): (self._mentioned.sort(one.ip, one.port, protocol), one.local, self._interface(one.ip))
            for one in frontends.reachable
        }

    def _interface(self, address: str) -> str:
        """Where packets to an endpoint go out, if rules of others ask for that."""
        if self._mentioned.interfaces and address not in self._interfaces:
            self._interfaces[address] = self._node.kernel.route_to(address).interface
        return self._interfaces.get(address, "")

    def _harms(self, frontends: Frontends, frontend: Frontend) -> list[Harm]:
        ends = self._ends(frontends)
        harms: dict[tuple[Aspect, str, str, str, str], set[object]] = {}
        for sender in _SENDERS[frontend.kind]:
            target = Target(frontend.address or "", frontend.port, frontend.protocol.lower())
            try:
                traced = follow(target, sender, self._node)
            except UnknownSender:
                continue
            for branch in traced.branches:
                if not branch.unknown and (told := _harm((*traced.hops, *branch.hops), branch, ends)):
                    aspect, where, rule, to = told
                    reached = ends.get(join_port(branch.ending.destination, branch.ending.port))
                    harms.setdefault((aspect, sender, where, rule, to), set()).add(reached)
        return [Harm(*key, frozenset(reached)) for key, reached in harms.items()]

    def _told(self, frontends: Frontends, frontend: Frontend, harms: list[Harm]) -> Iterator[Difference]:
        """The harms in words, for one address of a service port; what one rule does to several senders is one."""
        together: dict[tuple[Aspect, str, str, str], list[Harm]] = {}
        for harm in harms:
            together.setdefault((harm.aspect, harm.where, harm.rule, harm.to), []).append(harm)
        ends = self._ends(frontends)
        for (aspect, where, rule, to), same in together.items():
            reached = frozenset().union(*(one.ends for one in same))
            hit = [end for end, sort in ends.items() if sort in reached]
            senders = " and from ".join(dict.fromkeys(_FROM[one.sender] for one in same))
            done = f"sent to {to}" if to else "dropped" if aspect is Aspect.DROPPED else "rejected"
            way = f" on the way to {', '.join(hit)}" if hit and len(hit) < len(ends) else ""
            text = f"packets from {senders} are {done}{way} by a rule of somebody else"
            subject = place(frontend.address, frontend.port, frontend.protocol)
            yield Difference(
                self._node.family, frontends.port, Sort.FOREIGN, aspect, subject, text, where, held=to, rule=rule
            )


def _harm(hops: Sequence[Hop], branch: Branch, ends: Collection[str]) -> tuple[Aspect, str, str, str] | None:
    """What a rule of others did on a path: the aspect, its place, the rule, and where it sent the packet."""
    ending = branch.ending
    if ending.verdict in _ASPECTS and ending.reason.endswith(FOREIGN):
        last = hops[-1]
        return _ASPECTS[ending.verdict], _place(last), last.rule or last.note, ""
    to = join_port(ending.destination, ending.port)
    if ending.translated and to not in ends:
        for hop in hops:
            done = hop.note.rpartition(", ")[2]
            if hop.result is Result.MATCHED and done.startswith(_TRANSLATIONS) and not of_proxy(hop.table, hop.chain):
                return Aspect.TRANSLATED, _place(hop), hop.rule, to
    return None


def _place(hop: Hop) -> str:
    return f"table {hop.table}, chain {hop.chain}"
