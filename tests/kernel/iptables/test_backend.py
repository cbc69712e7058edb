"""iptables mode on the real kernel: the very rules of kube-proxy, and nothing written that need not be."""

from __future__ import annotations

import random
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from kpx.cluster.objects import EndpointSlice, Service
from kpx.kernel.iptables.program import Iptables, Variant
from kpx.net import Family
from kpx.proxier.backend import BackendError
from kpx.proxier.desired import Delta, DesiredState
from kpx.proxier.frontends import Frontends, ServiceName, ServicePortName
from kpx.proxier.iptables import backend as module
from kpx.proxier.iptables.backend import IptablesBackend
from kpx.proxier.iptables.settings import Settings
from kpx.proxier.node import LocalTraffic
from kpx.proxier.plan import Viewpoint
from tests.unit.proxier.objects import endpoint_slice, service

FIXTURES = Path(__file__).parents[2] / "fixtures" / "kube-proxy-1.36"
# The one jump that kube-proxy does not have: see the list of deviations in docs/.
EXTRA = (
    "filter",
    '-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" '
    "-j KUBE-EXTERNAL-SERVICES",
)


@pytest.fixture(params=[(v, f) for v in Variant for f in Family], ids=lambda p: f"{p[0].value}-{p[1].value}")
def iptables(request: pytest.FixtureRequest) -> Iptables:
    variant, family = request.param
    return Iptables(family, variant)


@pytest.fixture(params=list(Variant), ids=lambda variant: variant.value)
def ipv4(request: pytest.FixtureRequest) -> Iptables:
    return Iptables(Family.IPV4, request.param)


def settings(family: Family) -> Settings:
    if family is Family.IPV4:
        return Settings(family, LocalTraffic("10.244.0.0/16"), "10.199.0.21", localhost_node_ports=True)
    return Settings(family, LocalTraffic("fd00:244::/48"), "fd00:199::21")


def fixture_world(family: Family) -> DesiredState:
    desired = DesiredState(family, Viewpoint(node="node-a", zone="z1"))
    for one in yaml.safe_load_all((FIXTURES / "objects.yaml").read_text()):
        if one["kind"] == "Service":
            desired.tracker.apply_service(msgspec.convert(one, Service))
        elif one["kind"] == "EndpointSlice":
            desired.tracker.apply_slice(msgspec.convert(one, EndpointSlice))
    desired.take()
    return desired


def saved(iptables: Iptables) -> str:
    return subprocess.run([iptables.program("save")], check=True, capture_output=True, text=True).stdout


def rules(text: str, *, accounting: bool = True) -> Counter[tuple[str, str]]:
    """Rules and chains by table, without counters and without order among services."""
    table, found = "", Counter[tuple[str, str]]()
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith((":", "-A")):
            bare = re.sub(r" ?\[\d+:\d+\]", "", line)
            if accounting or "localhost_nps" not in bare:
                found[table, re.sub(r"-m nfacct --nfacct-name +\S+ ", "", bare)] += 1
    return found


def ours(text: str) -> list[str]:
    return [line for line in text.splitlines() if "KUBE-" in line]


@pytest.fixture
def backend(iptables: Iptables) -> Iterator[IptablesBackend]:
    made = IptablesBackend(iptables, settings(iptables.family))
    yield made
    made.close()


def test_makes_the_rules_that_kube_proxy_makes(iptables: Iptables, backend: IptablesBackend) -> None:
    outcome = backend.sync(fixture_world(iptables.family).frontends)

    expected = rules((FIXTURES / f"{iptables.program('save')}.txt").read_text(), accounting=False)
    assert rules(saved(iptables)) - expected == Counter([EXTRA])
    assert expected - rules(saved(iptables)) == Counter()
    metrics = (FIXTURES / "metrics-iptables.txt").read_text()
    for table, count in outcome.owned.items():
        found = re.search(rf'iptables_total.*{iptables.family.value}",table="{table}"}} (\d+)', metrics)
        if found:
            # Of the fixture's rules, one for each served node port counts packets.
            accounting = 3 if (iptables.family, table) == (Family.IPV4, "nat") else 0
            assert count == int(found[1]) - accounting


