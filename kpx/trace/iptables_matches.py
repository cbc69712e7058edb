"""The matches of iptables rules, judged. What is not in the table at the end is not evaluated. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import lru_cache

from kpx.kernel.ipset import Entry
from kpx.trace.facts import Facts
from kpx.trace.iptables_text import Match, Option
from kpx.trace.judgement import YES, Answer, Judgement, told, unknown
from kpx.trace.packet import PROTOCOL_NUMBERS, Packet

Judge = Callable[[Match, Packet, Facts], Judgement]

_CONNTRACK_STATES = {"NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED"}
_ADDRESS_TYPES = {"LOCAL", "UNICAST", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE", "PROHIBIT"}


def judge(match: Match, packet: Packet, facts: Facts) -> Judgement:
    """Whether a match holds for a packet."""
    judging = _JUDGES.get(match.module)
    return judging(match, packet, facts) if judging else unknown(str(match))


def in_network(network: str, address: str) -> bool:
    """Whether an address is in a network, written with the length of its prefix or with a mask of any bits."""
    base, mask = _network(network)
    asked = _address(address)
    return base.version == asked.version and int(asked) & mask == int(base) & mask


@lru_cache(maxsize=4096)
def _address(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(address)


@lru_cache(maxsize=4096)
def _network(network: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    base, _, length = network.partition("/")
    address = ipaddress.ip_address(base)
    bits = address.max_prefixlen
    if not length:
        return address, (1 << bits) - 1
    if length.isdigit():
        return address, (1 << bits) - (1 << bits - int(length))
    return address, int(ipaddress.ip_address(length))


def _plain(match: Match, packet: Packet, _facts: Facts) -> Judgement:
    (option,) = match.options
    value = option.value
    match option.name:
        case "-s":
            return _told(option, in_network(value, packet.source), f"the source is {packet.source}")
        case "-d":
            host = not option.negated and value.partition("/")[2] in ("", "32", "128")
            words = f"the destination is {packet.destination}"
            return _told(option, in_network(value, packet.destination), words, specific=host)
        case "-i":
            return _told(option, _interface(value, packet.incoming), _words("comes in by", packet.incoming))
        case "-o":
            return _told(option, _interface(value, packet.outgoing), _words("leaves by", packet.outgoing))
        case "-p":
            return _told(option, _protocol(value, packet), f"the protocol is {packet.protocol}")
        case "-f":
            return _told(option, False, "the packet is no fragment")
    return unknown(str(match))


def _told(option: Option, holds: bool, field: str, *, specific: bool = False) -> Judgement:
    return told(holds != option.negated, f"{option}: {field}", specific=specific)


def _words(verb: str, interface: str) -> str:
    return f"it {verb} {interface or 'no interface'}"


def _interface(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) and bool(name) if pattern.endswith("+") else name == pattern


def _protocol(value: str, packet: Packet) -> bool:
    return value in ("all", packet.protocol, str(PROTOCOL_NUMBERS[packet.protocol]))


def _in_ports(values: str, port: int) -> bool:
    for one in values.split(","):
        first, _, last = one.partition(":")
        if int(first or 0) <= port <= int(last or (65535 if ":" in one else first)):
            return True
    return False


def _transport(match: Match, packet: Packet, _facts: Facts) -> Judgement:
    return _all(match, packet, _transport_option)


def _transport_option(option: Option, packet: Packet) -> Judgement:
    match option.name:
        case "--dport" | "--dports" | "--destination-port" | "--destination-ports":
            holds = _in_ports(option.value, packet.port)
            return _told(option, holds, f"the port is {packet.port}", specific=not option.negated)
        case "--tcp-flags" if packet.state == "NEW" and len(option.values) == 2:
            looked_at, wanted = (set(each.split(",")) for each in option.values)
            return _told(option, looked_at & {"SYN"} == wanted & looked_at, "the packet is a SYN")
        case "--syn" if packet.state == "NEW":
            return _told(option, packet.protocol == "tcp", "the packet is a SYN")
    return unknown(str(option))


def _all(match: Match, packet: Packet, each: Callable[[Option, Packet], Judgement]) -> Judgement:
    """All options of a match together: the first that fails, or else the first that is no plain yes."""
    judged = [each(option, packet) for option in match.options]
    for answer in (Answer.NO, Answer.UNKNOWN):
        for one in judged:
            if one.answer is answer:
                return one
    return told(True, "", specific=any(one.specific for one in judged))


def masked(text: str, bits: int = 0xFFFFFFFF) -> tuple[int, int]:
    """``0x4000/0x4000``: a value and its mask."""
    value, _, mask = text.partition("/")
    return int(value, 0), int(mask, 0) if mask else bits


def _mark(match: Match, packet: Packet, _facts: Facts) -> Judgement:
    option = match.option("--mark")
    if option is None:
        return unknown(str(match))
    value, mask = masked(option.value)
    held = packet.mark if match.module == "mark" else packet.ct_mark
    return _told(option, held & mask == value, f"the {match.module} is {held:#x}")


def _state(match: Match, packet: Packet, _facts: Facts) -> Judgement:
    return _all(match, packet, _state_option)


def _state_option(option: Option, packet: Packet) -> Judgement:
    match option.name:
        case "--ctstate" | "--state":
            held = {packet.state}
            held |= {"DNAT"} if packet.destination_translated else set()
            held |= {"SNAT"} if packet.source_translated else set()
            asked = set(option.value.split(","))
            if asked <= _CONNTRACK_STATES | {"DNAT", "SNAT"}:
                return _told(option, bool(held & asked), f"the connection is {' and '.join(sorted(held))}")
        case "--ctdir":
            return _told(option, option.value == "ORIGINAL", "the packet is of the original direction")
        case "--ctproto":
            return _told(option, _protocol(option.value, packet), f"the protocol is {packet.protocol}")
    return unknown(str(option))


def _address_type(match: Match, packet: Packet, facts: Facts) -> Judgement:
    def each(option: Option, packet: Packet) -> Judgement:
        asked = set(option.value.split(","))
        if option.name not in ("--src-type", "--dst-type") or not asked <= _ADDRESS_TYPES:
            return unknown(str(match))
        address = packet.source if option.name == "--src-type" else packet.destination
        held = facts.address_type(address).upper()
        return _told(option, held in asked, f"{address} is {held}")

    return _all(match, packet, each)


def _statistic(match: Match, _packet: Packet, _facts: Facts) -> Judgement:
    random, every = match.option("--probability"), match.option("--every")
    if random:
        share = float(random.value)
        return Judgement(Answer.CHANCE, str(match), 1.0 - share if random.negated else share)
    if every and int(every.value):
        share = 1.0 / int(every.value)
        return Judgement(Answer.CHANCE, str(match), 1.0 - share if every.negated else share)
    return unknown(str(match))


def _recent(match: Match, _packet: Packet, _facts: Facts) -> Judgement:
    noted = match.option("--set")
    if noted and not noted.negated:
        return YES
    name = match.option("--name")
    return Judgement(Answer.HISTORY, f"the client was noted in the list {name.value if name else 'DEFAULT'}")


def _set(match: Match, packet: Packet, facts: Facts) -> Judgement:
    if len(match.options) != 1 or len(match.options[0].values) != 2:
        return unknown(str(match))
    (option,) = match.options
    name, directions = option.values
    header = facts.ipset(name)
    if header is None:
        return unknown(f"{match} (there is no such set)")
    if header.family not in (None, packet.family):
        return told(option.negated, f"{option}: the set is of the other family")
    entry = _entry(header.type, directions.split(","), packet)
    if entry is None:
        return unknown(f"{match} (a set of type {header.type})")
    return _told(option, facts.in_ipset(name, entry), f"{entry}", specific=not option.negated)


def _entry(kind: str, directions: list[str], packet: Packet) -> Entry | None:
    """What a set of a type is asked for; None where the type has more than addresses and ports of this packet."""
    fields = kind.partition(":")[2].split(",")
    if len(fields) != len(directions):
        return None
    entry = Entry()
    for field, direction in zip(fields, directions, strict=True):
        address = packet.destination if direction == "dst" else packet.source
        if field in ("ip", "net"):
            suffix = f"/{packet.family.bits}" if field == "net" and entry.address else ""
            entry = entry._replace(second=address + suffix) if entry.address else entry._replace(address=address)
        elif field == "port" and direction == "dst":
            protocol = "" if kind.startswith("bitmap") else packet.protocol
            entry = entry._replace(port=packet.port, protocol=protocol)
        else:
            return None
    return entry


def _physical(match: Match, packet: Packet, facts: Facts) -> Judgement:
    if packet.incoming and facts.is_bridge(packet.incoming):
        return unknown(str(match))
    return _all(match, packet, lambda option, _: _told(option, False, "the packet came through no bridge"))


def _virtual(match: Match, packet: Packet, _facts: Facts) -> Judgement:
    def each(option: Option, packet: Packet) -> Judgement:
        virtual = packet.virtual
        words = "IPVS has not taken the packet"
        match option.name:
            case "--ipvs":
                return _told(option, virtual is not None, words)
            case "--vproto":
                return told(virtual is not None and _protocol(option.value, packet) != option.negated, words)
            case "--vaddr":
                holds = virtual is not None and in_network(option.value, virtual[0]) != option.negated
                return told(holds, f"{option}: the virtual server is {virtual}", specific=True)
            case "--vport":
                holds = virtual is not None and int(option.value) == virtual[1]
                return told(
                    virtual is not None and holds != option.negated, f"{option}: the virtual server is {virtual}"
                )
        return unknown(str(match))

    return _all(match, packet, each)


def _ignored(_match: Match, _packet: Packet, _facts: Facts) -> Judgement:
    return YES


_JUDGES: dict[str, Judge] = {
    "": _plain,
    **dict.fromkeys(("tcp", "udp", "sctp", "multiport"), _transport),
    **dict.fromkeys(("mark", "connmark"), _mark),
    **dict.fromkeys(("conntrack", "state"), _state),
    **dict.fromkeys(("comment", "nfacct"), _ignored),
    "addrtype": _address_type,
    "statistic": _statistic,
    "recent": _recent,
    "set": _set,
    "physdev": _physical,
    "ipvs": _virtual,
}
