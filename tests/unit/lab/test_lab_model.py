"""The parts of the lab that need no kernel: its places, its objects, its records."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from kpx.cluster.documents import parse
from kpx.cluster.events import Applied
from kpx.cluster.objects import EndpointSlice, Kind, Service
from kpx.lab import objects, state
from kpx.lab.state import Process
from kpx.lab.topology import DEFAULT, NODE, Role, Topology, namespaces_of
from kpx.net import Family, canonical_ip, family_of


def test_no_address_is_given_twice() -> None:
    topology = Topology(tuple(range(10, 20)), tuple(range(10, 21)))
    addresses = Counter(address for place in topology.places for address in (*place.addresses, *place.further))

    assert max(addresses.values()) == 1
    assert all(canonical_ip(address) == address for address in addresses)


def test_every_place_comes_after_its_uplink() -> None:
    seen = {""}
    for place in DEFAULT.places:
        assert place.uplink in seen
        seen.add(place.name)


def test_pods_have_addresses_of_their_node_and_number() -> None:
    pod = DEFAULT.place("b11")

    assert (pod.uplink, pod.role) == ("node-b", Role.POD)
    assert (pod.address(Family.IPV4), pod.address(Family.IPV6)) == ("10.244.22.11", "fd00:244:0:22::11")


def test_node_is_short_for_the_node_under_test() -> None:
    assert DEFAULT.place("node") == DEFAULT.place(NODE)
    with pytest.raises(KeyError):
        DEFAULT.place("a99")


def test_a_lab_owns_namespaces_by_name_alone() -> None:
    names = ["one-a10", "one-node-a", "one-client2", "one-other", "onetwo-a10", "one", "cni-a10", "one-a1000"]

    assert namespaces_of("one", names) == ["one-a10", "one-node-a", "one-client2"]


def test_manifests_are_objects_that_name_only_pods_of_the_lab(tmp_path: Path) -> None:
    objects.write_manifests(tmp_path, DEFAULT, services=0)
    found = [
        one
        for path in sorted(tmp_path.iterdir())
        for part in parse(path.name, path.read_bytes(), NODE, {}).values()
        for one in part
    ]
    known = {address: place for place in DEFAULT.places for address in place.addresses}

    assert all(isinstance(one, Applied) for one in found)
    kinds = Counter(one.key.kind for one in found)
    assert kinds[Kind.SERVICE] == 9
    assert kinds[Kind.NODE] == kinds[Kind.SERVICE_CIDR] == 1
    for one in found:
        if isinstance(one, Applied) and isinstance(one.object, EndpointSlice):
            for endpoint in one.object.endpoints or ():
                for address in endpoint.addresses or ():
                    assert known[address].uplink == endpoint.node_name
                    assert family_of(address).value == one.object.address_type


def test_many_services_have_an_address_each(tmp_path: Path) -> None:
    objects.write_manifests(tmp_path, DEFAULT, services=300)
    items = json.loads((tmp_path / "scale.json").read_bytes())["items"]
    parts = parse("scale.json", json.dumps({"kind": "List", "apiVersion": "v1", "items": items}).encode(), NODE, {})
    services = [
        one.object
        for part in parts.values()
        for one in part
        if isinstance(one, Applied) and isinstance(one.object, Service)
    ]

    assert len({service.spec.cluster_ip for service in services}) == len(services) == 300
    assert sum(len(item["endpoints"]) for item in items if item["kind"] == "EndpointSlice") == 1500


def test_configuration_is_merged_section_by_section() -> None:
    configured = objects.configuration("nftables", {"iptables": {"masqueradeAll": True}, "clusterCIDR": ""})

    assert configured["mode"] == "nftables"
    assert configured["clusterCIDR"] == ""
    assert configured["iptables"]["masqueradeAll"] is True
    assert configured["iptables"]["syncPeriod"] == "30s"
    assert configured["conntrack"]["maxPerCore"] == 0


def test_a_process_is_known_by_its_start() -> None:
    own = Process("own", os.getpid(), state.start_time(os.getpid()) or 0)

    assert own.alive
    assert not Process("another", own.pid, own.started + 1).alive


def test_a_process_that_ended_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    started = state.start_time(child.pid)
    child.wait()

    assert started is None or not Process("child", child.pid, started).alive


def test_processes_are_ended_even_if_they_do_not_want_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "_TERM_SECONDS", 0.05)
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        state.end([Process("child", child.pid, state.start_time(child.pid) or 0)])
        assert child.wait(5) == -9


def test_a_later_process_with_the_same_id_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        state.end([Process("former", child.pid, (state.start_time(child.pid) or 0) - 1)])
        assert child.poll() is None
        child.kill()
