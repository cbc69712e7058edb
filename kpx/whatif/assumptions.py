"""What is supposed to be otherwise, as the command line says it, and a service port as it would be served. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from kpx.net import canonical_ip, canonical_network, family_of
from kpx.proxier.frontends import Endpoint, Frontends, Kind, Masquerade, Scope
from kpx.proxier.plan import Viewpoint, plan
from kpx.proxier.services import ServicePortSpec
from kpx.tools.errors import UsageError

_AFFINITY_SECONDS = 10800
_POLICIES = {"Cluster": False, "Local": True}
_TRUTH = {"true": True, "false": False}
_STATES: dict[str, Callable[[Endpoint], Endpoint | None]] = {
    "ready": lambda one: _state(one, ready=True, serving=True, terminating=False),
    "notready": lambda one: _state(one, ready=False, serving=False, terminating=False),
    "terminating": lambda one: _state(one, ready=False, serving=True, terminating=True),
    "gone": lambda _: None,
}


@dataclass(frozen=True, slots=True)
class Case:
    """A service port before it is planned."""

    spec: ServicePortSpec
    endpoints: tuple[Endpoint, ...]
    view: Viewpoint


Change = Callable[[Case], Case]


@dataclass(frozen=True, slots=True)
class Assumptions:
    """All that is supposed; ``mode`` is empty for the mode that the node has."""

    texts: tuple[str, ...] = ()
    mode: str = ""
    changes: tuple[Change, ...] = field(default=(), repr=False)

    def applied(self, frontends: Frontends, node: str) -> Frontends:
        """The service port as it would be served on a node. Raises `UsageError` for an endpoint that it has not."""
        case = case_of(frontends, node)
        for change in self.changes:
            case = change(case)
        planned = plan(case.spec, case.endpoints, case.view)
        # Addresses that it has lost to an older Service stay lost.
        had = {(one.kind, one.address, one.port) for one in frontends.frontends}
        kept = tuple(one for one in planned.frontends if (one.kind, one.address, one.port) in had)
        return replace(planned, frontends=kept)


def parse(texts: Iterable[str]) -> Assumptions:
    """``KEY=VALUE`` each. Raises `UsageError`, which lists what there is."""
    given, mode, changes = tuple(texts), "", []
    for text in given:
        key, equals, value = text.partition("=")
        if key not in _KEYS or not equals:
            raise UsageError(f"--if {text}: write one of {'; '.join(f'{name}={form}' for name, form in FORMS.items())}")
        if key == "mode":
            mode = _choice(text, value, ("iptables", "ipvs", "nftables"))
        else:
            changes.append(_KEYS[key](text, value))
    return Assumptions(given, mode, tuple(changes))


FORMS = {
    "mode": "iptables|ipvs|nftables",
    "externalTrafficPolicy": "Cluster|Local",
    "internalTrafficPolicy": "Cluster|Local",
    "sessionAffinity": "ClientIP|None",
    "loadBalancerSourceRanges": "CIDR[,CIDR...]",
    "masqueradeAll": "true|false",
    "endpoint": "IP[:PORT]:ready|notready|terminating|gone",
}


def _choice(text: str, value: str, among: Iterable[str]) -> str:
    listed = tuple(among)
    if value not in listed:
        raise UsageError(f"--if {text}: it is one of {', '.join(listed)}")
    return value


def _spec(**changed: object) -> Change:
    return lambda case: replace(case, spec=replace(case.spec, **changed))  # type: ignore[arg-type]


def _external(text: str, value: str) -> Change:
    return _spec(external_local=_POLICIES[_choice(text, value, _POLICIES)])


def _internal(text: str, value: str) -> Change:
    return _spec(internal_local=_POLICIES[_choice(text, value, _POLICIES)])


def _affinity(text: str, value: str) -> Change:
    asked = _choice(text, value, ("ClientIP", "None")) == "ClientIP"

    def change(case: Case) -> Case:
        seconds = (case.spec.affinity or _AFFINITY_SECONDS) if asked else None
        return replace(case, spec=replace(case.spec, affinity=seconds))

    return change


def _ranges(text: str, value: str) -> Change:
    networks = [canonical_network(one if "/" in one else f"{one}/{_bits(one)}") for one in value.split(",") if one]
    found = tuple(one for one in networks if one)
    if len(found) < len(networks):
        raise UsageError(f"--if {text}: it is a list of networks, as in 203.0.113.0/24,198.51.100.7/32")

    def change(case: Case) -> Case:
        own = tuple(one for one in found if family_of(one) is family_of(case.spec.cluster_ip))
        return replace(case, spec=replace(case.spec, source_ranges=own))

    return change


def _bits(address: str) -> int:
    return 128 if ":" in address else 32


def _masquerade(text: str, value: str) -> Change:
    every = _TRUTH[_choice(text, value, _TRUTH)]
    return lambda case: replace(case, view=replace(case.view, masquerade_all=every))


def _endpoint(text: str, value: str) -> Change:
    name, _, state = value.rpartition(":")
    if state not in _STATES:
        raise UsageError(f"--if {text}: write endpoint={FORMS['endpoint']}")
    alone = canonical_ip(name.strip("[]"))
    family = family_of(alone or name.partition(":")[0].replace("[", ":"))

    def change(case: Case) -> Case:
        if family is not family_of(case.spec.cluster_ip):
            return case  # it is about the other family's endpoints
        chosen = [one for one in case.endpoints if name == str(one) or alone == one.ip]
        if not chosen:
            listed = ", ".join(map(str, case.endpoints)) or "none"
            raise UsageError(f"--if {text}: {case.spec.name} has no such endpoint; it has {listed}")
        changed = (_STATES[state](one) if one in chosen else one for one in case.endpoints)
        return replace(case, endpoints=tuple(one for one in changed if one))

    return change


def _state(one: Endpoint, *, ready: bool, serving: bool, terminating: bool) -> Endpoint:
    return Endpoint(one.ip, one.port, one.local, ready, serving, terminating, one.zones, one.nodes)


_KEYS: dict[str, Callable[[str, str], Change]] = {
    "mode": lambda _text, _value: lambda case: case,
    "externalTrafficPolicy": _external,
    "internalTrafficPolicy": _internal,
    "sessionAffinity": _affinity,
    "loadBalancerSourceRanges": _ranges,
    "masqueradeAll": _masquerade,
    "endpoint": _endpoint,
}


def case_of(frontends: Frontends, node: str) -> Case:
    """What a service port was planned from, as far as its plan shows it."""
    first = next((one for one in frontends.frontends if one.kind is Kind.CLUSTER_IP), None)
    of_kind = {kind: [one for one in frontends.frontends if one.kind is kind] for kind in Kind}
    balanced = of_kind[Kind.LOAD_BALANCER]
    spec = ServicePortSpec(
        name=frontends.port,
        cluster_ip=(first.address if first else "") or "",
        port=next((one.port for one in frontends.frontends if one.address), 0),
        node_port=next((one.port for one in of_kind[Kind.NODE_PORT]), 0),
        affinity=frontends.affinity,
        external_ips=tuple(one.address for one in of_kind[Kind.EXTERNAL_IP] if one.address),
        load_balancer_ips=tuple(one.address for one in balanced if one.address),
        source_ranges=balanced[0].sources if balanced else (),
        internal_local=frontends.internal_scope is Scope.LOCAL,
        external_local=frontends.external_scope is Scope.LOCAL,
        health_check_port=frontends.health_check_port,
        age=("", frontends.port.service),
    )
    masquerade = first.masquerade if first else Masquerade.OFF_CLUSTER
    view = Viewpoint(
        node=node,
        zone=_zone(frontends),
        masquerade_all=masquerade is Masquerade.ALWAYS,
        pods_known=masquerade is not Masquerade.NEVER,
    )
    return Case(spec, frontends.endpoints, view)


def _zone(frontends: Frontends) -> str:
    """The node's zone, which shows in which endpoints the hints have left; empty where they left all."""
    chosen = [set(one.zones) for one in frontends.cluster if one.zones]
    common = set.intersection(*chosen) if chosen and len(chosen) == len(frontends.cluster) else set()
    left_out = [one for one in frontends.endpoints if one.ready and one not in frontends.cluster]
    return min(common) if common and left_out else ""
