"""Assumptions: what the command line may say, and a service port as it would be served."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpx.proxier.frontends import Endpoint, Frontends, Kind, Masquerade, Scope, ServiceName, ServicePortName, Verdict
from kpx.proxier.plan import Viewpoint, plan
from kpx.proxier.services import ServicePortSpec
from kpx.tools.errors import UsageError
from kpx.whatif.assumptions import parse

HERE, THERE = Endpoint("10.244.1.5", 8080, local=True), Endpoint("10.244.2.6", 8080)


def spec(**changes: object) -> ServicePortSpec:
    given: dict[str, object] = {
        "name": ServicePortName("shop", "web", "http", "TCP"),
        "cluster_ip": "10.96.0.10",
        "port": 80,
        "node_port": 30080,
        "affinity": None,
        "external_ips": (),
        "load_balancer_ips": ("192.0.2.10",),
        "source_ranges": (),
        "internal_local": False,
        "external_local": False,
        "health_check_port": None,
        "age": ("", ServiceName("shop", "web")),
    }
    return ServicePortSpec(**{**given, **changes})  # type: ignore[arg-type]


def planned(*endpoints: Endpoint, **changes: object) -> Frontends:
    return plan(spec(**changes), endpoints or (HERE, THERE), Viewpoint(node="n1"))


def supposed(before: Frontends, *texts: str) -> Frontends:
    return parse(texts).applied(before, "n1")


endpoints = st.lists(
    st.builds(
        Endpoint,
        st.integers(1, 30).map(lambda number: f"10.244.1.{number}"),
        st.just(8080),
        local=st.booleans(),
        ready=st.booleans(),
        serving=st.booleans(),
        terminating=st.booleans(),
        zones=st.sampled_from([(), ("z1",), ("z2",)]),
    ),
    max_size=5,
    unique_by=lambda one: one.ip,
)


@given(
    endpoints,
    st.builds(
        spec,
        node_port=st.sampled_from([0, 30080]),
        affinity=st.sampled_from([None, 600]),
        external_ips=st.sampled_from([(), ("198.51.100.1",)]),
        load_balancer_ips=st.sampled_from([(), ("192.0.2.10", "192.0.2.11")]),
        internal_local=st.booleans(),
        external_local=st.booleans(),
    ),
    st.builds(
        Viewpoint,
        node=st.just("n1"),
        zone=st.sampled_from(["", "z1"]),
        masquerade_all=st.booleans(),
        pods_known=st.just(True),
    ),
)
def test_a_plan_shows_all_that_it_was_made_from(some: list[Endpoint], asked: ServicePortSpec, view: Viewpoint) -> None:
    before = plan(asked, tuple(some), view)
    assert supposed(before) == before


def test_an_external_policy() -> None:
    after = supposed(planned(), "externalTrafficPolicy=Local")

    outside = [one for one in after.frontends if one.external]
    assert {one.scope for one in outside} == {Scope.LOCAL}
    assert {one.masquerade for one in outside} == {Masquerade.NODE}
    assert after.local == (HERE,)


def test_an_internal_policy_without_a_local_endpoint() -> None:
    after = supposed(planned(THERE), "internalTrafficPolicy=Local")

    assert after.frontends[0].verdict is Verdict.DROP
    assert all(one.verdict is Verdict.FORWARD for one in after.frontends[1:])


def test_endpoints_come_and_go() -> None:
    assert supposed(planned(), "endpoint=10.244.1.5:notready").cluster == (THERE,)
    assert supposed(planned(), "endpoint=10.244.1.5:8080:gone").endpoints == (THERE,)
    assert supposed(planned(), "endpoint=10.244.1.5:terminating").cluster == (THERE,)
    alone = supposed(planned(HERE), "endpoint=10.244.1.5:terminating")
    assert [one.ip for one in alone.cluster] == ["10.244.1.5"]
    none = supposed(planned(), "endpoint=10.244.1.5:gone", "endpoint=10.244.2.6:notready")
    assert {one.verdict for one in none.frontends} == {Verdict.REJECT}


def test_what_is_about_the_other_family_changes_nothing() -> None:
    assert supposed(planned(), "endpoint=[fd00::1]:8080:gone") == planned()
    assert supposed(planned(), "endpoint=fd00::1:gone") == planned()


def test_others() -> None:
    assert supposed(planned(), "sessionAffinity=ClientIP").affinity == 10800
    assert supposed(planned(affinity=600), "sessionAffinity=None").affinity is None
    assert supposed(planned(), "masqueradeAll=true").frontends[0].masquerade is Masquerade.ALWAYS
    ranges = supposed(planned(), "loadBalancerSourceRanges=203.0.113.9,198.51.100.0/24")
    (balanced,) = (one for one in ranges.frontends if one.kind is Kind.LOAD_BALANCER)
    assert balanced.sources == ("203.0.113.9/32", "198.51.100.0/24")
    assert parse(["mode=ipvs"]).mode == "ipvs"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("policy=Local", "write one of mode=iptables|ipvs|nftables; externalTrafficPolicy=Cluster|Local;"),
        ("mode", "write one of mode=iptables|ipvs|nftables;"),
        ("mode=userspace", "it is one of iptables, ipvs, nftables"),
        ("externalTrafficPolicy=local", "it is one of Cluster, Local"),
        ("endpoint=10.244.1.5", "write endpoint=IP[:PORT]:ready|notready|terminating|gone"),
        ("loadBalancerSourceRanges=10.0.0.0/33", "it is a list of networks"),
    ],
)
def test_what_makes_no_sense(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"^--if {text.replace('|', '.')}: ") as raised:
        parse([text])
    assert said in str(raised.value)


def test_an_endpoint_that_there_is_not() -> None:
    with pytest.raises(UsageError, match=r"has no such endpoint; it has 10\.244\.1\.5:8080, 10\.244\.2\.6:8080"):
        supposed(planned(), "endpoint=10.9.9.9:gone")
