"""A comparison on this node: what is wanted, one state of the kernel, and the differences between them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

from kpx.diff.difference import Difference, Sort
from kpx.diff.facts import Aspect
from kpx.diff.foreign import Foreign
from kpx.diff.layout import Layout, Ports, adapted, family_ports
from kpx.diff.reading import layouts
from kpx.diff.report import Report
from kpx.kernel.iptables.program import IptablesError
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.errors import GenerationChanged
from kpx.net import Family
from kpx.proxier.frontends import ServicePortName
from kpx.proxier.published import DriftRecord
from kpx.proxier.surroundings import host_has_ipv6
from kpx.tools.cluster import Cluster
from kpx.tools.errors import ToolError
from kpx.trace.reading.kernel import CannotTrace, Node, consistent, fingerprint, proxies
from kpx.trace.reading.node import KernelFacts
from kpx.trace.reading.rules import KernelRules

T = TypeVar("T")

_DAEMON = "daemon"
_UNSTEADY = "the rules change all the time: what differs may be of two states of them"


def compared(wanted: Cluster, chosen: Callable[[ServicePortName], bool]) -> Report:
    """Compare what the `chosen` service ports and all together need. Raises `ToolError`, `OSError`."""
    with Nft() as nft:
        try:
            notes: list[str] = []
            found = _read(nft, wanted, notes)
            differences = list(_differences(wanted, found))
            damaged = {one.port for one in differences if one.port}
            for family in Family if found else ():
                ports = {one.port: one for one in family_ports(wanted.ports, family) if chosen(one.port)}
                if ports:
                    signs = [layout.sign for layout in found if layout.family is family]
                    differences += _of_others(nft, family, ports, signs, damaged, notes)
        except (CannotTrace, IptablesError, GenerationChanged) as error:
            raise ToolError(str(error)) from error
    differences = [one for one in differences if one.port is None or chosen(one.port)]
    return Report(
        source=wanted.source,
        origin=wanted.origin,
        node=wanted.node,
        programs=tuple(dict.fromkeys(layout.program for layout in found)),
        compared=sum(chosen(one.port) for _, one in wanted.ports),
        differences=tuple(differences),
        drift=_drift(wanted),
        notes=tuple(notes),
    )


def _of_others(
    nft: Nft,
    family: Family,
    ports: Ports,
    signs: Collection[str],
    damaged: Collection[ServicePortName],
    notes: list[str],
) -> list[Difference]:
    """What rules of others do to the service ports of a family, all read in one state."""

    def read() -> tuple[list[Difference], list[str]]:
        facts = KernelFacts(nft)
        try:
            rules = KernelRules(family, nft, facts)
            present = proxies(rules)
            foreign = Foreign(Node(family, facts, rules, facts, present), nft, ports, damaged)
            return [*_rivals(family, present, signs), *foreign.differences()], foreign.notes
        finally:
            facts.close()

    found, more = _steady(read, lambda: fingerprint(family, nft), notes)
    notes += more
    return found


def _read(nft: Nft, wanted: Cluster, notes: list[str]) -> list[Layout]:
    """The rules of Services that the kernel holds."""

    def read() -> list[Layout]:
        return layouts(nft, wanted.mode, wanted.pods, own=wanted.source == _DAEMON)

    return _steady(read, lambda: [fingerprint(family, nft) for family in Family], notes)


def _steady(read: Callable[[], T], fingerprint: Callable[[], object], notes: list[str]) -> T:
    """What is read in one single state of the rules, if they hold still for so long."""
    try:
        return consistent(read, fingerprint)
    except CannotTrace:
        if _UNSTEADY not in notes:
            notes.append(_UNSTEADY)
        return read()


def _differences(wanted: Cluster, found: list[Layout]) -> Iterator[Difference]:
    for family in Family:
        ports = family_ports(wanted.ports, family)
        here = [layout for layout in found if layout.family is family]
        if ports and not here and (family is Family.IPV4 or host_has_ipv6()):
            mode = f" of mode {wanted.mode}" if wanted.mode else ""
            text = f"the kernel holds no {family.value} rules{mode}: no Service is served"
            yield Difference(family, None, Sort.MISSING, Aspect.BASE, "all rules", text, "the kernel")
        for layout in here:
            yield from layout.differences(adapted(ports, layout.learned, configured=wanted.proxy is not None))


def _rivals(family: Family, present: Collection[str], signs: Collection[str]) -> Iterator[Difference]:
    """Rules of a service proxy besides those that are compared: what an earlier one has left, or another mode."""
    for name in present:
        if signs and name not in signs and not (name.startswith("iptables-") and "ipvs" in signs):
            text = f"rules of another service proxy are there as well: {name}; they may take packets first"
            yield Difference(family, None, Sort.EXTRA, Aspect.BASE, name, text, name)


def _drift(wanted: Cluster) -> tuple[DriftRecord, ...]:
    """What the daemon saw others do."""
    if wanted.daemon is None:
        return ()
    try:
        return wanted.daemon.drift().drift
    except ToolError:
        return ()
