"""What the table holds, and the edit that takes it to what it should hold.

Pure. Elements are not kept here: there are hundreds of thousands, and a service port's former ones are laid out again
when it changes. Kept are the chains and small sets, the order of the slots, and who uses what is shared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.expressions import Counter as Count
from kpx.kernel.nft.objects import Chain
from kpx.kernel.nft.transaction import Elements, Operation, add, delete, flush
from kpx.proxier.nftables.chains import Rules, WholeSet
from kpx.proxier.nftables.containers import LOCAL_LIST, Containers, slot_key
from kpx.proxier.nftables.layout import NOTHING, Layout, Place, Spot
from kpx.proxier.nftables.reading import Held
from kpx.proxier.nftables.skeleton import BASE_CHAINS
from kpx.proxier.nftables.slots import settle


@dataclass(slots=True)
class Edit:
    """Changes to the table.

    ``moves`` are elements whose data was under another key before: spot -> that key. ``surplus`` names the chains and
    sets that a full sync found and nobody uses, ``misfits`` the sets that exist but are declared in another way.
    """

    sets: dict[str, WholeSet] = field(default_factory=dict)
    refilled: dict[str, WholeSet] = field(default_factory=dict)
    chains: dict[str, Rules] = field(default_factory=dict)
    rewritten: dict[str, Rules] = field(default_factory=dict)
    emptied: list[str] = field(default_factory=list)
    removed: dict[Spot, Element] = field(default_factory=dict)
    added: dict[Spot, Element] = field(default_factory=dict)
    moves: dict[Spot, bytes] = field(default_factory=dict)
    surplus: list[str] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)

    def carry(self, counters: Mapping[Spot, Count]) -> None:
        """Let the slots that move take their counters along; `counters` are by the spot they were in."""
        for spot, former in self.moves.items():
            found = counters.get((spot[0], former))
            if found is not None and spot in self.added:
                self.added[spot] = _counting(self.added[spot], found)

    def operations(self, containers: Containers) -> Iterator[Operation]:
        """What makes the changes, in an order that leaves nothing dangling. What is in use no more is emptied only."""
        for whole in self.sets.values():
            yield add(whole.set)
        for name in self.chains:
            yield add(BASE_CHAINS.get(name, Chain(name)))
        for name in (*self.rewritten, *self.emptied):
            yield flush(Chain(name))
        for whole in self.refilled.values():
            yield flush(whole.set)
        for whole in (*self.sets.values(), *self.refilled.values()):
            if whole.elements:
                yield add(Elements(whole.set, whole.elements))
        for rules in (*self.chains.values(), *self.rewritten.values()):
            yield from map(add, rules)
        yield from map(delete, _by_set(self.removed, containers))
        yield from map(add, _by_set(self.added, containers))


def _by_set(spots: Mapping[Spot, Element], containers: Containers) -> Iterator[Elements]:
    """The elements, each set's together."""
    found: dict[str, list[Element]] = {}
    for (name, _), element in spots.items():
        found.setdefault(name, []).append(element)
    declared = {one.name: one for one in containers.itemised()}
    return (Elements(declared[name], elements) for name, elements in found.items())


def _counting(element: Element, count: Count) -> Element:
    return Element(element.key, element.data, element.comment, count)


Change = tuple[Layout, Layout]


