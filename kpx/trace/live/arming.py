"""How the kernel is told which packets to report on: a table of nftables, or where it has none, rules of iptables.

The mark that either sets on a packet is one and the same: both sorts of tables report on it. Packets are marked before
any other table sees them. Of TCP that is the first segment of each connection; of other protocols, the first packet of
a flow for some time in nftables, every packet in iptables.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

from kpx.kernel.conntrack_events import Wanted
from kpx.kernel.headers import ACK, RST, SYN, TCP
from kpx.kernel.nft import rules as nft
from kpx.kernel.nft.expressions import (
    Bitwise,
    Cmp,
    CmpOp,
    Ct,
    CtKey,
    Expression,
    Immediate,
    Meta,
    MetaKey,
    Payload,
    PayloadBase,
)
from kpx.kernel.nft.objects import Chain, Hook, HookPoint, Rule, Table, TableFlag
from kpx.kernel.nft.rules import Action, rule
from kpx.kernel.nft.selectors import (
    Selector,
    daddr,
    fib_daddr_type,
    iifname,
    l4proto,
    nfproto,
    saddr,
    th_dport,
    th_sport,
)
from kpx.kernel.nft.sets import Set, SetFlag
from kpx.kernel.nft.transaction import Operation, Transaction, add, create
from kpx.kernel.nft.wire import NfFamily, TableName
from kpx.net import Family, packed
from kpx.trace.live.wanted import Origin, Senders

TABLE_PREFIX = "kpx-trace"
ANSWERS = "answers"  # how the names of the chains begin that mark answers

_BEFORE_ALL = -350  # behind defragmentation (-400), before the tables raw (-300)
_BEHIND_CONNTRACK = -199
_ORIGINAL, _REPLY = 0, 1  # IP_CT_DIR_*
_CT_ADDRESS = {Family.IPV4: CtKey.DST_IP, Family.IPV6: CtKey.DST_IP6}
_CHAINS = {HookPoint.PREROUTING: "prerouting", HookPoint.OUTPUT: "output"}
_FAMILIES = {Family.IPV4: NfFamily.IP, Family.IPV6: NfFamily.IP6}
_PROTOCOLS = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp", socket.IPPROTO_SCTP: "sctp"}
_FLAGS_OFFSET = 13
_REMEMBERED_MILLISECONDS = 60_000
_REMEMBERED_FLOWS = 65_536


def table_name(port: int) -> TableName:
    """The table of a trace: one for each, so that several do not meet. `port` is its netlink port."""
    return TableName(NfFamily.INET, f"{TABLE_PREFIX}-{port}")


def table(name: TableName, wanted: Sequence[Wanted], senders: Senders, rate: int, *, owned: bool) -> Transaction:
    """A table that marks packets, at most `rate` a second of each of the `wanted`; `owned` ones go with their maker."""
    flags = TableFlag.OWNER if owned else TableFlag.NONE
    operations: list[Operation] = [create(Table("kpx trace --live", flags))]
    families = dict.fromkeys(one.family for one in wanted if one.protocol != TCP)
    operations += [add(_seen(family)) for family in families]
    for hook, chain in _CHAINS.items():
        if _concerned(hook, senders):
            operations.append(add(Chain(chain, Hook("filter", hook, _BEFORE_ALL))))
            operations += [add(one) for each in wanted for one in _marking(chain, hook, each, senders, rate)]
        answers = f"{ANSWERS}-{chain}"
        operations.append(add(Chain(answers, Hook("filter", hook, _BEHIND_CONNTRACK))))
        operations += [add(one) for each in wanted for one in _marking_answers(answers, each, rate)]
    return Transaction(name, tuple(operations))


def _concerned(hook: HookPoint, senders: Senders) -> bool:
    """Whether packets of the senders can come by a hook; those of an address by either."""
    only = {Origin.NODE: HookPoint.OUTPUT, Origin.POD: HookPoint.PREROUTING, Origin.EXTERNAL: HookPoint.PREROUTING}
    return only.get(senders.origin, hook) is hook


def _seen(family: Family) -> Set:
    """The flows whose first packet was marked."""
    return Set(
        f"seen-{_FAMILIES[family].nft_name}",
        _flow(family),
        flags=SetFlag.DYNAMIC | SetFlag.TIMEOUT,
        timeout=_REMEMBERED_MILLISECONDS,
        size=_REMEMBERED_FLOWS,
    )


def _flow(family: Family) -> tuple[Selector, ...]:
    kind = _FAMILIES[family]
    return (saddr(kind), th_sport, daddr(kind), th_dport)


def _marking(chain: str, hook: HookPoint, wanted: Wanted, senders: Senders, rate: int) -> Iterator[Rule]:
    """The rules that mark the packets of one sort."""
    yield from _once(chain, wanted, list(_matches(hook, wanted, senders)), _FIRST_SEGMENT, rate)


def _once(chain: str, wanted: Wanted, terms: Sequence[Selector | Action], segment: Action, rate: int) -> Iterator[Rule]:
    """Rules that mark one packet of a flow in one direction: of TCP a certain `segment`, else the first."""
    limit = nft.limit(rate, burst=rate)
    if wanted.protocol == TCP:
        yield rule(chain, *terms, segment, limit, _MARK)
        return
    seen, flow = _seen(wanted.family).name, _flow(wanted.family)
    yield rule(chain, *terms, *flow, nft.among(seen), nft.leave)
    yield rule(chain, *terms, limit, *flow, nft.update(seen), _MARK)


def _marking_answers(chain: str, wanted: Wanted, rate: int) -> Iterator[Rule]:
    """The same for the answers: for TCP the one to the first segment, be it a reset."""
    address = Ct(_CT_ADDRESS[wanted.family], target=0, direction=_ORIGINAL)
    terms = [
        *_of_family(wanted),
        _action(Ct(CtKey.DIRECTION, target=0), Cmp(CmpOp.EQ, bytes([_REPLY]))),
        _action(Ct(CtKey.PROTO_DST, target=0, direction=_ORIGINAL), Cmp(CmpOp.EQ, wanted.port.to_bytes(2, "big"))),
        *([_action(address, Cmp(CmpOp.EQ, packed(wanted.address)))] if wanted.address else []),
    ]
    yield from _once(chain, wanted, terms, _ANSWERING_SEGMENT, rate)


def _of_family(wanted: Wanted) -> Iterator[Selector | Action]:
    yield from (nfproto, nft.eq({Family.IPV4: "ipv4", Family.IPV6: "ipv6"}[wanted.family]))
    yield from (l4proto, nft.eq(_PROTOCOLS[wanted.protocol]))


def _matches(hook: HookPoint, wanted: Wanted, senders: Senders) -> Iterator[Selector | Action]:
    kind = _FAMILIES[wanted.family]
    yield from _of_family(wanted)
    yield from (th_dport, nft.eq(wanted.port))
    yield from (daddr(kind), nft.eq(wanted.address)) if wanted.address else (fib_daddr_type, nft.eq("local"))
    if wanted.source:
        yield from (saddr(kind), nft.eq(wanted.source))
    if wanted.source_port:
        yield from (th_sport, nft.eq(wanted.source_port))
    uplink = senders.uplink(wanted.family)
    if hook is HookPoint.PREROUTING and uplink and senders.origin is Origin.POD:
        yield from (iifname, nft.ne(uplink))
    if hook is HookPoint.PREROUTING and uplink and senders.origin is Origin.EXTERNAL:
        yield from (iifname, nft.eq(uplink))


def _action(*expressions: Expression) -> Action:
    return Action(lambda _: expressions)


_FIRST_SEGMENT = _action(
    Payload(PayloadBase.TRANSPORT, _FLAGS_OFFSET, 1, 0),
    Bitwise(bytes([SYN | ACK]), b"\0", 1),
    Cmp(CmpOp.EQ, bytes([SYN])),
)
_ANSWERING_SEGMENT = _action(
    Payload(PayloadBase.TRANSPORT, _FLAGS_OFFSET, 1, 0),
    Bitwise(bytes([SYN | RST]), b"\0", 1),
    Cmp(CmpOp.NE, b"\0"),
)
_MARK = _action(Immediate(b"\1"), Meta(MetaKey.NFTRACE, target=None, source=0))


def tracing_rules(wanted: Wanted, senders: Senders, rate: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The rules of iptables that mark packets of one sort: the chain of table raw, and the words of the rule."""
    for hook, chain in _CHAINS.items():
        if _concerned(hook, senders):
            yield chain.upper(), tuple(_words(hook, wanted, senders, rate))


def _words(hook: HookPoint, wanted: Wanted, senders: Senders, rate: int) -> Iterator[str]:
    name = _PROTOCOLS[wanted.protocol]
    yield from ("-p", name, "-m", name, "--dport", str(wanted.port))
    if wanted.source_port:
        yield from ("--sport", str(wanted.source_port))
    if wanted.protocol == TCP:
        yield from ("--tcp-flags", "SYN,ACK", "SYN")
    yield from ("-d", wanted.address) if wanted.address else ("-m", "addrtype", "--dst-type", "LOCAL")
    if wanted.source:
        yield from ("-s", wanted.source)
    uplink = senders.uplink(wanted.family)
    if hook is HookPoint.PREROUTING and uplink and senders.origin is Origin.POD:
        yield from ("!", "-i", uplink)
    if hook is HookPoint.PREROUTING and uplink and senders.origin is Origin.EXTERNAL:
        yield from ("-i", uplink)
    yield from ("-m", "limit", "--limit", f"{rate}/second", "--limit-burst", str(min(rate, 10_000)))
    yield from ("-m", "comment", "--comment", "kpx trace --live", "-j", "TRACE")
