"""nftables mode on the real kernel: nothing written that need not be, everything mended, nothing left behind."""

from __future__ import annotations

import json
import random
import re
import subprocess
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.expressions import Counter
from kpx.kernel.nft.transaction import Elements, Transaction, add, delete
from kpx.net import Family
from kpx.proxier.backend import BackendError, Outcome
from kpx.proxier.desired import Delta, DesiredState
from kpx.proxier.frontends import Frontends
from kpx.proxier.nftables.backend import NftablesBackend
from tests.kernel.nftables.readback import of_frontends, of_table
from tests.kernel.nftables.worlds import (
    SETTINGS,
    backend,
    contents,
    counts,
    endpoints,
    fixture_world,
    remove,
    shop,
    table,
    world,
)
from tests.kernel.processes import pattern
from tests.unit.proxier.objects import service

families = pytest.mark.parametrize("family", list(Family), ids=lambda family: family.value)


def nft(*words: str, given: str = "") -> str:
    """What nft prints."""
    return subprocess.run(["nft", *words], input=given, check=True, capture_output=True, text=True).stdout


def restarted(desired: DesiredState, family: Family = Family.IPV4) -> Outcome:
    """What a daemon that starts now writes."""
    with backend(family) as fresh:
        return fresh.sync(desired.frontends)


@families
def test_a_second_sync_and_a_restart_write_nothing(family: Family) -> None:
    desired = fixture_world(family)
    with backend(family) as ours:
        first = ours.sync(desired.frontends)
        before = nft("-a", "list", "ruleset")
        again = ours.sync(desired.frontends)

    assert first.rejected == {}
    assert sum(first.written.values()) >= len(desired.frontends)
    for outcome in (again, restarted(desired, family)):
        assert (outcome.written, outcome.repaired, outcome.owned) == ({}, (), first.owned)
    assert nft("-a", "list", "ruleset") == before


@families
def test_the_table_does_what_the_frontends_say(family: Family) -> None:
    desired = fixture_world(family)
    with backend(family) as ours:
        ours.sync(desired.frontends)

    does = of_table(table(family), SETTINGS[family])

    assert does.answers
    assert does == of_frontends(desired.frontends.values(), SETTINGS[family])


@families
def test_nft_prints_all_of_it_and_loads_the_text_again(family: Family) -> None:
    desired = fixture_world(family)
    with backend(family) as ours:
        ours.sync(desired.frontends)

    text = nft("list", "ruleset")
    objects = json.loads(nft("-j", "list", "ruleset"))["nftables"]
    nft("flush", "ruleset")
    nft("-f", "-", given=text)

    assert {kind for one in objects for kind in one} == {"metainfo", "table", "chain", "rule", "set", "map"}
    assert 'comment "shop/dual:http"' in text
    assert nft("list", "ruleset") == text


def test_cleanup_leaves_nothing_of_ours_and_all_of_others() -> None:
    nft("add", "table", "ip", "somebody")
    before = nft("list", "ruleset")
    with backend() as ours:
        ours.sync(fixture_world(Family.IPV4).frontends)
        ours.cleanup()
        assert nft("list", "ruleset") == before
        ours.cleanup()
    assert nft("list", "ruleset") == before


HARM = {
    "everything": ("flush ruleset", "table kpx removed"),
    "the rules of a chain": ("flush chain ip kpx services", "in chain services removed"),
    "a rule's place": ("add rule ip kpx lb-2 drop", "rule in chain lb-2 added"),
    "a shared chain's rules": ("flush chain ip kpx lb-1", "rule in chain lb-1 removed"),
    "virtual addresses": ("flush map ip kpx service-ips", "elements of service-ips removed"),
    "endpoints": ("flush map ip kpx endpoints", "elements of endpoints removed"),
    "one slot": ("delete element ip kpx endpoints { 10.96.100.1 . tcp . 80 . 0 }", "elements of endpoints removed"),
    "a slot too many": (
        "add element ip kpx endpoints { 10.96.100.1 . tcp . 80 . 9 : 192.0.2.1 . 80 }",
        "elements of endpoints added",
    ),
    "the addresses of the node": ("flush set ip kpx nodeport-ips", "elements of nodeport-ips removed"),
    "networks": ("add element ip kpx service-cidrs { 172.16.0.0/12 }", "elements of service-cidrs added"),
    "an allowed source": ("flush set ip kpx {sources}", "elements of sources-"),
    "a chain of theirs": ("add chain ip kpx theirs; add rule ip kpx theirs accept", "chain theirs added"),
    "a base chain of theirs": (
        "add chain ip kpx theirs { type filter hook input priority 5; policy drop; }",
        "chain theirs added",
    ),
    "a set of theirs": ("add set ip kpx theirs { type ipv4_addr; }", "set theirs added"),
    "sleep": ("add table ip kpx { flags dormant; }", "table kpx added"),
}