class Ledger:
    """The table's content, as far as a change needs to know it: as it is when the edits are applied."""

    def __init__(self, containers: Containers, held: Held) -> None:
        self._common = {containers.cluster_ips.name, containers.hairpin.name}
        self.chains = dict(held.rules)
        self.sets = held.whole_sets(containers)
        self.owned = Counter({one.name: len(held.elements.get(one.name, ())) for one in containers.itemised()})
        self._slots = held.slots(containers)
        self._users: Counter[str | Spot] = Counter()

    def forget(self, names: Iterable[str]) -> None:
        """These chains and sets are no longer there."""
        for name in names:
            self.chains.pop(name, None)
            self.sets.pop(name, None)
            self._users.pop(name, None)

    def unused(self) -> tuple[list[str], list[str]]:
        """The chains and the sets that nobody uses."""
        return (
            [name for name in self.chains if not self._users[name]],
            [name for name in self.sets if not self._users[name]],
        )

    def fixed(self, chains: Mapping[str, Rules], sets: Mapping[str, WholeSet], edit: Edit) -> None:
        """Make sure of chains and sets that no service port's needs decide about."""
        for name, rules in chains.items():
            self._users[name] = 1
            self._chain(name, rules, edit)
        for name, whole in sets.items():
            self._users[name] = 1
            self._set(name, whole, edit)

    def change(self, changes: Sequence[Change], edit: Edit) -> None:
        """Take each changed service port from one layout to another."""
        before = {spot: element for was, _ in changes for spot, element in was.own.items()}
        after = {spot: element for _, now in changes for spot, element in now.own.items()}
        self._share(changes, before, after)
        self._reorder(changes, before, after, edit)
        self._differ(before, after, edit)
        self._need((now for _, now in changes), edit)
        self._empty((name for was, _ in changes for name in was.chains), edit)

    def compare(self, layouts: Sequence[Layout], held: dict[Spot, Element], edit: Edit) -> None:
        """Bring in some service ports where there is only what is `held`; what of that they use is taken out of it."""
        changes = [(NOTHING, layout) for layout in layouts]
        before: dict[Spot, Element] = {}
        after = {spot: element for layout in layouts for spot, element in layout.own.items()}
        self._share(changes, before, after)
        self._reorder(changes, {}, after, edit)
        for spot in after:
            if spot in held:
                before[spot] = held.pop(spot)
        self._differ(before, after, edit)
        self._need(layouts, edit)

    def leave(self, held: dict[Spot, Element], edit: Edit) -> None:
        """When all are compared: what is still `held`, and the chains and sets without users, are to go."""
        self._differ(held, {}, edit)
        edit.surplus = [name for names in self.unused() for name in names]
        self._empty(list(self.chains), edit)

    def _need(self, layouts: Iterable[Layout], edit: Edit) -> None:
        """Make the chains and sets that are not there yet."""
        for layout in layouts:
            for name, rules in layout.chains.items():
                self._chain(name, rules, edit)
            for name, whole in layout.sets.items():
                self._set(name, whole, edit)

    def _empty(self, names: Iterable[str], edit: Edit) -> None:
        """Take the rules out of those chains that nobody uses: they may refer to one another."""
        empty = [name for name in dict.fromkeys(names) if self.chains[name] and not self._users[name]]
        edit.emptied += empty
        self.chains |= dict.fromkeys(empty, ())

    def _share(self, changes: Sequence[Change], before: dict[Spot, Element], after: dict[Spot, Element]) -> None:
        """Count the users of what is shared, and find the elements that get their first or lose their last one."""
        touched = {spot: element for change in changes for each in change for spot, element in each.common.items()}
        before.update((spot, element) for spot, element in touched.items() if self._users[spot])
        for was, now in changes:
            self._users.subtract((*was.common, *was.chains, *was.sets))
            self._users.update((*now.common, *now.chains, *now.sets))
        for spot, element in touched.items():
            if self._users[spot]:
                after[spot] = element
            else:
                del self._users[spot]

    def _chain(self, name: str, rules: Rules, edit: Edit) -> None:
        known = self.chains.get(name)
        if known == rules:
            return
        (edit.chains if known is None else edit.rewritten)[name] = rules
        self.chains[name] = rules

    def _set(self, name: str, whole: WholeSet, edit: Edit) -> None:
        known = self.sets.get(name)
        if known is None:
            edit.sets[name] = whole
        elif known.set != whole.set:
            edit.misfits.append(name)
        elif {*known.elements} != {*whole.elements}:
            edit.refilled[name] = whole
        self.sets[name] = whole

    def _reorder(
        self, changes: Sequence[Change], before: dict[Spot, Element], after: dict[Spot, Element], edit: Edit
    ) -> None:
        """Settle every list, and put its slots among the elements."""
        old: dict[Place, str] = {}
        new: dict[Place, tuple[str, tuple[bytes, ...]]] = {}
        for former, now in changes:
            old |= dict.fromkeys(former.lists, former.name)
            new |= {place: (now.name, wanted) for place, wanted in now.lists.items()}
        for place in old | new:
            held = self._slots.pop(place, [])
            before.update(_elements(place, held, old.get(place, "")))
            if place not in new:
                continue
            name, wanted = new[place]
            order = settle(held, wanted)
            self._slots[place] = list(order)
            after.update(_elements(place, order, name))
            for slot, was in _moved(held, order):
                edit.moves[place.map, _slot_key(place, slot)] = _slot_key(place, was)

    def _differ(self, before: Mapping[Spot, Element], after: Mapping[Spot, Element], edit: Edit) -> None:
        """What differs. A shared element's comment may name any of its users."""
        for spot, element in before.items():
            now = after.get(spot)
            if now is None or (spot[0] not in self._common and not _alike(element, now)):
                edit.removed[spot] = element
                self.owned[spot[0]] -= 1
        for spot, element in after.items():
            if spot not in before or spot in edit.removed:
                edit.added[spot] = element
                self.owned[spot[0]] += 1


def _alike(one: Element, other: Element) -> bool:
    return one.data == other.data and one.comment == other.comment


def _slot_key(place: Place, slot: int) -> bytes:
    return slot_key(place.key, slot + LOCAL_LIST if place.local else slot)


def _elements(place: Place, order: Iterable[bytes | None], comment: str) -> Iterator[tuple[Spot, Element]]:
    """The slots of a list as elements; none for a slot that is missing."""
    for slot, data in enumerate(order):
        if data is not None:
            key = _slot_key(place, slot)
            yield (place.map, key), Element(key, data, comment)


def _moved(held: list[bytes | None], order: list[bytes]) -> Iterator[tuple[int, int]]:
    """Each slot whose endpoint had another one before, and that one."""
    was = {data: slot for slot, data in enumerate(held) if data is not None}
    for slot, data in enumerate(order):
        if was.get(data, slot) != slot:
            yield slot, was[data]
