"""The virtual servers of one family in the kernel, and their real servers on the way out.

A real server of TCP that is wanted no more gets the weight 0 while it has connections: they go on, new ones go
elsewhere. UDP and SCTP are taken away at once. Source: kube-proxy 1.36 in ipvs mode.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import NamedTuple

from kpx.kernel.ipvs.coding import Command
from kpx.kernel.ipvs.table import (
    Change,
    Ipvs,
    add_real,
    add_virtual,
    delete_real,
    delete_virtual,
    set_real,
    set_virtual,
)
from kpx.kernel.ipvs.types import Method, Real, RealServer, Virtual, VirtualServer
from kpx.kernel.netlink import Refusal
from kpx.net import Family, contains
from kpx.proxier.ipvs.ledger import real_changes
from kpx.proxier.ipvs.render import Server

Changes = Mapping[Virtual, tuple[Server | None, Server | None]]
Refused = dict[Virtual, str]

_REMOVALS = (Command.DEL_SERVICE, Command.DEL_DEST)
_GONE = (errno.ENOENT, errno.ESRCH)


class Found(NamedTuple):
    """What a comparison found: the changes to make, and each difference in words."""

    changes: dict[Virtual, tuple[Server | None, Server | None]]
    differences: list[str]


class Servers:
    """The virtual servers of a family.

    Those in `excluded` networks that no Service asks for, and those of marks, are somebody else's.
    """

    def __init__(self, ipvs: Ipvs, family: Family, excluded: Iterable[str] = ()) -> None:
        self._ipvs = ipvs
        self._family = family
        self._excluded = tuple(excluded)
        self._draining: dict[Virtual, set[Real]] = {}
        self._sampled = 0

    @property
    def draining(self) -> int:
        """The number of real servers that wait for their last connections to end."""
        return sum(map(len, self._draining.values()))

    def _ours(self, wanted: Collection[Virtual]) -> Iterator[VirtualServer]:
        """The virtual servers in the kernel that are wanted, or left over."""
        for found in self._ipvs.virtuals():
            virtual = found.virtual
            if virtual.mark or virtual.family is not self._family:
                continue
            if virtual in wanted or not any(contains(network, virtual.address) for network in self._excluded):
                yield found

    def compare(self, wanted: Mapping[Virtual, Server]) -> Found:
        """What differs in the kernel. What has the weight 0 there is taken for draining."""
        self._draining = {}
        changes: dict[Virtual, tuple[Server | None, Server | None]] = {}
        differences: list[str] = []
        for found in self._ours(wanted):
            server = wanted.get(found.virtual)
            was, told = self._held(found, server)
            if told:
                differences += told
                changes[found.virtual] = was, server
            elif server is not None:
                changes[found.virtual] = server, server
        for virtual, server in wanted.items():
            if virtual not in changes:
                differences.append(f"virtual server {virtual} was missing")
                changes[virtual] = None, server
        return Found({virtual: change for virtual, change in changes.items() if change[0] != change[1]}, differences)

    def _held(self, found: VirtualServer, wanted: Server | None) -> tuple[Server, list[str]]:
        """A virtual server as far as a change must know it, and what is wrong with it."""
        virtual = found.virtual
        if wanted is None:
            return Server(found.settings, ()), [f"virtual server {virtual} was left over"]
        told: list[str] = []
        alike = found.settings.alike(wanted.settings)
        if not alike:
            told.append(f"virtual server {virtual} worked in another way ({_settings_text(found)})")
        kept: list[Real] = []
        for one in self._ipvs.reals(virtual):
            right = one.weight == 1 and one.method == Method.MASQUERADE
            if right or (one.real not in wanted.reals and one.weight):
                kept.append(one.real)
            else:
                self._draining.setdefault(virtual, set()).add(one.real)
        added, removed = real_changes(Server(wanted.settings, tuple(kept)), wanted)
        draining = self._draining.get(virtual, set())
        told += [f"real server {one} of {virtual} was {_fault(one, draining)}" for one in added]
        told += [f"real server {one} of {virtual} was left over" for one in removed]
        return Server(wanted.settings if alike else found.settings, tuple(kept)), told

    # Changes.

    def put(self, changes: Changes) -> Refused:
        """Make and change what is wanted; return what the kernel refuses."""
        return self._apply(
            change for virtual, (was, now) in changes.items() for change in self._puts(virtual, was, now)
        )

    def _puts(self, virtual: Virtual, was: Server | None, now: Server | None) -> Iterator[Change]:
        if now is None:
            return
        if was is None:
            yield add_virtual(virtual, now.settings)
        elif was.settings != now.settings:
            yield set_virtual(virtual, now.settings)
        draining = self._draining.get(virtual, set())
        for real in real_changes(was, now)[0]:
            if real in draining:
                draining.discard(real)
                yield set_real(virtual, real, 1)
            else:
                yield add_real(virtual, real)

    def remove(self, changes: Changes) -> Refused:
        """Remove, or begin to drain, what is wanted no more."""
        asked = (self._removals(virtual, was, now) for virtual, (was, now) in changes.items())
        refused = self._apply(chain.from_iterable(asked))
        self._settle([virtual for virtual in changes if virtual in self._draining])
        return refused

    def _removals(self, virtual: Virtual, was: Server | None, now: Server | None) -> Iterator[Change]:
        if now is None:
            self._draining.pop(virtual, None)
            yield delete_virtual(virtual)
            return
        for real in real_changes(was, now)[1]:
            if virtual.protocol == "TCP":
                self._draining.setdefault(virtual, set()).add(real)
                yield set_real(virtual, real, 0)
            else:
                yield delete_real(virtual, real)

    def settle(self) -> None:
        """Take away the draining real servers whose last connection has ended."""
        self._settle(list(self._draining))

    def _settle(self, virtuals: Iterable[Virtual]) -> None:
        ended: list[Change] = []
        for virtual in virtuals:
            there = {one.real: one for one in self._ipvs.reals(virtual)}
            draining = self._draining[virtual]
            idle = {real for real in draining if real not in there or there[real].idle}
            ended += [delete_real(virtual, real) for real in idle if real in there]
            draining -= idle
            if not draining:
                del self._draining[virtual]
        self._apply(ended)

    def _apply(self, changes: Iterable[Change]) -> Refused:
        """Make changes; of what is refused for a virtual server, the first. What is to go may be gone already."""
        asked, refused = list(changes), Refused()
        for at, refusal in self._ipvs.apply(asked).items():
            change = asked[at]
            if change.command not in _REMOVALS or refusal.code not in _GONE:
                refused.setdefault(change.virtual, _words(change, refusal))
        return refused

    # What others do: the kernel does not tell.

    def sample(
        self, virtuals: Collection[Virtual], wanted: Callable[[Virtual], Server | None], size: int
    ) -> str | None:
        """Look at the next `size` virtual servers, in turn; the first difference in words, or None."""
        if self._sampled >= len(virtuals):
            self._sampled = 0
        for virtual in islice(virtuals, self._sampled, self._sampled + size):
            self._sampled += 1
            if told := self._difference(virtual, wanted(virtual)):
                return told
        return None

    def _difference(self, virtual: Virtual, wanted: Server | None) -> str | None:
        found = self._ipvs.virtual(virtual)
        if found is None or wanted is None:
            return None if wanted is None else f"virtual server {virtual} is gone"
        if not found.settings.alike(wanted.settings):
            return f"virtual server {virtual} works in another way ({_settings_text(found)})"
        draining = self._draining.get(virtual, set())
        return _wrong(virtual, self._ipvs.reals(virtual), set(wanted.reals), draining)


def _wrong(virtual: Virtual, held: list[RealServer], wanted: set[Real], draining: set[Real]) -> str | None:
    there = {one.real: one for one in held if one.real not in draining}
    for real in wanted - there.keys():
        return f"real server {real} of {virtual} is gone"
    for real, one in there.items():
        if real not in wanted:
            return f"real server {real} of {virtual} was added"
        if one.weight != 1 or one.method != Method.MASQUERADE:
            return f"real server {real} of {virtual} has weight {one.weight} and method {one.method}"
    return None


def _fault(real: Real, draining: set[Real]) -> str:
    return "out of use (weight 0, or another method)" if real in draining else "missing"


def _settings_text(found: VirtualServer) -> str:
    settings = found.settings
    return f"scheduler {settings.scheduler}, flags {settings.flags:#x}, timeout {settings.timeout} s"


def _words(change: Change, refusal: Refusal) -> str:
    """Why the kernel refuses a change."""
    if change.settings is not None and refusal.code == errno.ENOENT:
        scheduler = change.settings.scheduler
        return f"{change}: the kernel has no scheduler {scheduler} (modprobe ip_vs_{scheduler})"
    return f"{change}: {refusal.detail or os.strerror(refusal.code)}"
