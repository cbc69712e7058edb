"""What the doctor is asked about: one Service in depth, or the node, which a few Services stand for. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from kpx.doctor.facts import Facts, NotKnown
from kpx.net import Family
from kpx.proxier.frontends import Frontend, Frontends, Kind, ServiceName, Verdict
from kpx.tools.kernel import Port

# The service ports that stand for all others where none is named, and those that one Service is looked at by.
_SAMPLES, _MOST_PORTS = 3, 8


@dataclass(frozen=True, slots=True)
class Subject:
    """A Service as it was named, or with an empty ``text`` all of them."""

    text: str = ""
    namespace: str = ""

    @property
    def named(self) -> bool:
        return bool(self.text)


def ports(facts: Facts, subject: Subject) -> list[Port]:
    """All service ports that the doctor is asked about."""
    cluster = facts.cluster()
    if not subject.named:
        return cluster.ports
    _, found = cluster.find(subject.text, subject.namespace)
    chosen = set(found)
    return [one for one in cluster.ports if one[1].port in chosen]


def wanted_is_known(facts: Facts) -> bool:
    """Whether anybody says what the cluster wants: the kernel only tells what it holds."""
    return facts.cluster().source not in ("kernel", "none")


def mode(facts: Facts) -> str:
    """The proxy's mode. Raises `NotKnown`."""
    if not (found := facts.mode()):
        raise NotKnown("nobody tells the proxy's mode")
    return found


def service(facts: Facts, subject: Subject) -> ServiceName:
    return facts.cluster().find(subject.text, subject.namespace)[0]


def samples(facts: Facts, subject: Subject, *kinds: Kind) -> Iterator[tuple[Family, Frontends, Frontend]]:
    """The addresses to look at closely: those of the named Service, else of a few that differ in what matters."""
    seen: set[tuple[object, ...]] = set()
    counted: Counter[Kind] = Counter()
    for family, one in sorted(ports(facts, subject), key=lambda each: each[0] is not Family.IPV4):
        for frontend in one.frontends:
            if frontend.kind not in kinds or frontend.verdict is not Verdict.FORWARD:
                continue
            if not subject.named and frontend.sources:
                continue
            sort: tuple[object, ...] = (frontend.kind, frontend.scope, frontend.protocol, one.affinity is None)
            if subject.named:
                sort = (family, one.port, frontend.kind, frontend.address)
            if sort not in seen and counted[frontend.kind] < (_MOST_PORTS if subject.named else _SAMPLES):
                seen.add(sort)
                counted[frontend.kind] += 1
                yield family, one, frontend
