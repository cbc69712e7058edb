"""Objects, elements and operations in nft's language: what `nft -f` would be given to do the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from kpx.kernel.nft.elements import CATCH_ALL, INTERVAL_END, Element
from kpx.kernel.nft.expressions import Verdict
from kpx.kernel.nft.objects import Chain, Rule, Table, TableFlag
from kpx.kernel.nft.rule_text import expressions_text
from kpx.kernel.nft.selectors import Field, Selector
from kpx.kernel.nft.sets import Set, SetFlag, unpack
from kpx.kernel.nft.wire import NfFamily

_SET_FLAGS = {
    SetFlag.CONSTANT: "constant",
    SetFlag.INTERVAL: "interval",
    SetFlag.TIMEOUT: "timeout",
    SetFlag.DYNAMIC: "dynamic",
}


def _block(properties: list[str]) -> str:
    return "{ " + " ".join(f"{each} ;" for each in properties) + " }" if properties else ""


def _comment(comment: str) -> list[str]:
    return [f'comment "{comment}"'] if comment else []


def table_text(table: Table) -> str:
    """What follows a table's name: its properties in braces, or nothing."""
    flags = [flag.name.lower() for flag in TableFlag if flag & table.flags and flag.name]
    return _block(([f"flags {','.join(flags)}"] if flags else []) + _comment(table.comment))


def chain_text(chain: Chain) -> str:
    """A chain's name and properties."""
    properties = []
    if chain.hook is not None:
        hook = chain.hook
        place = f"type {hook.type} hook {hook.point.name.lower()} priority {hook.priority}"
        properties = [place, f"policy {hook.policy.name.lower()}"]
    return f"{chain.name} {_block(properties + _comment(chain.comment))}".rstrip()


def rule_text(family: NfFamily, rule: Rule) -> str:
    """A rule without its chain."""
    return " ".join([expressions_text(family, rule.expressions), *_comment(rule.comment)])


def fields_text(fields: Sequence[Field]) -> str:
    """A set's key or data: ``ip daddr . meta l4proto`` or ``ipv4_addr . inet_proto``."""
    return " . ".join(field.text if isinstance(field, Selector) else field.name for field in fields)


def set_text(value: Set) -> str:
    """A set's name and properties."""
    word = "typeof" if isinstance(value.key[0], Selector) else "type"
    data = f" : {fields_text(value.data)}" if value.data else ""
    properties = [f"{word} {fields_text(value.key)}{data}"]
    flags = [name for flag, name in _SET_FLAGS.items() if flag in value.flags]
    if flags:
        properties.append(f"flags {','.join(flags)}")
    if value.timeout:
        properties.append(f"timeout {value.timeout}ms")
    if value.size:
        properties.append(f"size {value.size}")
    if value.counter:
        properties.append("counter")
    return f"{value.name} {_block(properties + _comment(value.comment))}"


def element_text(value: Set, element: Element, last: bytes | None = None) -> str:
    """An element of a set; `last` is the end of its range, in a plain interval set."""
    parts = [_key_text(value, element, element.key_end or last)]
    if element.timeout:
        parts.append(f"timeout {element.timeout}ms")
    if element.counter is not None:
        parts.append(f"counter packets {element.counter.packets} bytes {element.counter.bytes}")
    parts += _comment(element.comment)
    if element.data is not None:
        data = element.data
        parts += [":", str(data) if isinstance(data, Verdict) else " . ".join(unpack(value.data, data))]
    return " ".join(parts)


def _key_text(value: Set, element: Element, last: bytes | None) -> str:
    if element.flags & CATCH_ALL:
        return "*"
    first = unpack(value.key, element.key)
    ends = unpack(value.key, last) if last else first
    return " . ".join(low if low == high else f"{low}-{high}" for low, high in zip(first, ends, strict=True))


def elements_text(value: Set, elements: Sequence[Element]) -> Iterator[str]:
    """The elements of a set, each as `element_text`; in a plain interval set, two make one range."""
    if SetFlag.INTERVAL not in value.flags or len(value.key) > 1:
        for element in elements:
            yield element_text(value, element)
        return
    length = value.key_length
    ordered = sorted(elements, key=lambda element: (element.key, element.flags == 0))
    for element, following in zip_longest(ordered, ordered[1:]):
        if element.flags & INTERVAL_END:
            continue
        last = int.from_bytes(following.key, "big") - 1 if following else (1 << 8 * length) - 1
        yield element_text(value, element, last.to_bytes(length, "big"))
