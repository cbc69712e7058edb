"""From events to frontends: changes, slices, claims."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kpx.net import Family
from kpx.proxier.desired import DesiredState
from kpx.proxier.frontends import Frontends, Kind, ServiceName, ServicePortName, Verdict
from kpx.proxier.plan import Viewpoint
from tests.unit.proxier.objects import endpoint_slice, service

WEB = ServicePortName("shop", "web", "http", "TCP")
RIVAL = ServicePortName("shop", "rival", "http", "TCP")


def state() -> DesiredState:
    return DesiredState(Family.IPV4, Viewpoint(node="n1", zone="za"))


def endpoints(frontends: Frontends | None) -> list[str]:
    return [str(one) for one in frontends.endpoints] if frontends else []


def test_service_then_slice_is_one_change_each() -> None:
    desired = state()

    assert desired.tracker.apply_service(service())
    assert desired.take().now[WEB].frontends[0].verdict is Verdict.REJECT  # type: ignore[union-attr]
    assert desired.tracker.apply_slice(endpoint_slice("shop/web-1", "10.0.0.1"))
    assert desired.take().now[WEB].frontends[0].verdict is Verdict.FORWARD  # type: ignore[union-attr]
    assert not desired.tracker.apply_slice(endpoint_slice("shop/web-1", "10.0.0.1"))
    assert desired.take().now == {}


def test_what_is_undone_before_it_is_taken_is_no_change() -> None:
    desired = state()
    desired.tracker.apply_service(service())
    desired.take()

    desired.tracker.apply_service(service(clusterIP="10.96.0.2"))
    desired.tracker.apply_service(service())

    assert desired.take().now == {}


def test_slices_are_merged_ordered_by_text_and_deduplicated() -> None:
    desired = state()
    desired.tracker.apply_service(service())
    leaving: dict[str, Any] = {
        "addresses": ["10.0.0.1"],
        "conditions": {"ready": False, "serving": True, "terminating": True},
    }
    desired.tracker.apply_slice(endpoint_slice("shop/web-1", "10.0.0.1", "10.0.0.2", "bogus"))
    desired.tracker.apply_slice(endpoint_slice("shop/web-2", endpoints=[leaving, {"addresses": ["10.0.0.10"]}, {}]))
    desired.tracker.apply_slice(endpoint_slice("shop/web-6", "fd00::1", family="IPv6"))
    desired.tracker.apply_slice(endpoint_slice("shop/web-3", "10.0.0.9", port=None))

    found = desired.take().now[WEB]

    assert endpoints(found) == ["10.0.0.10:8080", "10.0.0.1:8080", "10.0.0.2:8080"]
    assert found is not None
    assert all(one.ready for one in found.endpoints)


def test_a_slice_can_move_to_another_service() -> None:
    desired = state()
    desired.tracker.apply_service(service("shop/web"))
    desired.tracker.apply_service(service("shop/rival", clusterIP="10.96.0.2"))
    desired.tracker.apply_slice(endpoint_slice("shop/x", "10.0.0.1", of="web"))
    desired.take()

    desired.tracker.apply_slice(endpoint_slice("shop/x", "10.0.0.1", of="rival"))

    changed = desired.take().now
    assert endpoints(changed[WEB]) == []
    assert endpoints(changed[RIVAL]) == ["10.0.0.1:8080"]


def test_udp_is_noticed_also_when_its_last_endpoint_goes() -> None:
    desired = state()
    desired.tracker.apply_service(service(ports=[{"name": "dns", "port": 53, "protocol": "UDP"}]))
    assert not desired.take().udp
    desired.tracker.apply_slice(endpoint_slice("shop/web-1", "10.0.0.1", port="dns", protocol="UDP"))
    assert desired.take().udp
    desired.tracker.remove_slice("shop", "web-1")
    assert desired.take().udp


def test_the_older_service_has_the_address_and_the_other_inherits_it() -> None:
    desired = state()
    desired.tracker.apply_service(service("shop/rival", created="2026-02-02T00:00:00Z", externalIPs=["192.0.2.1"]))
    desired.take()
    desired.tracker.apply_service(service("shop/web", externalIPs=["192.0.2.1"]))

    delta = desired.take()

    assert {str(one) for one in delta.conflicts} == {
        "shop/rival:http does not get 10.96.0.1 port 80/TCP: the older shop/web:http has it",
        "shop/rival:http does not get 192.0.2.1 port 80/TCP: the older shop/web:http has it",
    }
    assert delta.now[RIVAL] is not None
    assert delta.now[RIVAL].frontends == ()
    assert sum(map(len, desired.conflicts.values())) == 2

    desired.tracker.remove_service(ServiceName("shop", "web"))
    heir = desired.take().now[RIVAL]
    assert heir is not None
    assert [one.kind for one in heir.frontends] == [Kind.CLUSTER_IP, Kind.EXTERNAL_IP]
    assert not desired.conflicts


def test_zone_of_the_node_changes_what_is_used() -> None:
    desired = state()
    hinted = [
        {"addresses": ["10.0.0.1"], "hints": {"forZones": [{"name": "za"}]}},
        {"addresses": ["10.0.0.2"], "hints": {"forZones": [{"name": "zb"}]}},
    ]
    desired.tracker.apply_service(service())
    desired.tracker.apply_slice(endpoint_slice(endpoints=hinted))
    desired.take()

    assert desired.in_zone("zb")

    found = desired.take().now[WEB]
    assert found is not None
    assert [one.ip for one in found.cluster] == ["10.0.0.2"]


services = st.builds(
    lambda name, ip, node_port, age: service(
        f"shop/{name}",
        clusterIP=f"10.96.0.{ip}",
        type="NodePort",
        ports=[{"name": "http", "port": 80, "nodePort": node_port}],
        created=f"2026-01-0{age}T00:00:00Z",
    ),
    st.sampled_from("abc"),
    st.integers(1, 3),
    st.sampled_from([0, 30001, 30002]),
    st.integers(1, 2),
)
slices = st.builds(
    lambda name, of, hosts: endpoint_slice(f"shop/{name}", *(f"10.0.0.{host}" for host in hosts), of=of),
    st.sampled_from(["s1", "s2", "s3"]),
    st.sampled_from("abc"),
    st.sets(st.integers(1, 4), max_size=3),
)


@given(st.lists(st.one_of(services, slices), max_size=20), st.randoms(use_true_random=False))
def test_any_order_of_events_and_of_syncs_ends_in_the_same_state(history: list[Any], chance: random.Random) -> None:
    last = {(type(one), one.metadata.name): one for one in history}
    direct, shuffled = state(), state()
    for one in last.values():
        _apply(direct, one)
    direct.take()

    events = [*history, *last.values()]
    chance.shuffle(events)
    for one in events:
        _apply(shuffled, one)
        if chance.random() < 0.5:
            shuffled.take()
    for one in last.values():
        _apply(shuffled, one)
    for name in "abc":
        if not any(type(one) is type(service()) and one.metadata.name == name for one in last.values()):
            shuffled.tracker.remove_service(ServiceName("shop", name))
    shuffled.take()

    assert shuffled.frontends == direct.frontends
    assert shuffled.conflicts == direct.conflicts


def _apply(desired: DesiredState, one: Any) -> None:
    if type(one) is type(service()):
        desired.tracker.apply_service(one)
    else:
        desired.tracker.apply_slice(one)
