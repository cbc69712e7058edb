"""What the daemon remembers for the tools, and how it tells it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from kpx.cluster.events import Key
from kpx.cluster.objects import Kind
from kpx.net import Family
from kpx.proxier.backend import Outcome
from kpx.proxier.desired import Delta, DesiredState
from kpx.proxier.frontends import ServicePortName
from kpx.proxier.http_messages import Request
from kpx.proxier.journal import Journal
from kpx.proxier.observer import Sync
from kpx.proxier.plan import Viewpoint
from kpx.proxier.published import Listed, Origin, Status, publish
from kpx.proxier.tool_pages import ToolPages
from tests.unit.proxier.objects import endpoint_slice, service

WEB = ServicePortName("shop", "web", "http", "TCP")
SECOND = 1_000_000_000


def desired() -> DesiredState:
    state = DesiredState(Family.IPV4, Viewpoint(node="n1"))
    state.tracker.apply_service(service())
    spec = {
        "clusterIP": "10.96.0.2",
        "externalTrafficPolicy": "Local",
        "type": "NodePort",
        "sessionAffinity": "ClientIP",
    }
    ports = [{"name": "http", "port": 80, "nodePort": 30080}]
    state.tracker.apply_service(service("shop/api", ports=ports, **spec))
    state.tracker.apply_slice(endpoint_slice("shop/api-1", "10.0.0.1@n1", "10.0.0.2@n2", of="api"))
    return state


def sync(state: DesiredState, delta: Delta, **facts: Any) -> Sync:
    made: dict[str, Any] = {"full": False, "seconds": 0.25, "outcome": Outcome({}, {}), "conflicts": state.conflicts}
    return Sync(Family.IPV4, delta=delta, frontends=state.frontends, **{**made, **facts})


def journal() -> Journal:
    times = iter(range(SECOND, 1000 * SECOND, SECOND))
    return Journal([Family.IPV4], lambda: next(times))


def answers(journal: Journal, path: str, query: Mapping[str, str] | None = None) -> tuple[int, Any]:
    status = Status("n1", "nftables", "v1", 7, "1970", Origin(manifests="/m"), (), msgspec.Raw(b'{"a":1}'))
    answer = ToolPages(journal, status)(Request("GET", path, query or {})).whole()
    return answer.status, json.loads(answer.body) if answer.status == 200 else answer.body


def test_what_is_published_is_read_back_the_same() -> None:
    state = desired()
    state.take()
    for one in state.frontends.values():
        text = msgspec.json.encode(publish(Family.IPV4, one))
        assert msgspec.json.decode(text, type=type(publish(Family.IPV4, one))).read() == one


def test_service_ports_are_told_as_they_are_wanted_now() -> None:
    state, told = desired(), journal()
    assert answers(told, "/v1/frontends") == (200, {"apiVersion": "kpx/v1", "frontends": []})
    told.synced(sync(state, state.take()))

    names = [one["name"] for one in answers(told, "/v1/frontends")[1]["frontends"]]
    assert sorted(names) == ["api", "web"]
    (one,) = answers(told, "/v1/frontends", {"namespace": "shop", "name": "api"})[1]["frontends"]
    assert [(end["ip"], end["lists"]) for end in one["endpoints"]] == [
        ("10.0.0.1", ["cluster", "local"]),
        ("10.0.0.2", ["cluster"]),
    ]
    assert (one["family"], one["affinitySeconds"], one["externalPolicy"]) == ("IPv4", 10800, "Local")
    assert answers(told, "/v1/frontends", {"family": "IPv6"})[1]["frontends"] == []
    assert answers(told, "/v1/frontends", {"family": "ipv4"})[0] == 400


def test_the_state_of_a_family() -> None:
    state, told = desired(), journal()

    def shown() -> dict[str, Any]:
        (family,) = answers(told, "/v1/status")[1]["families"]
        return {name: value for name, value in family.items() if value and name != "family"}

    told.queued(Family.IPV4)
    told.queued(Family.IPV4)
    assert shown() == {"pendingSince": "1970-01-01T00:00:01Z"}
    told.synced(sync(state, state.take(), outcome=None, error="the kernel is away"))
    assert shown() == {
        "pendingSince": "1970-01-01T00:00:01Z",
        "lastSync": "1970-01-01T00:00:02Z",
        "error": "the kernel is away",
        "servicePorts": 2,
    }
    told.synced(sync(state, state.take()))
    assert shown() == {
        "lastSync": "1970-01-01T00:00:03Z",
        "lastSuccess": "1970-01-01T00:00:03Z",
        "servicePorts": 2,
    }
    status = answers(told, "/v1/status")[1]
    assert (status["node"], status["configuration"], status["apiVersion"]) == ("n1", {"a": 1}, "kpx/v1")


def test_a_hundred_syncs_are_remembered_the_newest_first() -> None:
    state, told = desired(), journal()
    delta = state.take()
    for number in range(120):
        told.synced(sync(state, delta, reason=f"reason {number}", full=number == 119))

    syncs = answers(told, "/v1/syncs")[1]["syncs"]

    assert [one["number"] for one in syncs] == list(range(120, 20, -1))
    assert (syncs[0]["reason"], syncs[0]["full"], syncs[0]["seconds"]) == ("reason 119", True, 0.25)
    assert (syncs[0]["changed"], sorted(syncs[0]["servicePorts"])) == (2, ["shop/api:http", "shop/web:http"])


def test_what_others_did_is_remembered_apart() -> None:
    state, told = desired(), journal()
    told.synced(sync(state, state.take()))
    told.synced(sync(state, state.take(), full=True, drift="chain lost, by nft[7]", repaired=("rule was missing",)))
    told.synced(sync(state, state.take()))

    (drift,) = answers(told, "/v1/drift")[1]["drift"]

    assert (drift["number"], drift["what"], drift["repaired"]) == (2, "chain lost, by nft[7]", ["rule was missing"])


def test_what_is_left_out_until_it_is_mended() -> None:
    state, told = desired(), journal()
    key = Key(Kind.SERVICE, "shop", "bad")
    delta = state.take()
    told.rejected(key, "its cluster IP is none")
    told.synced(sync(state, delta, full=True, outcome=Outcome({}, {}, rejected={WEB: "too long"})))

    rejected = answers(told, "/v1/rejected")[1]["rejected"]
    assert [(one["name"], one["reason"]) for one in rejected] == [
        ("bad", "its cluster IP is none"),
        ("web", "the kernel refuses shop/web:http (IPv4): too long"),
    ]

    told.accepted(key)
    told.synced(sync(state, delta))
    assert answers(told, "/v1/rejected")[1]["rejected"] == []


def test_addresses_that_others_have() -> None:
    state, told = desired(), journal()
    state.tracker.apply_service(service("shop/late", created="2026-02-01T00:00:00Z"))
    told.synced(sync(state, state.take()))

    (lost,) = answers(told, "/v1/rejected")[1]["conflicts"]

    assert lost == {
        "family": "IPv4",
        "servicePort": "shop/late:http",
        "address": "10.96.0.1",
        "port": 80,
        "protocol": "TCP",
        "owner": "shop/web:http",
    }


@pytest.mark.parametrize("path", ["/", "/v1", "/v2/status"])
def test_there_are_no_other_pages(path: str) -> None:
    assert answers(journal(), path)[0] == 404


def test_nothing_can_be_changed() -> None:
    status = Status("n1", "nftables", "v1", 7, "1970", Origin(), (), msgspec.Raw(b"{}"))
    assert ToolPages(journal(), status)(Request("POST", "/v1/status")).status == 405


def test_an_answer_with_more_fields_than_are_known_is_read() -> None:
    assert msgspec.json.decode(b'{"apiVersion":"kpx/v1","later":[1]}', type=Listed) == Listed()