@pytest.mark.parametrize("harm", HARM)
def test_what_others_do_is_noticed_named_and_mended(harm: str) -> None:
    command, told = HARM[harm]
    desired = fixture_world(Family.IPV4)
    with backend() as ours:
        ours.sync(desired.frontends)
        before = contents(table())
        assert ours.drifted() is None
        sources = next(name for name in table().sets if name.startswith("sources-"))
        with subprocess.Popen(["nft", command.replace("{sources}", sources)]) as program:
            assert program.wait() == 0

        noticed = ours.drifted()
        outcome = ours.sync(desired.frontends)

        assert noticed is not None
        assert told in noticed
        assert re.search(rf"by nft\[{pattern(program.pid)}\]", noticed)
        assert outcome.repaired
        assert contents(table()) == before
        assert ours.drifted() is None
        assert ours.sync(desired.frontends).repaired == ()


def test_what_others_do_in_their_own_tables_is_no_drift() -> None:
    with backend() as ours, backend(Family.IPV6) as other:
        ours.sync(fixture_world(Family.IPV4).frontends)
        nft("add table ip somebody; add chain ip somebody one")
        assert ours.drifted() is None
        other.sync(fixture_world(Family.IPV6).frontends)
        assert ours.drifted() is None


def test_a_change_to_what_others_removed_ends_in_a_whole_table() -> None:
    desired = world()
    shop(desired, "web", 1, 2)
    shop(desired, "api", 1)
    desired.take()
    with backend() as ours:
        ours.sync(desired.frontends)
        before = contents(table())
        nft("flush", "ruleset")
        endpoints(desired, "web", 2, 3)
        ours.update(desired.take())

        endpoints(desired, "web", 1, 2)
        ours.update(desired.take())

        assert contents(table()) == before


def test_a_chain_that_somebody_else_uses_stays_until_it_can_go() -> None:
    desired = world()
    shop(desired, "web", 1)
    desired.take()
    with backend() as ours:
        assert not ours.sync(desired.frontends).unremoved
        nft("add", "rule", "ip", "kpx", "services", "jump", "lb-1")
        remove(desired, "web")
        assert ours.update(desired.take()).unremoved
        assert "lb-1" in table().rules

        assert not ours.sync(desired.frontends).unremoved
        assert "lb-1" not in table().rules


def test_one_service_that_the_kernel_refuses_stops_no_other() -> None:
    def refused(name: str, frontends: Frontends) -> Frontends:
        # The kernel keeps times in fewer bits.
        return replace(frontends, affinity=2**52) if frontends.port.name == name else frontends

    desired = world()
    for name in ("good", "fine", "bad", "well"):
        shop(desired, name, 1)
    desired.take()
    with backend() as ours:
        outcome = ours.sync({port: refused("bad", one) for port, one in desired.frontends.items()})
        assert [port.name for port in outcome.rejected] == ["bad"]
        assert "shop/bad" not in nft("list", "ruleset")

        shop(desired, "late", 1)
        shop(desired, "worse", 2)
        delta = desired.take()
        outcome = ours.update(
            Delta(delta.before, {port: one and refused("worse", one) for port, one in delta.now.items()})
        )
        assert [port.name for port in outcome.rejected] == ["worse"]
        assert "shop/late" in nft("list", "ruleset")
        assert "shop/worse" not in nft("list", "ruleset")


