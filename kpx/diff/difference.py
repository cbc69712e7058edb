"""Differences between two readings of one service port, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from kpx.diff.facts import Aspect, Fact, Facts
from kpx.net import Family
from kpx.proxier.frontends import ServicePortName


class Sort(Enum):
    """How the kernel differs from what is wanted; the value is its name in JSON."""

    MISSING = "missing"
    EXTRA = "extra"
    DIFFERENT = "different"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference.

    ``port`` is the service port that it hits, None where it hits all of them; ``subject`` is what it is about:
    an address, an endpoint. ``wanted`` and ``held`` are the values that differ, empty where there is none. ``where``
    is the place in the kernel, ``rule`` what stands there or should.
    """

    family: Family
    port: ServicePortName | None
    sort: Sort
    aspect: Aspect
    subject: str
    text: str
    where: str
    wanted: str = ""
    held: str = ""
    rule: str = ""


def compare(family: Family, port: ServicePortName | None, wanted: Facts, held: Facts) -> Iterator[Difference]:
    """What of `wanted` is missing in `held` or another there, and what there is besides.

    What only follows from another difference is left out: that a missing endpoint is not remembered, and so on.
    """
    found = [*_unlike(family, port, wanted, held)]
    missing = [one.subject for one in found if one.aspect is Aspect.ENDPOINT and one.sort is Sort.MISSING]
    changed = any(one.aspect is Aspect.ENDPOINT for one in found)
    for one in found:
        follows = one.aspect is Aspect.BALANCE and changed
        if one.aspect in _OF_ENDPOINTS and one.sort is Sort.MISSING:
            follows = any(subject.partition(" ")[0] in one.subject for subject in missing)
        if not follows:
            yield one


_OF_ENDPOINTS = (Aspect.HAIRPIN, Aspect.AFFINITY)


def _unlike(family: Family, port: ServicePortName | None, wanted: Facts, held: Facts) -> Iterator[Difference]:
    for (aspect, subject), fact in wanted.items():
        found = held.get((aspect, subject))
        if found is None:
            yield _difference(family, port, Sort.MISSING, aspect, subject, fact, None)
        elif found.value != fact.value:
            yield _difference(family, port, Sort.DIFFERENT, aspect, subject, fact, found)
    for (aspect, subject), fact in held.items():
        if (aspect, subject) not in wanted:
            yield _difference(family, port, Sort.EXTRA, aspect, subject, None, fact)


def _difference(
    family: Family,
    port: ServicePortName | None,
    sort: Sort,
    aspect: Aspect,
    subject: str,
    wanted: Fact | None,
    held: Fact | None,
) -> Difference:
    was, should = held.value if held else "", wanted.value if wanted else ""
    text = _WORDS[aspect][_ORDER[sort]].format(subject=subject, wanted=should, held=was)
    fact = held or wanted
    assert fact is not None
    return Difference(family, port, sort, aspect, subject, text, fact.where, should, was, fact.rule)


_ORDER = {Sort.MISSING: 0, Sort.EXTRA: 1, Sort.DIFFERENT: 2}

# For each aspect: what it means that a fact is missing, that there is one too many, that it has another value.
_WORDS: dict[Aspect, tuple[str, str, str]] = {
    Aspect.ADDRESS: (
        "{subject} is not served: nothing leads from it to {wanted}",
        "{subject} is served, but the Service does not have it: it leads to {held}",
        "{subject} leads to {held}, not to {wanted}",
    ),
    Aspect.ENDPOINT: (
        "endpoint {subject} gets no connections",
        "{subject} gets connections, but is not to get any",
        "endpoint {subject}: {held}, not {wanted}",
    ),
    Aspect.BALANCE: (
        "{subject}: connections are not spread ({wanted})",
        "{subject}: connections are spread ({held})",
        "{subject}: connections are spread unevenly: {held}, not {wanted}",
    ),
    Aspect.POLICY: (
        "{subject} is not led to {wanted}",
        "{subject} is led to {held}, which is not wanted",
        "{subject} is led to {held}, not to {wanted}",
    ),
    Aspect.REFUSAL: (
        "{subject} is not refused, but it has no endpoint here: {wanted} is wanted",
        "{subject} is refused ({held}), but it has endpoints",
        "{subject}: {held}, not {wanted}",
    ),
    Aspect.AFFINITY: (
        "session affinity does not work for {subject}: clients are not remembered ({wanted})",
        "clients are led back to {subject} ({held}), but there is no session affinity",
        "session affinity for {subject} is {held}, not {wanted}",
    ),
    Aspect.MASQUERADE: (
        "{subject} is not masqueraded ({wanted}): answers may not come back",
        "{subject} is masqueraded ({held}), but should keep its source address",
        "{subject} is masqueraded: {held}, not {wanted}",
    ),
    Aspect.HAIRPIN: (
        "{subject} is not masqueraded when it connects to itself through the Service: it gets no answer",
        "{subject} is masqueraded when it connects to itself, but is no endpoint here",
        "{subject} is masqueraded when it connects to itself: {held}, not {wanted}",
    ),
    Aspect.SOURCES: (
        "loadBalancerSourceRanges: {subject}: missing ({wanted})",
        "loadBalancerSourceRanges: {subject}: not wanted ({held})",
        "loadBalancerSourceRanges: {subject}: {held}, not {wanted}",
    ),
    Aspect.HEALTH_CHECK: (
        "health-check node port {subject} is not let in",
        "health-check node port {subject} is let in, but no Service has it",
        "health-check node port {subject}: {held}, not {wanted}",
    ),
    Aspect.RULE: (
        "{subject} is missing",
        "{subject} is there, and no service proxy makes it",
        "{subject} is {held}, not {wanted}",
    ),
    Aspect.BASE: (
        "{subject} is missing: {wanted}",
        "{subject} is there, and no service proxy makes it",
        "{subject} is {held}, not {wanted}",
    ),
}
