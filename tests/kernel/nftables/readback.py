"""The table read as what it does with packets: whom each virtual address leads to, for each sort of sender.

It follows the rules as the kernel holds them. With what lays them out it shares only how a pod is told.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NamedTuple

from kpx.kernel.nft.elements import INTERVAL_END, Element
from kpx.kernel.nft.expressions import Dynset, Expression, Immediate, Lookup, Meta, Nat, Numgen
from kpx.kernel.nft.expressions import Verdict as NftVerdict
from kpx.kernel.nft.intervals import merged
from kpx.kernel.nft.rules import drop, eq, rule
from kpx.kernel.nft.selectors import fib_saddr_type, saddr
from kpx.kernel.nft.sets import unpack
from kpx.net import contains, join_port
from kpx.proxier.frontends import Frontend, Frontends, Kind, Masquerade, Scope, Verdict
from kpx.proxier.nftables.chains import Terms, pods_match
from kpx.proxier.nftables.containers import LOCAL_LIST, containers
from kpx.proxier.nftables.layout import Place
from kpx.proxier.nftables.reading import Held
from kpx.proxier.nftables.settings import Settings

Claim = tuple[str, ...]  # address (none for a node port), protocol and port
Ranges = tuple[tuple[str, str], ...]


class Sender(Enum):
    POD = "a pod of this node"
    NODE = "this node itself"
    OUTSIDE = "from elsewhere"


class Answer(NamedTuple):
    """What becomes of a new connection. `affinity` is in seconds."""

    endpoints: frozenset[str] = frozenset()
    masqueraded: bool = False
    affinity: int | None = None
    refused: Verdict | None = None


class Picture(NamedTuple):
    """All that the table does: `sources` are the ranges that may use an address, `hairpin` who may reach itself."""

    answers: dict[tuple[Claim, Sender], Answer]
    sources: dict[Claim, Ranges]
    cluster_ips: frozenset[str]
    hairpin: frozenset[str]


_MASQUERADED = {
    Masquerade.ALWAYS: set(Sender),
    Masquerade.OFF_CLUSTER: {Sender.NODE, Sender.OUTSIDE},
    Masquerade.NODE: {Sender.NODE},
    Masquerade.NEVER: set(),
}


def of_frontends(served: Iterable[Frontends], settings: Settings) -> Picture:
    """What the table should do."""
    made = Picture({}, {}, frozenset(), frozenset())
    cluster_ips, hairpin = set(), set()
    for frontends in served:
        hairpin |= {one.ip for one in frontends.reachable if one.local}
        for one in frontends.frontends:
            claim = (*filter(None, (one.address,)), one.protocol.lower(), str(one.port))
            if one.kind is Kind.CLUSTER_IP:
                cluster_ips.add(one.address or "")
            if one.sources:
                own = [f"{one.address}/{settings.family.bits}"]
                covered = settings.node_ip and any(contains(network, settings.node_ip) for network in one.sources)
                made.sources[claim] = _text(merged([*one.sources, *(own if covered else ())]))
            for sender in Sender:
                made.answers.setdefault((claim, sender), _wanted(frontends, one, sender))
    return made._replace(cluster_ips=frozenset(cluster_ips), hairpin=frozenset(hairpin))


def _wanted(frontends: Frontends, frontend: Frontend, sender: Sender) -> Answer:
    near = frontend.short_circuit and sender is not Sender.OUTSIDE
    scope = Scope.CLUSTER if near else frontend.scope
    if frontend.verdict is Verdict.REJECT or (frontend.verdict is Verdict.DROP and scope is Scope.LOCAL):
        return Answer(refused=frontend.verdict)
    endpoints = frozenset(map(str, frontends.served_by(scope)))
    return Answer(endpoints, sender in _MASQUERADED[frontend.masquerade], frontends.affinity)


def _text(ranges: Iterable[tuple[object, object]]) -> Ranges:
    return tuple((str(first), str(last)) for first, last in ranges)


def of_table(held: Held, settings: Settings) -> Picture:
    """What the table does. Its lists must be dense."""
    reader = _Reader(held, settings)
    answers: dict[tuple[Claim, Sender], Answer] = {}
    for forward, refuse in (("service-ips", "no-endpoint-services"), ("node-ports", "no-endpoint-node-ports")):
        leads, refused = reader.verdicts(forward), reader.verdicts(refuse)
        for key in leads.keys() | refused.keys():
            claim = unpack(held.sets[forward].key, key)
            for sender in Sender:
                found = reader.followed(leads[key].chain, key, sender) if key in leads else Answer()
                answers[claim, sender] = found if found.endpoints else Answer(refused=_refusal(refused.get(key)))
    firewall = held.sets["firewall-ips"].key
    guarded = reader.verdicts("firewall-ips").items()
    return Picture(
        answers,
        {unpack(firewall, key): reader.sources(verdict.chain) for key, verdict in guarded},
        frozenset(unpack(held.sets["cluster-ips"].key, one.key)[0] for one in held.elements["cluster-ips"]),
        frozenset(unpack(held.sets["hairpin"].key, one.key)[0] for one in held.elements["hairpin"]),
    )


def _refusal(verdict: NftVerdict | None) -> Verdict | None:
    if verdict is None:
        return None
    return Verdict.REJECT if verdict.chain == "reject-chain" else Verdict.DROP


class _Reader:
    """Follows the rules of a table."""

    def __init__(self, held: Held, settings: Settings) -> None:
        self._held = held
        self._bytes = settings.family.bits // 8
        self._slots = held.slots(containers(settings.nf_family))
        self._conditions = _conditions(settings)

    def verdicts(self, name: str) -> Mapping[bytes, NftVerdict]:
        return {one.key: one.data for one in self._held.elements[name] if isinstance(one.data, NftVerdict)}

    def followed(self, chain: str, key: bytes, sender: Sender) -> Answer:
        """Whom a chain leads to when a packet to that address or node port enters it: all that it may draw."""
        found = Answer()
        for one in self._held.rules[chain]:
            match, senders = self._condition(one.expressions)
            *before, last = one.expressions[match:]
            if sender not in senders:
                continue
            if isinstance(last, Meta):
                found = found._replace(masqueraded=True)
            elif isinstance(last, Dynset):
                found = found._replace(affinity=last.timeout // 1000)
            elif isinstance(last, Nat):
                found = found._replace(endpoints=found.endpoints | self._translated(before, key))
            elif isinstance(last, Immediate) and isinstance(last.data, NftVerdict):
                further = self.followed(last.data.chain, key, sender)
                found = Answer(
                    found.endpoints | further.endpoints,
                    found.masqueraded or further.masqueraded,
                    further.affinity,
                )
                if not before:
                    break
            else:
                raise AssertionError(f"{one} is not known here")
        return found

    def _condition(self, expressions: tuple[Expression, ...]) -> tuple[int, set[Sender]]:
        """Which senders a rule is for, and how many of its expressions say so."""
        for match, senders in self._conditions.items():
            if expressions[: len(match)] == match:
                return len(match), senders
        return 0, set(Sender)

    def _translated(self, before: list[Expression], key: bytes) -> frozenset[str]:
        constants = [one.data for one in before if isinstance(one, Immediate) and isinstance(one.data, bytes)]
        if constants:
            return frozenset([self._endpoint(b"".join(constants))])
        numbers = next(one for one in before if isinstance(one, Numgen))
        table = next(one.set for one in before if isinstance(one, Lookup))
        slots = self._slots[Place(table, key, numbers.offset == LOCAL_LIST)]
        assert None not in slots, "a list is not dense"
        return frozenset(self._endpoint(data) for data in slots[: numbers.modulus] if data is not None)

    def _endpoint(self, data: bytes) -> str:
        port = int.from_bytes(data[self._bytes : self._bytes + 2], "big")
        return join_port(str(ipaddress.ip_address(data[: self._bytes])), port)

    def sources(self, chain: str) -> Ranges:
        """The only sources that a chain lets pass."""
        (only,) = self._held.rules[chain]
        (name,) = (one.set for one in only.expressions if isinstance(one, Lookup) and one.flags)
        return _text(_ranges(self._held.elements[name]))


def _conditions(settings: Settings) -> dict[tuple[Expression, ...], set[Sender]]:
    """The beginnings of rules that are for some senders only."""
    terms: dict[Terms, set[Sender]] = {(fib_saddr_type, eq("local")): {Sender.NODE}}
    if settings.local_traffic is not None:
        source = saddr(settings.nf_family)
        terms[pods_match(settings.local_traffic, source)] = {Sender.POD}
        terms[pods_match(settings.local_traffic, source, negate=True)] = {Sender.NODE, Sender.OUTSIDE}
    return {rule("", *match, drop).expressions[:-1]: senders for match, senders in terms.items()}


def _ranges(elements: Iterable[Element]) -> Iterable[tuple[object, object]]:
    bounds = sorted((one.key, one.flags) for one in elements)
    for at, (key, flags) in enumerate(bounds):
        if flags != INTERVAL_END:
            last = ipaddress.ip_address(bounds[at + 1][0]) - 1 if at + 1 < len(bounds) else b"\xff" * len(key)
            yield ipaddress.ip_address(key), ipaddress.ip_address(last) if isinstance(last, bytes) else last