@pytest.mark.parametrize("name", ['we"b', "we'b", "we\\b", "-j", "{}", "x" * 400, "wéb", "line\nbreak"])
@pytest.mark.parametrize("affinity", ["None", "ClientIP"])
def test_odd_names_are_served_and_printed(name: str, affinity: str) -> None:
    desired = world()
    shop(desired, name, 1, 2, sessionAffinity=affinity)
    desired.take()
    with backend() as ours:
        assert ours.sync(desired.frontends).rejected == {}
    text = nft("list", "ruleset")
    nft("flush", "ruleset")
    nft("-f", "-", given=text)
    assert nft("list", "ruleset") == text


def test_a_kernel_that_refuses_everything_is_an_error() -> None:
    with backend() as ours:
        ours.close()
        with pytest.raises(BackendError):
            ours.sync({})


# Changes.


class Journal(Nft):
    """A connection that keeps what it was given to do."""

    def __init__(self) -> None:
        super().__init__()
        self.transactions: list[Transaction] = []

    def apply(self, transaction: Transaction, *, generation: int | None = None) -> None:
        super().apply(transaction, generation=generation)
        if transaction.operations:
            self.transactions.append(transaction)

    def lines(self) -> list[str]:
        """What was done since the last call, in nft's language."""
        done, self.transactions = self.transactions, []
        return "".join(map(str, done)).splitlines()


@pytest.fixture
def journal() -> Journal:
    return Journal()


def test_an_endpoint_that_is_replaced_is_two_messages_among_a_thousand_services(journal: Journal) -> None:
    desired = world()
    for number in range(1000):
        shop(desired, f"s{number}", 1, 3, clusterIP=f"10.97.{number // 250}.{number % 250}")
    desired.take()
    ours = NftablesBackend(journal, SETTINGS[Family.IPV4])
    ours.sync(desired.frontends)
    journal.lines()

    endpoints(desired, "s7", 1, 4)
    outcome = ours.update(desired.take())

    assert journal.lines() == [
        "delete element ip kpx endpoints { 10.97.0.7 . tcp . 80 . 1 }",
        'add element ip kpx endpoints { 10.97.0.7 . tcp . 80 . 1 comment "shop/s7:http" : 10.244.0.4 . 8080 }',
    ]
    assert outcome.written == {"endpoints": 2}
    ours.close()


def test_the_number_of_endpoints_changes_no_verdict_within_a_capacity(journal: Journal) -> None:
    desired = world()
    shop(desired, "web", 3, 4, 5)
    desired.take()
    ours = NftablesBackend(journal, SETTINGS[Family.IPV4])
    ours.sync(desired.frontends)

    endpoints(desired, "web", 3, 4, 5, 6)
    assert ours.update(desired.take()).written == {"endpoints": 1}
    endpoints(desired, "web", 4, 5, 6)
    # The last endpoint moves into the first one's slot.
    assert ours.update(desired.take()).written == {"endpoints": 3}
    endpoints(desired, "web", 4, 5, 6, 7, 8)
    assert ours.update(desired.take()).written == {"endpoints": 2, "service-ips": 2}
    assert set(table().rules) & {"lb-4", "lb-8"} == {"lb-8"}
    ours.close()


def test_counts_stay_with_their_endpoints() -> None:
    desired = world()
    shop(desired, "web", 3, 4, 5)
    desired.take()
    with backend() as ours:
        ours.sync(desired.frontends)
        with Nft() as other:
            held = [
                Element(one.key, one.data, one.comment, Counter(int(one.data[3]), 7))
                for one in table().elements["endpoints"]
                if isinstance(one.data, bytes)
            ]
            elements = Elements(table().sets["endpoints"], held)
            other.apply(Transaction(SETTINGS[Family.IPV4].table, (delete(elements), add(elements))))
        vip = f"10.96.0.{sum(b'web') % 250}"
        assert counts(table()) == {(vip, f"10.244.0.{host}"): host for host in (3, 4, 5)}

        endpoints(desired, "web", 4, 5)
        ours.update(desired.take())
        assert counts(table()) == {(vip, f"10.244.0.{host}"): host for host in (4, 5)}

        endpoints(desired, "web", 5, 6)
        restarted(desired)
        endpoints(desired, "web", 5)
        desired.take()
        restarted(desired)
        assert counts(table()) == {(vip, "10.244.0.5"): 5}


