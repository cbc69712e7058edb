"""Which endpoints are used: kube-proxy's rules, case by case. Own node n1, own zone za."""

from __future__ import annotations

import pytest

from kpx.proxier.frontends import Endpoint
from kpx.proxier.topology import categorise


def endpoint(text: str) -> Endpoint:
    """``a R@n1 zone=zb node=n2``: name, state (Ready, Serving-Terminating, Not Ready), node, hints."""
    name, state, *hints = text.split()
    state, _, node = state.partition("@")
    found = dict(hint.split("=") for hint in hints)
    return Endpoint(
        ip=name,
        port=80,
        local=node == "n1",
        ready=state == "R",
        serving=state in ("R", "ST"),
        terminating=state == "ST",
        zones=(found["zone"],) if "zone" in found else (),
        nodes=(found["node"],) if "node" in found else (),
    )


# endpoints; uses cluster list, uses local list; cluster, local, reachable, any
CASES = [
    ("a R@n1, b R@n2", True, False, "ab", "", "ab", True),
    ("a R@n1, b R@n2", False, True, "", "a", "a", True),
    ("b R@n2", False, True, "", "", "", True),
    ("b NR@n2", False, True, "", "", "", False),
    ("b NR@n2", True, False, "", "", "", False),
    ("a ST@n1, b R@n2", True, True, "b", "a", "ab", True),
    ("a ST@n1, b ST@n2", True, False, "ab", "", "ab", True),
    ("a ST@n1, b R@n2", True, False, "b", "", "b", True),
    ("a R@n1 zone=zb, b R@n2 zone=za", True, False, "b", "", "b", True),
    ("a R@n1 zone=zb, b R@n2 zone=za", True, True, "b", "a", "ab", True),
    ("a R@n1 zone=za, b R@n2", True, False, "ab", "", "ab", True),
    ("a R@n1 zone=zb, b R@n2 zone=zc", True, False, "ab", "", "ab", True),
    ("a R@n1 zone=za, b ST@n2", True, False, "a", "", "a", True),
    ("a NR@n1 zone=za, b R@n2 zone=zb", True, False, "b", "", "b", True),
    ("a R@n1 zone=za node=n1, b R@n2 zone=za node=n2", True, False, "a", "", "a", True),
    ("a R@n1 zone=za node=n2, b R@n2 zone=zb node=n3", True, False, "a", "", "a", True),
    ("a R@n1, b R@n2", True, True, "ab", "a", "ab", True),
    ("", True, True, "", "", "", False),
]


@pytest.mark.parametrize(("endpoints", "cluster", "local", "in_cluster", "in_local", "reachable", "usable"), CASES)
def test_categorises_as_kube_proxy_does(
    endpoints: str, cluster: bool, local: bool, in_cluster: str, in_local: str, reachable: str, usable: bool
) -> None:
    given = tuple(endpoint(one) for one in endpoints.split(", ")) if endpoints else ()

    found = categorise(given, cluster=cluster, local=local, node="n1", zone="za")

    names = tuple("".join(one.ip for one in chosen) for chosen in (found.cluster, found.local, found.reachable))
    assert names == (in_cluster, in_local, reachable)
    assert found.any is usable


def test_ready_wins_over_terminating() -> None:
    published = Endpoint("a", 80, ready=True, serving=True, terminating=True)

    assert categorise((published,), cluster=True, local=False, node="n1", zone="").cluster == (published,)


def test_serving_but_not_terminating_is_no_fallback() -> None:
    warming = Endpoint("a", 80, ready=False, serving=True, terminating=False)

    assert not categorise((warming,), cluster=True, local=False, node="n1", zone="").any