def test_rules_are_the_same_in_whatever_parts_they_are_written(
    iptables: Iptables, backend: IptablesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    desired = fixture_world(iptables.family)
    backend.sync(desired.frontends)
    whole = saved(iptables)
    backend.cleanup()
    monkeypatch.setattr(module, "_PORTS_PER_PART", 1)

    outcome = backend.sync(desired.frontends)

    assert rules(saved(iptables)) == rules(whole)
    assert not outcome.rejected
    assert not sum(backend.sync(desired.frontends).written.values())


def test_takes_over_kube_proxys_rules_without_touching_them(iptables: Iptables) -> None:
    stock = (FIXTURES / f"{iptables.program('save')}.txt").read_text()
    stock = "\n".join(line for line in stock.splitlines() if "nfacct" not in line) + "\n"
    subprocess.run([iptables.program("restore")], input=stock, check=True, text=True)
    before = handles(iptables)

    taken = IptablesBackend(iptables, replace(settings(iptables.family), drop_invalid=False))
    outcome = taken.sync(fixture_world(iptables.family).frontends)
    taken.close()

    assert sum(outcome.written.values()) == 0
    assert before <= handles(iptables)


def handles(iptables: Iptables) -> set[str]:
    """The nf_tables rules with their handles; for the legacy variant, which has none, the rules."""
    if iptables.variant is Variant.LEGACY:
        return {line for line in saved(iptables).splitlines() if line.startswith("-A")}
    kind = "ip" if iptables.family is Family.IPV4 else "ip6"
    listed = ["nft", "-a", "list", "table", kind, "nat"]
    text = subprocess.run(listed, check=True, capture_output=True, text=True).stdout
    return {re.sub(r"counter packets \d+ bytes \d+", "", line) for line in text.splitlines() if "# handle" in line}


def test_a_second_sync_and_a_restart_write_nothing(iptables: Iptables, backend: IptablesBackend) -> None:
    world = fixture_world(iptables.family)
    backend.sync(world.frontends)
    before = handles(iptables)

    again = backend.sync(world.frontends)
    other = IptablesBackend(iptables, settings(iptables.family))
    restarted = other.sync(world.frontends)
    other.close()

    for outcome in (again, restarted):
        assert sum(outcome.written.values()) == 0
        assert outcome.repaired == ()
    assert handles(iptables) == before


def test_cleanup_leaves_nothing_of_ours_and_all_of_others(iptables: Iptables, backend: IptablesBackend) -> None:
    foreign = ["-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "ACCEPT"]
    subprocess.run([iptables.program(), *foreign], check=True)
    backend.sync(fixture_world(iptables.family).frontends)

    backend.cleanup()

    assert ours(saved(iptables)) == []
    assert "--dport 22 -j ACCEPT" in saved(iptables)


def test_the_kubelets_rules_in_kube_firewall_stay(ipv4: Iptables) -> None:
    run = [ipv4.program(), "-w"]
    subprocess.run([*run, "-N", "KUBE-FIREWALL"], check=True)
    subprocess.run([*run, "-A", "KUBE-FIREWALL", "-s", "192.0.2.66", "-j", "DROP"], check=True)
    backend = IptablesBackend(ipv4, settings(Family.IPV4))

    backend.sync(fixture_world(Family.IPV4).frontends)
    backend.sync(fixture_world(Family.IPV4).frontends)
    assert saved(ipv4).count("-A KUBE-FIREWALL") == 2
    backend.cleanup()
    backend.close()

    assert [line for line in ours(saved(ipv4)) if line.startswith("-A")] == [
        "-A INPUT -j KUBE-FIREWALL",
        "-A OUTPUT -j KUBE-FIREWALL",
        "-A KUBE-FIREWALL -s 192.0.2.66/32 -j DROP",
    ]


def test_drift_is_noticed_named_and_mended(iptables: Iptables, backend: IptablesBackend) -> None:
    world = fixture_world(iptables.family)
    backend.sync(world.frontends)
    assert backend.drifted() is None
    before = rules(saved(iptables))
    chain = next(key[1].split()[1] for key in before if "KUBE-SVC-" in key[1] and key[1].startswith("-A KUBE-SVC"))
    subprocess.run([iptables.program(), "-t", "nat", "-F", chain], check=True)
    subprocess.run([iptables.program(), "-t", "nat", "-D", "PREROUTING", "1"], check=True)

    noticed = backend.drifted()
    outcome = backend.sync(world.frontends)

    assert noticed is not None
    if iptables.variant is Variant.NFT:
        assert chain in noticed
        assert "tables-nft[" in noticed
    assert f"chain {chain} had other rules" in outcome.repaired
    assert rules(saved(iptables)) == before
    assert backend.drifted() is None


def test_foreign_rules_are_no_drift(ipv4: Iptables) -> None:
    backend = IptablesBackend(ipv4, settings(Family.IPV4))
    backend.sync(fixture_world(Family.IPV4).frontends)
    subprocess.run([ipv4.program(), "-t", "mangle", "-N", "SOMEBODY"], check=True)
    backend.drifted()
    before = saved(ipv4)

    assert backend.sync(fixture_world(Family.IPV4).frontends).repaired == ()
    assert ours(saved(ipv4)) == ours(before)
    backend.close()


def test_everything_flushed_comes_back(ipv4: Iptables) -> None:
    backend = IptablesBackend(ipv4, settings(Family.IPV4))
    world = fixture_world(Family.IPV4)
    backend.sync(world.frontends)
    before = rules(saved(ipv4))
    for table in ("nat", "filter"):
        subprocess.run([ipv4.program(), "-t", table, "-F"], check=True)
        subprocess.run([ipv4.program(), "-t", table, "-X"], check=True)

    assert backend.drifted()
    backend.sync(world.frontends)

    assert rules(saved(ipv4)) == before
    backend.close()


def small_world() -> DesiredState:
    """A good Service, one that can be made bad, and one without endpoints."""
    desired = DesiredState(Family.IPV4, Viewpoint(node="n1"))
    for number, name in enumerate(("good", "bad"), 1):
        desired.tracker.apply_service(
            service(f"shop/{name}", clusterIP=f"10.96.0.{number}", sessionAffinity="ClientIP")
        )
        desired.tracker.apply_slice(endpoint_slice(f"shop/{name}-1", f"10.244.0.{number}", of=name))
    ports = [{"name": "http", "port": 80, "nodePort": 31999}]
    desired.tracker.apply_service(service("shop/empty", clusterIP="10.96.0.3", type="NodePort", ports=ports))
    desired.take()
    return desired


def refused(frontends: Frontends) -> Frontends:
    """The same, but the kernel cannot do it: xt_recent keeps times in 32 bits."""
    return replace(frontends, affinity=2**40)


GOOD, BAD, EMPTY = (ServicePortName("shop", name, "http", "TCP") for name in ("good", "bad", "empty"))


def test_one_service_that_the_kernel_refuses_stops_no_other_and_leaves_nothing(ipv4: Iptables) -> None:
    frontends = small_world().frontends
    with closing(IptablesBackend(ipv4, settings(Family.IPV4))) as backend:
        outcome = backend.sync({**frontends, BAD: refused(frontends[BAD])})
        assert [*outcome.rejected] == [BAD]
        assert "shop/good:http cluster IP" in saved(ipv4)
        assert "shop/bad" not in saved(ipv4)
        held = rules(saved(ipv4))

        again = backend.sync({GOOD: frontends[GOOD], EMPTY: frontends[EMPTY]})
        assert sum(again.written.values()) == 0
        assert rules(saved(ipv4)) == held


def test_a_service_that_becomes_impossible_is_taken_out_and_comes_back(ipv4: Iptables) -> None:
    frontends = small_world().frontends
    without_empty = {GOOD: frontends[GOOD], BAD: frontends[BAD]}
    with closing(IptablesBackend(ipv4, settings(Family.IPV4))) as backend:
        backend.sync(without_empty)
        bad, empty = refused(frontends[BAD]), frontends[EMPTY]

        outcome = backend.update(Delta({BAD: frontends[BAD], EMPTY: None}, {BAD: bad, EMPTY: empty}))
        assert [*outcome.rejected] == [BAD]
        assert "shop/bad" not in saved(ipv4)
        assert saved(ipv4).count("shop/empty:http has no endpoints") == 2

        backend.update(Delta({BAD: bad, EMPTY: empty}, {BAD: frontends[BAD], EMPTY: None}))
        assert "shop/empty" not in saved(ipv4)
        assert sum(backend.sync(without_empty).written.values()) == 0


def test_bytes_that_are_no_text_in_rules_of_others_do_no_harm(ipv4: Iptables) -> None:
    odd = [*(word.encode() for word in (ipv4.program(), "-A", "FORWARD", "-m", "comment", "--comment")), b"bad\xff"]
    subprocess.run(odd, check=True)
    with closing(IptablesBackend(ipv4, settings(Family.IPV4))) as backend:
        backend.sync(small_world().frontends)
        backend.cleanup()

    assert ours(subprocess.run([ipv4.program("save")], capture_output=True, check=True).stdout.decode("latin-1")) == []


@pytest.mark.parametrize("name", ['shop/we"b', "shop/we'b", "shop/we\\b", "shop/-j", "shop/" + "x" * 400, "shop/wéb"])
def test_odd_names_are_served_and_compare_equal(ipv4: Iptables, name: str) -> None:
    desired = DesiredState(Family.IPV4, Viewpoint(node="n1"))
    desired.tracker.apply_service(service(name))
    desired.tracker.apply_slice(endpoint_slice("shop/1", "10.244.0.1", of=name.split("/")[1]))
    desired.take()
    backend = IptablesBackend(ipv4, settings(Family.IPV4))

    assert backend.sync(desired.frontends).rejected == {}
    assert sum(backend.sync(desired.frontends).written.values()) == 0
    backend.close()


def test_a_broken_table_is_an_error_and_no_verdict_on_services(ipv4: Iptables, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = IptablesBackend(ipv4, settings(Family.IPV4))
    monkeypatch.setenv("PATH", "/nonexistent")

    with pytest.raises(BackendError, match="is not installed: install the package iptables"):
        backend.sync(fixture_world(Family.IPV4).frontends)
    backend.close()


def test_a_chain_that_others_use_is_emptied_not_deleted(ipv4: Iptables) -> None:
    world = fixture_world(Family.IPV4)
    backend = IptablesBackend(ipv4, settings(Family.IPV4))
    backend.sync(world.frontends)
    chain = re.search(
        r"KUBE-SVC-\w+", next(line for line in saved(ipv4).splitlines() if "shop/web:http cluster" in line)
    )
    assert chain
    subprocess.run([ipv4.program(), "-t", "nat", "-A", "PREROUTING", "-s", "192.0.2.1", "-j", chain[0]], check=True)

    world.tracker.remove_service(ServiceName("shop", "web"))
    backend.update(world.take())

    assert "shop/web" not in saved(ipv4)
    assert f":{chain[0]} " in saved(ipv4)
    backend.close()


def test_comments_follow_the_size_of_the_cluster(ipv4: Iptables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE_CLUSTER_ENDPOINTS", 3)
    desired = DesiredState(Family.IPV4, Viewpoint(node="n1"))
    desired.tracker.apply_service(service())
    desired.tracker.apply_slice(endpoint_slice("shop/web-1", "10.244.0.1", "10.244.0.2"))
    desired.take()
    backend = IptablesBackend(ipv4, settings(Family.IPV4))
    backend.sync(desired.frontends)
    assert "shop/web:http -> 10.244.0.1:8080" in saved(ipv4)

    desired.tracker.apply_slice(endpoint_slice("shop/web-2", "10.244.0.3", "10.244.0.4"))
    backend.update(desired.take())
    assert "shop/web:http -> " not in saved(ipv4)
    assert "shop/web:http cluster IP" in saved(ipv4)

    desired.tracker.remove_slice("shop", "web-2")
    backend.update(desired.take())
    assert "shop/web:http -> 10.244.0.1:8080" in saved(ipv4)
    backend.close()


hosts = st.sets(st.integers(1, 6), max_size=4)
changes = st.one_of(
    st.tuples(st.just("slice"), st.sampled_from("abc"), hosts),
    st.tuples(
        st.just("service"), st.sampled_from("abc"), st.sampled_from(["ClusterIP", "NodePort", "Local", "Sticky"])
    ),
    st.tuples(st.just("remove"), st.sampled_from("abc"), st.none()),
)


def change(desired: DesiredState, what: tuple[str, str, Any]) -> None:
    kind, name, detail = what
    number = "abc".index(name) + 1
    if kind == "slice":
        desired.tracker.apply_slice(
            endpoint_slice(
                f"shop/{name}", *(f"10.244.0.{host}@{'n1' if host < 3 else 'n2'}" for host in detail), of=name
            )
        )
    elif kind == "remove":
        desired.tracker.remove_service(ServiceName("shop", name))
    else:
        spec: dict[str, Any] = {"clusterIP": f"10.96.0.{number}", "type": "NodePort"}
        spec["ports"] = [{"name": "http", "port": 80, "nodePort": 30000 + number}]
        if detail == "ClusterIP":
            spec["type"] = "ClusterIP"
            spec["ports"][0]["nodePort"] = 0
        elif detail == "Local":
            spec |= {"externalTrafficPolicy": "Local", "externalIPs": [f"192.0.2.{number}"]}
        elif detail == "Sticky":
            spec |= {"sessionAffinity": "ClientIP", "internalTrafficPolicy": "Local"}
        desired.tracker.apply_service(service(f"shop/{name}", **spec))


@hypothesis_settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(changes, min_size=1, max_size=10), st.randoms(use_true_random=False))
def test_changes_one_by_one_end_where_a_full_sync_does(
    ipv4: Iptables, history: list[tuple[str, str, Any]], chance: random.Random
) -> None:
    desired = DesiredState(Family.IPV4, Viewpoint(node="n1"))
    with closing(IptablesBackend(ipv4, settings(Family.IPV4))) as backend:
        backend.cleanup()
        backend.sync(desired.frontends)
        for what in history:
            change(desired, what)
            if chance.random() < 0.7:
                backend.update(desired.take())
        outcome = backend.update(desired.take())
        step_by_step = rules(saved(ipv4))

    with closing(IptablesBackend(ipv4, settings(Family.IPV4))) as fresh:
        compared = fresh.sync(desired.frontends)
        assert compared.repaired == ()
        assert compared.owned == outcome.owned
        fresh.cleanup()
        assert ours(saved(ipv4)) == []
        fresh.sync(desired.frontends)
        assert rules(saved(ipv4)) == step_by_step