def test_affinity_keeps_the_clients_of_endpoints_that_stay() -> None:
    desired = world()
    shop(desired, "web", 1, 2, 3, sessionAffinity="ClientIP")
    desired.take()
    with backend() as ours:
        ours.sync(desired.frontends)
        kept = next(name for name in table().sets if name.startswith("affinity-") and "10.244.0.1/" in name)
        nft("add", "element", "ip", "kpx", kept, "{ 192.0.2.1 timeout 100s }")

        endpoints(desired, "web", 1, 3, 4)
        ours.update(desired.take())

        assert "192.0.2.1" in nft("list", "set", "ip", "kpx", kept)
        assert not any("10.244.0.2/" in name for name in (*table().sets, *table().rules))
        shop(desired, "web", 1, 3, 4, sessionAffinity="None")
        ours.update(desired.take())
        assert not any("/" in name for name in (*table().sets, *table().rules))


def test_networks_of_cluster_ips_follow_without_a_full_sync() -> None:
    desired = world()
    with backend() as ours:
        ours.sync(desired.frontends)
        assert ours.service_cidrs(("10.200.0.0/16",))
        assert not ours.service_cidrs(("10.200.0.0/16",))
        ours.update(desired.take())
        assert "elements = { 10.200.0.0/16 }" in nft("list", "set", "ip", "kpx", "service-cidrs")
        assert ours.service_cidrs(())
        ours.update(desired.take())
        assert table().elements["service-cidrs"] == []


hosts = st.sets(st.integers(1, 9), max_size=9)
kinds = st.sampled_from(["ClusterIP", "NodePort", "Local", "Near", "Sticky", "StickyLocal", "Guarded", "SameAddress"])
changes = st.one_of(
    st.tuples(st.just("slice"), st.sampled_from("abc"), hosts),
    st.tuples(st.just("service"), st.sampled_from("abc"), kinds),
    st.tuples(st.just("remove"), st.sampled_from("abc"), st.none()),
)
SPECS: dict[str, dict[str, Any]] = {
    "ClusterIP": {"type": "ClusterIP"},
    "NodePort": {},
    "Local": {"externalTrafficPolicy": "Local", "externalIPs": ["192.0.2.9", "192.0.2.8"]},
    "Near": {"internalTrafficPolicy": "Local"},
    "Sticky": {"sessionAffinity": "ClientIP"},
    "StickyLocal": {"sessionAffinity": "ClientIP", "externalTrafficPolicy": "Local"},
    "Guarded": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["203.0.113.0/24", "203.0.113.0/25"]},
    "SameAddress": {"clusterIP": "10.96.0.77", "externalIPs": ["10.96.0.77", "192.0.2.9"]},
}


def change(desired: DesiredState, what: tuple[str, str, Any]) -> None:
    kind, name, detail = what
    if kind == "slice":
        endpoints(desired, name, *sorted(detail))
    elif kind == "remove":
        remove(desired, name)
    else:
        number = "abc".index(name) + 1
        ports = [{"name": "http", "port": 80, **({"nodePort": 30000 + number} if detail != "ClusterIP" else {})}]
        spec = {"type": "NodePort", "clusterIP": f"10.96.0.{number}", "ports": ports, **SPECS[detail]}
        status = {"loadBalancer": {"ingress": [{"ip": f"192.0.2.{number}"}]}} if detail == "Guarded" else None
        desired.tracker.apply_service(service(f"shop/{name}", status=status, **spec))


@hypothesis_settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(changes, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_changes_one_by_one_end_where_a_full_sync_does(
    history: list[tuple[str, str, Any]], chance: random.Random
) -> None:
    desired = world()
    with backend() as ours:
        ours.cleanup()
        ours.sync(desired.frontends)
        for what in history:
            change(desired, what)
            if chance.random() < 0.7:
                ours.update(desired.take())
        outcome = ours.update(desired.take())
        assert ours.drifted() is None
    held = table()
    step_by_step = contents(held)

    assert of_table(held, SETTINGS[Family.IPV4]) == of_frontends(desired.frontends.values(), SETTINGS[Family.IPV4])
    compared = restarted(desired)
    assert (compared.written, compared.repaired, compared.owned) == ({}, (), outcome.owned)
    with backend() as fresh:
        fresh.cleanup()
        fresh.sync(desired.frontends)
    assert contents(table()) == step_by_step
