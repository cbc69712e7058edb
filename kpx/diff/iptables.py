"""Mode iptables, kpx's or kube-proxy's, in either variant: the chains of each service port, and what they should be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

from kpx.diff.difference import Difference, compare
from kpx.diff.iptables_base import base_differences
from kpx.diff.iptables_facts import Held, facts
from kpx.diff.layout import DEFAULT_MARK, Learned, Ports, commonest
from kpx.kernel.iptables.program import Variant
from kpx.kernel.iptables.tables import Tables
from kpx.net import Family, canonical_ip
from kpx.proxier.frontends import Frontends, ServicePortName
from kpx.proxier.iptables import names
from kpx.proxier.iptables.render import render
from kpx.proxier.iptables.settings import Settings
from kpx.proxier.iptables.skeleton import SHARED, is_tail
from kpx.proxier.node import LocalTraffic
from kpx.tools.kernel import port_name

_ADDRESS = re.compile(r"-d ([0-9a-f.:]+)/(?:32|128) ")
_PROTOCOL = re.compile(r"-p (\w+)")
_NUMBER = re.compile(r"--dport (\d+)")
_COMMENT = re.compile(r'--comment "?([^" ]+)')
_OUTSIDE = re.compile(r"! (-[si]) (\S+) .*-j KUBE-MARK-MASQ$")
_MARK = re.compile(r"--(?:set-xmark|or-mark) (0x[0-9a-f]+)")
_LOCALHOST = "-d 127.0.0.0/8 "

Where = tuple[str | None, int, str]  # address (None for a node port), port, protocol
Line = tuple[str, str, str]  # table, chain, rule


@dataclass
class IptablesLayout:
    """The `Layout` of mode iptables.

    ``own`` says that the rules are kpx's; ``pods`` is how the configuration tells pods, where rules do not show it.
    """

    family: Family
    variant: Variant
    tables: Tables
    pods: LocalTraffic | None = None
    own: bool = False
    _lines: dict[Where, list[Line]] = field(init=False)

    def __post_init__(self) -> None:
        self._lines = {}
        for table, chains in SHARED.items():
            for chain in chains:
                for rule in self.tables.rules(table, chain):
                    if _LOCALHOST not in rule and not is_tail(rule):
                        self._lines.setdefault(_where(rule), []).append((table, chain, rule))

    @property
    def program(self) -> str:
        return f"{'kpx' if self.own else 'kube-proxy'}, mode iptables ({self.variant.value})"

    @property
    def sign(self) -> str:
        return f"iptables-{self.variant.value}"

    @cached_property
    def learned(self) -> Learned:
        chains = self.tables.table("nat")
        found = [
            rule
            for chain in chains
            if chain.startswith(("KUBE-SVC-", "KUBE-SVL-"))
            for rule in self.tables.rules("nat", chain)
            if rule.endswith(f"-j {names.MARK_MASQ}")
        ]
        pods = commonest(f"{match[1]} {match[2]}" for rule in found if (match := _OUTSIDE.search(rule)))
        option, _, value = pods.partition(" ")
        marks = (_MARK.search(rule) for rule in self.tables.rules("nat", names.MARK_MASQ))
        mark = next((int(match[1], 16) for match in marks if match), DEFAULT_MARK)
        if option == "-i":
            return Learned(LocalTraffic(interface=value), mark=mark)
        by_source = LocalTraffic(source=value) if value else self.pods
        return Learned(by_source, bool(found) and not value, mark)

    @cached_property
    def settings(self) -> Settings:
        """What the wanted rules are made with. In large clusters the rules of endpoints have no comments."""
        endpoints = (one for one in self.tables.table("nat") if one.startswith("KUBE-SEP-"))
        commented = all("--comment" in rule for one in islice(endpoints, 1) for rule in self.tables.rules("nat", one))
        return Settings(self.family, local_traffic=self.learned.pods, mark=self.learned.mark, comments=commented)

    def differences(self, ports: Ports) -> Iterator[Difference]:
        yield from base_differences(self.family, self.tables, self.settings, own=self.own)
        claimed: set[Where] = set()
        for port, frontends in ports.items():
            keys = _keys(frontends)
            claimed.update(keys)
            yield from self._port(port, frontends, keys)
        yield from self._left_over(claimed)

    def _port(self, port: ServicePortName, frontends: Frontends, keys: list[Where]) -> Iterator[Difference]:
        rules = render(frontends, self.settings)
        lines = [line for key in keys for line in self._lines.get(key, ())]
        nat = self.tables.table("nat")
        own = names.port_hash(port)
        there = {chain for chain in rules.chains if chain in nat}
        entered = {target for _, _, rule in lines if (target := _target(rule)) in nat and target not in there}
        alike = set(lines) == set(map(tuple, rules.lines)) and all(
            chain in nat and (*self.tables.rules("nat", chain),) == wanted for chain, wanted in rules.chains.items()
        )
        if alike and not entered:
            return
        addresses = [one.address for one in frontends.frontends if one.sources and one.address]
        held = facts(Held(self._reached({*there, *entered}), lines), own, addresses)
        yield from compare(self.family, port, facts(Held(rules.chains, rules.lines), own), held)

    def _reached(self, chains: Iterable[str]) -> Mapping[str, list[str]]:
        """Chains of a service port with all that they lead to. Others are of no effect: kube-proxy may leave some."""
        found: dict[str, list[str]] = {}
        waiting = [*chains]
        while waiting:
            if (chain := waiting.pop()) not in found:
                found[chain] = self.tables.rules("nat", chain)
                waiting += [target for rule in found[chain] if names.is_service_chain(target := _target(rule))]
        return found

    def _left_over(self, claimed: set[Where]) -> Iterator[Difference]:
        """What belongs to no Service that is wanted."""
        for key, lines in self._lines.items():
            if key not in claimed:
                for table, chain, rule in lines:
                    found = facts(Held({}, [(table, chain, rule)]), rule.rpartition("-")[2])
                    yield from compare(self.family, _named(rule), {}, found)


def _target(rule: str) -> str:
    return rule.rpartition("-j ")[2].split(" ")[0]


def _where(rule: str) -> Where:
    """The address, port and protocol that a line of a shared chain is for."""
    address, number, protocol = _ADDRESS.search(f"{rule} "), _NUMBER.search(rule), _PROTOCOL.search(rule)
    return (
        canonical_ip(address[1]) if address else None,
        int(number[1]) if number else 0,
        protocol[1] if protocol else "",
    )


def _keys(frontends: Frontends) -> list[Where]:
    found = [(one.address, one.port, one.protocol.lower()) for one in frontends.frontends]
    if frontends.health_check_port:
        found.append((None, frontends.health_check_port, "tcp"))
    return list(dict.fromkeys(found))


def _named(rule: str) -> ServicePortName | None:
    """The service port that a rule's comment names."""
    match, protocol = _COMMENT.search(rule), _PROTOCOL.search(rule)
    if match is None or "/" not in match[1]:
        return None
    return port_name(match[1], protocol[1] if protocol else "")
