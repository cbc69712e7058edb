"""Does the kernel hold what the Services want? All service ports are compared, or those of one Service."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from kpx.doctor import fixes
from kpx.doctor.check import SETTLES, check
from kpx.doctor.facts import Facts
from kpx.doctor.finding import Evidence, Result, failed, passed, skipped
from kpx.doctor.subject import Subject, mode, ports, wanted_is_known
from kpx.doctor.way import answers
from kpx.net import Family, join_port
from kpx.proxier.frontends import Frontend, Frontends, Kind, Verdict
from kpx.proxier.ipvs.names import DEVICE

# Differences that are told one by one.
_MOST = 5

Where = tuple[Family, str | None, int, str]


def _where(family: Family, frontend: Frontend) -> Where:
    return family, frontend.address, frontend.port, frontend.protocol


def _kernel(facts: Facts) -> tuple[Mapping[Where, Frontends], str]:
    """What the kernel answers for each address, and how that is shown."""
    held = facts.held()
    if not wanted_is_known(facts):
        return {}, ""
    found: dict[Where, Frontends] = {}
    if held is not None:
        for family, one in held.ports():
            for frontend in one.frontends:
                # A node port of IPVS is one virtual server for each of the node's addresses.
                address = None if frontend.kind is Kind.NODE_PORT else frontend.address
                found[family, address, frontend.port, frontend.protocol] = one
    return found, held.program if held else "the kernel"


@check(
    "KPX-IP-004",
    "the kernel has a rule for every address",
    why="A packet to an address without a rule leaves the node untranslated and is lost.",
    remedy="The proxy has not synced, or somebody deleted its rule: start it anew.",
    settles=SETTLES,
)
def addresses(facts: Facts, subject: Subject) -> Iterator[Result]:
    wanted = ports(facts, subject)
    found, program = _kernel(facts)
    if not program:
        yield skipped("what the cluster wants is not known")
        return
    missing: dict[str, list[str]] = defaultdict(list)
    count = 0
    for family, one in wanted:
        for frontend in one.frontends:
            if frontend.verdict is Verdict.FORWARD and _enabled(facts, family):
                count += 1
                if _where(family, frontend) not in found:
                    missing[str(one.port.service)].append(answers(frontend))
    for service, lost in sorted(missing.items())[:_MOST]:
        yield failed(
            f"no rule for {', '.join(lost)}{_more(missing)}",
            Evidence(f"{', '.join(lost)}: not found", f"the rules of {program}"),
            subject=service,
            fix=fixes.restart(facts),
            verify=f"kpx services {service}",
        )
    if not missing:
        yield passed(f"{count} addresses have their rules", Evidence(f"{count} of {count}", f"the rules of {program}"))


def _enabled(facts: Facts, family: Family) -> bool:
    """Whether the proxy serves this family: not if it has rules of the other one alone."""
    served = {one.family for one in facts.rule_sets() if one.served or one.own}
    return family in served or not served


def _more(missing: Mapping[str, object]) -> str:
    return f" ({len(missing)} Services have such)" if len(missing) > _MOST else ""


@check(
    "KPX-IP-005",
    "the rules lead to the Service's endpoints, and to no other",
    why="An endpoint without a rule gets no traffic; one that is gone and has a rule takes a share of it nowhere.",
    remedy="The proxy has not synced, or somebody changed its rules: start it anew.",
    settles=SETTLES,
)
def endpoints(facts: Facts, subject: Subject) -> Iterator[Result]:
    wanted = ports(facts, subject)
    found, program = _kernel(facts)
    if not program:
        yield skipped("what the cluster wants is not known")
        return
    if not found:
        yield skipped("the kernel holds no rules of Services")
        return
    different: dict[str, set[str]] = defaultdict(set)
    count = 0
    for family, one in wanted:
        for frontend in one.frontends:
            held = found.get(_where(family, frontend))
            if held is None or frontend.verdict is not Verdict.FORWARD:
                continue
            count += 1
            different[str(one.port.service)] |= _difference(facts.mode(), frontend, one, held)
    different = {service: told for service, told in different.items() if told}
    for service, differences in sorted(different.items())[:_MOST]:
        yield failed(
            f"{'; '.join(sorted(differences))}{_more(different)}",
            *(Evidence(one, f"the rules of {program}") for one in sorted(differences)),
            subject=service,
            fix=fixes.restart(facts),
            verify=f"kpx services {service} --endpoints",
        )
    if not different:
        yield passed(f"those of {count} addresses do", Evidence(f"{count} of {count}", f"the rules of {program}"))


def _difference(mode: str, frontend: Frontend, wanted: Frontends, held: Frontends) -> set[str]:
    """What is missing, and what is too much: draining endpoints, of weight 0 in IPVS, are left alone."""
    there = {(one.ip, one.port) for one in held.endpoints}
    should = {(one.ip, one.port) for one in (wanted.served_by(frontend.scope) if mode == "ipvs" else wanted.reachable)}
    known = {(one.ip, one.port) for one in (*wanted.reachable, *wanted.endpoints)}
    told = {f"no rule leads to {join_port(*one)}" for one in should - there}
    if mode != "ipvs":
        told |= {f"a rule leads to {join_port(*one)}, which is no endpoint" for one in there - known}
    return told


@check(
    "KPX-IP-011",
    "in mode ipvs, the node has every address on kube-ipvs0",
    why="IPVS only sees packets that are for the node itself: an address that is on no interface is routed away.",
    remedy="The proxy has not synced, or somebody changed the device: start it anew.",
)
def on_device(facts: Facts, subject: Subject) -> Iterator[Result]:
    if (used := mode(facts)) != "ipvs":
        yield skipped(f"mode {used} puts no address on an interface")
        return
    there = {one.address for one in facts.addresses()}
    wanted = {
        (frontend.address, str(one.port.service))
        for family, one in ports(facts, subject)
        for frontend in one.frontends
        if frontend.address and _enabled(facts, family)
    }
    missing = sorted((service, address) for address, service in wanted if address not in there)
    for service, address in missing[:_MOST]:
        yield failed(
            f"{address} is on no interface",
            Evidence(f"{address}: not found", f"ip address show {DEVICE}"),
            subject=service,
            fix=fixes.restart(facts),
            verify=f"ip address show {DEVICE} to {address}",
        )
    if not missing:
        yield passed(f"{len(wanted)} are there", Evidence(f"{len(wanted)}", f"ip address show {DEVICE}"))
