"""The table as the kernel holds it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.expressions import Counter
from kpx.kernel.nft.objects import Chain, Rule, Table
from kpx.kernel.nft.sets import Set, SetFlag
from kpx.kernel.nft.wire import TableName
from kpx.proxier.nftables.chains import Rules, WholeSet
from kpx.proxier.nftables.containers import LOCAL_LIST, Containers, split_slot_key
from kpx.proxier.nftables.layout import Place, Spot
from kpx.proxier.nftables.skeleton import BASE_CHAINS, TABLE


@dataclass(frozen=True, slots=True)
class Held:
    """A table read back, or what there is of it. ``elements`` are by set, without those that rules put in."""

    table: Table | None
    chains: dict[str, Chain]
    rules: dict[str, Rules]
    sets: dict[str, Set]
    elements: dict[str, list[Element]]

    def fits(self) -> bool:
        """Whether the table can be edited: its chains hang where they should, and nothing else hangs anywhere."""
        if self.table is None or self.table.flags != TABLE.flags:
            return False
        hooks = {name: chain.hook for name, chain in BASE_CHAINS.items()}
        return all(chain.hook == hooks.get(name) for name, chain in self.chains.items())

    def spots(self, containers: Containers) -> dict[Spot, Element]:
        """The elements that belong to service ports."""
        names = (one.name for one in containers.itemised())
        return {(name, element.key): element for name in names for element in self.elements.get(name, ())}

    def whole_sets(self, containers: Containers) -> dict[str, WholeSet]:
        """The sets, with the elements of those whose elements belong together."""
        itemised = {one.name for one in containers.itemised()}
        return {
            name: WholeSet(one, () if name in itemised else tuple(self.elements[name]))
            for name, one in self.sets.items()
        }

    def slots(self, containers: Containers) -> dict[Place, list[bytes | None]]:
        """The lists of endpoints in the order of their slots."""
        found: dict[Place, dict[int, bytes]] = {}
        for name in (containers.endpoints.name, containers.node_port_endpoints.name):
            for element in self.elements.get(name, ()):
                key, slot = split_slot_key(element.key)
                if isinstance(element.data, bytes):
                    place = Place(name, key, slot >= LOCAL_LIST)
                    found.setdefault(place, {})[slot % LOCAL_LIST] = element.data
        return {place: _in_order(slots) for place, slots in found.items()}


NOTHING_HELD = Held(None, {}, {}, {}, {})


def _in_order(slots: dict[int, bytes]) -> list[bytes | None]:
    # What somebody else put far out must not make a list of thousands.
    return [slots.get(slot) for slot in range(min(max(slots) + 1, 2 * len(slots)))]


def read(nft: Nft, table: TableName) -> Held:
    """Read a table. What others change in it meanwhile may be read or not."""

    def objects() -> tuple[Table | None, list[Chain], list[Rule], list[Set]]:
        found = next((one.value for one in nft.tables() if one.table == table), None)
        if found is None:
            return None, [], [], []
        return (
            found,
            [entry.value for entry in nft.chains(table)],
            [entry.value for entry in nft.rules(table)],
            [entry.value for entry in nft.sets(table)],
        )

    _, (found, chains, rules, sets) = nft.consistent(objects)
    by_chain: dict[str, list[Rule]] = {chain.name: [] for chain in chains}
    for one in rules:
        by_chain[one.chain].append(without_counts(one))
    return Held(
        found,
        {chain.name: chain for chain in chains},
        {name: tuple(listed) for name, listed in by_chain.items()},
        {one.name: one for one in sets},
        {one.name: [] if SetFlag.DYNAMIC in one.flags else nft.elements(table, one.name) for one in sets},
    )


def without_counts(rule: Rule) -> Rule:
    """The rule as it was when it was made."""
    if not any(isinstance(one, Counter) for one in rule.expressions):
        return rule
    return replace(rule, expressions=tuple(Counter() if isinstance(one, Counter) else one for one in rule.expressions))
