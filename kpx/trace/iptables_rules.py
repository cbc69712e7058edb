"""Rules of iptables: what they do with a packet. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from kpx.net import canonical_ip
from kpx.trace.facts import Facts
from kpx.trace.iptables_matches import judge, masked
from kpx.trace.iptables_text import Parsed, parse, split_line
from kpx.trace.judgement import Judgement, outcomes
from kpx.trace.outcome import Outcome, Verb
from kpx.trace.packet import Packet

# Targets that let the packet go on, and change nothing that this walk looks at.
_PASSIVE = {
    "LOG",
    "NFLOG",
    "ULOG",
    "TRACE",
    "AUDIT",
    "CHECKSUM",
    "TCPMSS",
    "TCPOPTSTRIP",
    "TTL",
    "HL",
    "DSCP",
    "TOS",
    "ECN",
    "CLASSIFY",
    "SECMARK",
    "CONNSECMARK",
    "SET",
    "LED",
    "IDLETIMER",
    "RATEEST",
    "TEE",
    "HMARK",
}
_FINAL = {"ACCEPT": Verb.ACCEPT, "DROP": Verb.DROP, "RETURN": Verb.RETURN, "REJECT": Verb.REJECT}
_UNMODELLED = {
    "NFQUEUE",
    "QUEUE",
    "TPROXY",
    "SYNPROXY",
    "NETMAP",
    "CLUSTERIP",
    "MIRROR",
    "SAME",
    "DNPT",
    "SNPT",
    "ECHO",
}

Effect = Callable[[Parsed, Packet, Facts], Outcome]


class IptablesRule:
    """A rule as it is printed; it is taken apart when a packet first comes near."""

    __slots__ = ("_facts", "_host", "_parsed", "packets", "text")

    def __init__(self, line: str, facts: Facts) -> None:
        _, self.text, self.packets = split_line(line)
        self._facts = facts
        self._parsed: Parsed | None = None
        self._host = _only_host(self.text)

    def outcomes(self, packet: Packet) -> Sequence[Outcome]:
        if self._host and self._host != packet.destination:
            return (Outcome(Verb.NEXT, packet, matched=False, note=f"the destination is {packet.destination}"),)
        parsed = self.parsed
        judged: list[Judgement] = [judge(match, packet, self._facts) for match in parsed.matches]
        return outcomes(packet, judged, _effect(parsed, packet, self._facts))

    @property
    def parsed(self) -> Parsed:
        if self._parsed is None:
            self._parsed = parse(self.text)
        return self._parsed


def _only_host(rule: str) -> str:
    """The single address that a rule is for, where it says so in front: most rules of big chains."""
    if not rule.startswith("-d "):
        return ""
    address, _, length = rule[3 : rule.find(" ", 3)].partition("/")
    return address if length in ("32", "128") else ""


def _effect(rule: Parsed, packet: Packet, facts: Facts) -> Outcome:
    """What a rule does where it matches."""
    target = rule.target
    if not target or target in _PASSIVE:
        return Outcome(Verb.NEXT, packet, note=target)
    if target in _FINAL:
        return Outcome(_FINAL[target], packet, note=target.lower(), effective=target != "RETURN")
    if target in _EFFECTS:
        return _EFFECTS[target](rule, packet, facts)
    if target in _UNMODELLED:
        return Outcome(Verb.STOP, packet, note=f"what {target} does with the packet is not modelled", effective=True)
    return Outcome(Verb.GOTO if rule.goto else Verb.JUMP, packet, chain=target, note=leads(rule))


def leads(rule: Parsed) -> str:
    """``jump CHAIN`` or ``goto CHAIN``; empty for a rule that leads to no other chain."""
    if not rule.target or rule.target in _EXTENSIONS:
        return ""
    return f"{Verb.GOTO.value if rule.goto else Verb.JUMP.value} {rule.target}"


def _changed(packet: Packet, note: str, verb: Verb = Verb.NEXT) -> Outcome:
    return Outcome(verb, packet, note=note, effective=True)


def _mark(rule: Parsed, packet: Packet, _facts: Facts) -> Outcome:
    value, mask = _mark_change(rule)
    mark = packet.mark & ~mask & 0xFFFFFFFF ^ value
    return _changed(replace(packet, mark=mark), f"mark {mark:#x}")


def _mark_change(rule: Parsed) -> tuple[int, int]:
    """The value and the mask of ``mark = mark & ~mask ^ value``."""
    for option in rule.options:
        value, mask = masked(option.value)
        match option.name:
            case "--set-xmark":
                return value, mask
            case "--set-mark":
                return value, value | mask
            case "--or-mark":
                return value, value
            case "--and-mark":
                return 0, ~value & 0xFFFFFFFF
            case "--xor-mark":
                return value, 0
    return 0, 0


def _connection_mark(rule: Parsed, packet: Packet, _facts: Facts) -> Outcome:
    def of(name: str) -> int:
        option = rule.option(name)
        return int(option.value, 0) if option else 0xFFFFFFFF

    of_packet, of_flow = of("--nfmask"), of("--ctmask")
    if rule.option("--restore-mark"):
        mark = packet.mark & ~of_packet & 0xFFFFFFFF ^ (packet.ct_mark & of_flow)
        return Outcome(Verb.NEXT, replace(packet, mark=mark), note=f"mark {mark:#x}", effective=mark != packet.mark)
    if rule.option("--save-mark"):
        mark = packet.ct_mark & ~of_flow & 0xFFFFFFFF ^ (packet.mark & of_packet)
    else:
        value, mask = _mark_change(rule)
        mark = packet.ct_mark & ~mask & 0xFFFFFFFF ^ value
    return Outcome(Verb.NEXT, replace(packet, ct_mark=mark), note=f"connmark {mark:#x}")


def _dnat(rule: Parsed, packet: Packet, _facts: Facts) -> Outcome:
    option = rule.option("--to-destination")
    found = _destination(option.value) if option else None
    if found is None:
        return Outcome(Verb.STOP, packet, note="the destination is one of a range", effective=True)
    address, port = found
    changed = packet.translated(address, port)
    return _changed(changed, f"dnat to {changed.target}", Verb.ACCEPT)


def _destination(text: str) -> tuple[str, int | None] | None:
    """``10.0.0.1:80``, ``[fd00::1]:80``, ``10.0.0.1`` or ``:80``; None for a range of several."""
    if text.startswith("["):
        address, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") > 1:
        address, port = text, ""
    else:
        address, _, port = text.partition(":")
    first, _, last = address.partition("-")
    low, _, high = port.partition("/")[0].partition("-")
    if (last and last != first) or (high and high != low) or (first and canonical_ip(first) is None):
        return None
    return canonical_ip(first) or "", int(low) if low else None


def _redirect(rule: Parsed, packet: Packet, facts: Facts) -> Outcome:
    option = rule.option("--to-ports")
    address = facts.own_address(packet.incoming)
    if not address or (option and not option.value.isdigit()):
        return Outcome(Verb.STOP, packet, note="where the packet is redirected to is not known", effective=True)
    changed = packet.translated(address, int(option.value) if option else None)
    return _changed(changed, f"redirect to {changed.target}", Verb.ACCEPT)


def _snat(rule: Parsed, packet: Packet, _facts: Facts) -> Outcome:
    option = rule.option("--to-source")
    found = _destination(option.value) if option else None
    if found is None or not found[0]:
        return Outcome(Verb.STOP, packet, note="the source is one of a range", effective=True)
    random = any(one.name.startswith("--random") for one in rule.options) or found[1] is not None
    return _changed(packet.sent_as(found[0], random_port=random), f"snat to {found[0]}", Verb.ACCEPT)


def _masquerade(rule: Parsed, packet: Packet, facts: Facts) -> Outcome:
    random = any(one.name.startswith("--random") for one in rule.options)
    return masqueraded(packet, facts, random=random)


def masqueraded(packet: Packet, facts: Facts, *, random: bool) -> Outcome:
    """What masquerading does, in every language."""
    address = facts.masquerade_address(packet)
    note = f"masquerade as {address}" if address else "masquerade"
    return _changed(packet.sent_as(address, masqueraded=True, random_port=random), note, Verb.ACCEPT)


def _tracking(rule: Parsed, packet: Packet, _facts: Facts) -> Outcome:
    if rule.target == "NOTRACK" or rule.option("--notrack"):
        return _changed(replace(packet, state="UNTRACKED"), "notrack")
    return Outcome(Verb.NEXT, packet, note="ct")


_EFFECTS: dict[str, Effect] = {
    "MARK": _mark,
    "CONNMARK": _connection_mark,
    "DNAT": _dnat,
    "REDIRECT": _redirect,
    "SNAT": _snat,
    "MASQUERADE": _masquerade,
    "NOTRACK": _tracking,
    "CT": _tracking,
}
_EXTENSIONS = {*_PASSIVE, *_FINAL, *_UNMODELLED, *_EFFECTS}
