"""What a proxy mode has in the tables of iptables, and the edit that removes it.

Pure. Modes iptables and ipvs share chains and jumps: those of the mode that goes on are spared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kpx.kernel.iptables.tables import Tables
from kpx.proxier.iptables.edit import Edit
from kpx.proxier.iptables.render import Line
from kpx.proxier.iptables.skeleton import Jump


@dataclass(frozen=True, slots=True)
class Footprint:
    """A mode's jumps from built-in chains, its chains (by table and name), its rules in chains that others use too."""

    jumps: tuple[Jump, ...]
    owns: Callable[[str, str], bool]
    guests: tuple[Line, ...] = ()

    @classmethod
    def merged(cls, footprints: Iterable[Footprint]) -> Footprint:
        """Several modes' as one."""
        several = tuple(footprints)
        return cls(
            jumps=tuple(dict.fromkeys(jump for one in several for jump in one.jumps)),
            owns=lambda table, chain: any(one.owns(table, chain) for one in several),
            guests=tuple(guest for one in several for guest in one.guests),
        )


def removal(kernel: Tables, footprint: Footprint, spared: Footprint | None = None) -> Edit:
    """Everything of a mode, but for what the mode `spared` has too, and nothing of others.

    A chain in which others have rules stays, with the jumps to it.
    """
    edit = Edit()
    kept: set[str] = set()
    for guest in footprint.guests:
        rules = kernel.rules(guest.table, guest.chain)
        ours = [guest for rule in rules if rule == guest.rule]
        edit.remove(ours)
        if len(rules) > len(ours):
            kept.add(guest.chain)
    spared_jumps = spared.jumps if spared else ()
    for jump in footprint.jumps:
        if jump.to not in kept and jump not in spared_jumps:
            there = kernel.rules(jump.table, jump.chain)
            edit.remove(Line(jump.table, jump.chain, rule) for rule in there if rule == jump.rule)
    for table, chains in kernel.tables.items():
        for chain in _removed(table, chains.keys() - kept, footprint, spared):
            edit.delete(table, chain)
    return edit


def _removed(table: str, chains: Iterable[str], footprint: Footprint, spared: Footprint | None) -> Iterable[str]:
    return (one for one in chains if footprint.owns(table, one) and not (spared and spared.owns(table, one)))
