"""Rules of kube-proxy's chains in iptables -> facts. Pure. No comment is read: names come from hashes and addresses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from kpx.diff.facts import Aspect, Fact, Facts
from kpx.net import canonical_ip, join_port
from kpx.proxier.iptables import names
from kpx.trace.iptables_text import parse

# What has no effect on where a packet goes.
_IDLE_MATCHES = ("comment", "nfacct")
_IDLE_OPTIONS = ("--mask", "--rsource", "--reap", "--mode", "--random-fully", "--reject-with", "--name")
_LISTS = {
    "KUBE-SVC-": "all endpoints",
    "KUBE-SVL-": "the endpoints of this node",
    "KUBE-EXT-": "the external traffic policy",
    "KUBE-FW-": "the check of its sources",
}
_PREFIX = {"KUBE-SVC-": "", "KUBE-SVL-": " (policy Local)"}
_VERDICTS = {"REJECT": "reject", "DROP": "drop"}
_EVEN = "evenly"
_PROBABILITY_ERROR = 1e-4

Found = tuple[Aspect, str, str]


class Terms:
    """A rule's matches by option, each taken once; what is left in the end has not been understood."""

    def __init__(self, rule: str) -> None:
        parsed = parse(rule)
        self.target = parsed.target
        self.to = next((one.value for one in parsed.options if one.name == "--to-destination"), "")
        self._options = {
            (one.name, one.negated): one.value
            for match in parsed.matches
            if match.module not in _IDLE_MATCHES
            for one in match.options
            if one.name not in _IDLE_OPTIONS
        }

    def take(self, name: str, *, negated: bool = False) -> str:
        """The value of an option, empty for none."""
        return self._options.pop((name, negated), "")

    def has(self, name: str) -> bool:
        """Whether there is an option, which may have no value."""
        return self._options.pop((name, False), None) is not None

    def where_to(self) -> str:
        """``address:port``, or ``node port N``; the protocol goes with it."""
        address, port, protocol = self.take("-d").partition("/")[0], self.take("--dport"), self.take("-p")
        local = self.take("--dst-type") == "LOCAL"
        if not port.isdigit() or not protocol:
            return ""
        if not address:
            return place(None, int(port), protocol)
        return "" if local else place(canonical_ip(address), int(port), protocol)

    def sender(self) -> str:
        """Whose packets: `` from 10.0.0.0/8``, `` from outside 10.0.0.0/8``, `` from this node``; nothing for all."""
        words = []
        for name, negated, text in (
            ("-s", False, " from {}"),
            ("-s", True, " from outside {}"),
            ("-i", False, " in by {}"),
            ("-i", True, " in by others than {}"),
        ):
            if value := self.take(name, negated=negated):
                words.append(text.format(value))
        if self.take("--src-type") == "LOCAL":
            words.append(" from this node")
        return "".join(words)

    @property
    def understood(self) -> bool:
        return not self._options


def place(address: str | None, port: int, protocol: str) -> str:
    """An address of a service port, in words: ``10.96.0.1:80/TCP``, ``node port 30080/TCP``."""
    where = join_port(address, port) if address else f"node port {port}"
    return f"{where}/{protocol.upper()}"


@dataclass(frozen=True, slots=True)
class Held:
    """The rules of one service port, or of what may be one: its chains, and its lines in shared chains.

    ``lines`` are (table, chain, rule).
    """

    chains: Mapping[str, Iterable[str]]
    lines: Iterable[tuple[str, str, str]]


def facts(held: Held, own: str, unasked: Iterable[str] = ()) -> Facts:
    """What the rules say. `own` is the hash of the service port; source ranges `unasked` are passed over."""
    found: Facts = {}
    endpoints = destinations(held.chains)
    skipped = set(unasked)
    for table, chain, rule in held.lines:
        _put(found, _line(chain, Terms(rule), own), f"-t {table} {chain}", rule)
    for chain, rules in held.chains.items():
        listed = tuple(rules)
        for rule in listed:
            for one in _in_chain(chain, rule, own, endpoints):
                if not (one and one[0] is Aspect.SOURCES and one[1].partition("/")[0] in skipped):
                    _put(found, one, f"-t nat {chain}", rule)
        if spread := _balance(chain, listed):
            found[Aspect.BALANCE, spread[0]] = Fact(spread[1], f"-t nat {chain}")
    return found


def _put(found: Facts, one: Found | None, where: str, rule: str) -> None:
    """Note a fact, or else the rule as it is."""
    if one is None:
        one = Aspect.RULE, f"rule '{where.partition(' ')[2]} {rule}'", ""
    found.setdefault((one[0], one[1]), Fact(one[2], where, rule))


