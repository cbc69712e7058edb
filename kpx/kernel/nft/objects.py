"""Tables, chains, rules and sets as values, and their netlink attributes.

An object does not name its table: a transaction and a dump do. ``parse_x(render_x(table, x)) == x`` for all of them.
Layouts: ``linux/netfilter/nf_tables.h``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag

from kpx.kernel.netlink import attribute, attributes, be32, nested, string, text
from kpx.kernel.nft.coding import parse_expression, render_expression
from kpx.kernel.nft.expressions import Expression
from kpx.kernel.nft.userdata import OBJECT_COMMENT, comment_record, read_comment
from kpx.kernel.nft.wire import LIST_ELEM, TableName, unsigned

_TABLE_NAME, _TABLE_FLAGS, _TABLE_USERDATA = 1, 2, 6
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE, _CHAIN_USERDATA = 1, 3, 4, 5, 7, 12
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_RULE_TABLE, _RULE_CHAIN, _RULE_HANDLE, _RULE_EXPRESSIONS, _RULE_USERDATA = 1, 2, 3, 4, 7


class TableFlag(IntFlag):
    """DORMANT: its base chains are not hooked. OWNER: it belongs to the socket that made it, and goes with it."""

    NONE = 0
    DORMANT = 1
    OWNER = 2


@dataclass(frozen=True, slots=True)
class Table:
    """The properties of a table itself."""

    comment: str = ""
    flags: TableFlag = TableFlag.NONE


class HookPoint(IntEnum):
    """Where a base chain of an ip, ip6 or inet table hangs (NF_INET_*)."""

    PREROUTING = 0
    INPUT = 1
    FORWARD = 2
    OUTPUT = 3
    POSTROUTING = 4
    INGRESS = 5


class Policy(IntEnum):
    """What becomes of a packet at the end of a base chain."""

    DROP = 0
    ACCEPT = 1


@dataclass(frozen=True, slots=True)
class Hook:
    """What makes a chain a base chain: its type (``filter``, ``nat``, ``route``), place, order and policy."""

    type: str
    point: HookPoint
    priority: int
    policy: Policy = Policy.ACCEPT


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain; without a `hook` it is only reached by jump and goto."""

    name: str
    hook: Hook | None = None
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of a chain: its expressions in order."""

    chain: str
    expressions: tuple[Expression, ...]
    comment: str = ""


def comment_attribute(kind: int, comment: str, record: int = OBJECT_COMMENT) -> bytes:
    """The user data attribute of an object that holds a comment and nothing else; empty without one."""
    return attribute(kind, comment_record(comment, record)) if comment else b""


def render_table(table: TableName, value: Table) -> bytes:
    """The attributes of NFT_MSG_NEWTABLE."""
    flags = be32(_TABLE_FLAGS, value.flags)
    return text(_TABLE_NAME, table.name) + flags + comment_attribute(_TABLE_USERDATA, value.comment)


def parse_table(found: dict[int, memoryview]) -> Table:
    """The table in a message's attributes."""
    return Table(_comment(found, _TABLE_USERDATA), TableFlag(unsigned(found.get(_TABLE_FLAGS, _NOTHING))))


def render_chain(table: TableName, chain: Chain) -> bytes:
    """The attributes of NFT_MSG_NEWCHAIN."""
    parts = [text(_CHAIN_TABLE, table.name), text(_CHAIN_NAME, chain.name)]
    if chain.hook is not None:
        priority = attribute(_HOOK_PRIORITY, chain.hook.priority.to_bytes(4, "big", signed=True))
        parts += [
            nested(_CHAIN_HOOK, be32(_HOOK_NUMBER, chain.hook.point), priority),
            be32(_CHAIN_POLICY, chain.hook.policy),
            text(_CHAIN_TYPE, chain.hook.type),
        ]
    parts.append(comment_attribute(_CHAIN_USERDATA, chain.comment))
    return b"".join(parts)


def parse_chain(found: dict[int, memoryview]) -> Chain:
    """The chain in a message's attributes."""
    hook = None
    if _CHAIN_HOOK in found:
        place = dict(attributes(found[_CHAIN_HOOK]))
        hook = Hook(
            string(found[_CHAIN_TYPE]),
            HookPoint(unsigned(place[_HOOK_NUMBER])),
            int.from_bytes(place[_HOOK_PRIORITY], "big", signed=True),
            Policy(unsigned(found[_CHAIN_POLICY])),
        )
    return Chain(string(found[_CHAIN_NAME]), hook, _comment(found, _CHAIN_USERDATA))


def render_rule(table: TableName, rule: Rule, handle: int | None = None) -> bytes:
    """The attributes of NFT_MSG_NEWRULE; `handle` names the rule to replace."""
    return b"".join(
        (
            text(_RULE_TABLE, table.name),
            text(_RULE_CHAIN, rule.chain),
            attribute(_RULE_HANDLE, handle.to_bytes(8, "big")) if handle is not None else b"",
            nested(_RULE_EXPRESSIONS, *(nested(LIST_ELEM, render_expression(each)) for each in rule.expressions)),
            comment_attribute(_RULE_USERDATA, rule.comment),
        )
    )


def parse_rule(found: dict[int, memoryview]) -> Rule:
    """The rule in a message's attributes."""
    listed = attributes(found.get(_RULE_EXPRESSIONS, _NOTHING))
    expressions = tuple(parse_expression(view) for _, view in listed)
    return Rule(string(found[_RULE_CHAIN]), expressions, _comment(found, _RULE_USERDATA))


_NOTHING = memoryview(b"")


def _comment(found: dict[int, memoryview], kind: int) -> str:
    return read_comment(found.get(kind, _NOTHING))