def destinations(chains: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Where each chain of an endpoint leads."""
    found = {}
    for chain, rules in chains.items():
        if chain.startswith("KUBE-SEP-"):
            for rule in rules:
                _, translates, to = rule.partition("-j DNAT --to-destination ")
                if translates:
                    found[chain] = to.split(" ")[0]
    return found


def _leads(target: str, own: str) -> str:
    for prefix, words in _LISTS.items():
        if target.startswith(prefix):
            return words if target == prefix + own else f"the chain {target} of another Service"
    return _VERDICTS.get(target, target)


def _line(chain: str, terms: Terms, own: str) -> Found | None:
    """A line of a chain that all share."""
    to = terms.where_to()
    if chain == names.NODE_PORTS and terms.target == "ACCEPT" and terms.understood:
        return Aspect.HEALTH_CHECK, to.removeprefix("node port "), "accept"
    if not to or not terms.understood:
        return None
    if chain == names.PROXY_FIREWALL:
        return Aspect.SOURCES, f"others are dropped at {to}", _leads(terms.target, own)
    if terms.target in _VERDICTS:
        return Aspect.REFUSAL, to, _VERDICTS[terms.target]
    return Aspect.ADDRESS, to, _leads(terms.target, own)


def _in_chain(chain: str, rule: str, own: str, endpoints: Mapping[str, str]) -> Iterator[Found | None]:
    """A rule in a chain of the service port's own."""
    terms = Terms(rule)
    if chain.startswith("KUBE-SEP-"):
        yield from _endpoint(terms, endpoints.get(chain, ""))
    elif chain.startswith("KUBE-FW-"):
        if terms.target:
            source = terms.take("-s")
            yield (Aspect.SOURCES, source, "allowed") if source and terms.understood else None
    elif chain.startswith("KUBE-EXT-"):
        sender = terms.sender()
        if not terms.understood:
            yield None
        elif terms.target == names.MARK_MASQ:
            yield Aspect.MASQUERADE, f"external traffic{sender}", "always"
        else:
            yield Aspect.POLICY, f"external traffic{sender}", _leads(terms.target, own)
    else:
        yield from _choice(chain, terms, endpoints)


def _choice(chain: str, terms: Terms, endpoints: Mapping[str, str]) -> Iterator[Found | None]:
    """A rule of a list of endpoints: it marks what is to be masqueraded, or leads to an endpoint."""
    suffix = _PREFIX.get(chain[: len("KUBE-SVC-")], "")
    if terms.target == names.MARK_MASQ:
        to, sender = terms.where_to(), terms.sender().strip()
        yield (Aspect.MASQUERADE, f"traffic to {to}", sender or "all of it") if to and terms.understood else None
        return
    terms.take("--probability")
    remembered, seconds = terms.has("--rcheck"), terms.take("--seconds")
    to = endpoints.get(terms.target, "")
    if not terms.understood or not terms.target.startswith("KUBE-SEP-"):
        yield None
    elif to and remembered:
        yield Aspect.AFFINITY, f"{to}{suffix}", f"for {seconds} s"
    elif to:
        yield Aspect.ENDPOINT, f"{to}{suffix}", ""


def _endpoint(terms: Terms, to: str) -> Iterator[Found | None]:
    if terms.target == names.MARK_MASQ:
        source = terms.take("-s").partition("/")[0]
        own = to.rpartition(":")[0].strip("[]")
        yield (Aspect.HAIRPIN, to, "") if source == own and terms.understood else None
        return
    noted = terms.has("--set")
    terms.take("-p")
    if terms.target != "DNAT" or not terms.understood:
        yield None
    elif noted:
        yield Aspect.AFFINITY, f"the clients of {to}", "noted"


def _balance(chain: str, rules: Iterable[str]) -> tuple[str, str] | None:
    """Whether a list of endpoints spreads connections evenly: the chances of its rules are 1/n, 1/(n-1), ... 1."""
    if not chain.startswith(("KUBE-SVC-", "KUBE-SVL-")):
        return None
    chances = [
        float(terms.take("--probability") or 1.0)
        for terms in map(Terms, rules)
        if terms.target.startswith("KUBE-SEP-") and not terms.has("--rcheck")
    ]
    count = len(chances)
    even = all(abs(chance - 1 / (count - at)) < _PROBABILITY_ERROR for at, chance in enumerate(chances))
    what = _LISTS[chain[: len("KUBE-SVC-")]]
    return (what, _EVEN if even else f"by the chances {', '.join(f'{one:.4g}' for one in chances)}") if count else None
