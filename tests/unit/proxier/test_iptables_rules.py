"""iptables rules as text: names, escaping, what one change writes."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpx.net import Family
from kpx.proxier.desired import DesiredState
from kpx.proxier.frontends import Endpoint, ServicePortName
from kpx.proxier.iptables import names
from kpx.proxier.iptables.edit import Edit
from kpx.proxier.iptables.render import NO_RULES, render
from kpx.proxier.iptables.rules import comment, probability
from kpx.proxier.iptables.settings import Settings
from kpx.proxier.node import LocalTraffic
from kpx.proxier.plan import Viewpoint
from tests.unit.proxier.objects import endpoint_slice, service

SETTINGS = Settings(Family.IPV4, LocalTraffic("10.244.0.0/16"))


@pytest.mark.parametrize(
    ("port", "endpoint", "expected"),
    [
        (ServicePortName("ns1", "svc1", "p80", "TCP"), None, "XPGD46QRK7WJZT7O"),
        (ServicePortName("ns1", "svc1", "p80", "TCP"), Endpoint("10.180.0.1", 80), "KUBE-SEP-SXIVWICOYRO3J4NJ"),
        (ServicePortName("shop", "web", "http", "TCP"), None, "67NZLRHBNDSAWJRO"),
        (ServicePortName("cache", "redis", "", "TCP"), None, "VOCWRYGI6DLGV3CL"),
        (ServicePortName("kube-system", "dns", "dns", "UDP"), Endpoint("10.42.1.53", 53), "KUBE-SEP-ZEXDGK2ZN4KX3744"),
        (ServicePortName("default", "kubernetes", "https", "TCP"), None, "NPX46M4PTMTKRN6Y"),
    ],
)
def test_hashes_are_kube_proxys(port: ServicePortName, endpoint: Endpoint | None, expected: str) -> None:
    assert (names.endpoint_chain(port, endpoint) if endpoint else names.port_hash(port)) == expected


def test_probabilities_print_as_the_kernel_keeps_them() -> None:
    assert [probability(share).rsplit(" ", 1)[1] for share in (2, 3)] == ["0.50000000000", "0.33333333349"]


@given(st.text(max_size=400))
def test_no_text_gets_out_of_its_comment(text: str) -> None:
    words = shlex.split(comment(text))

    assert words[:3] == ["-m", "comment", "--comment"]
    assert len(words) == 4
    assert len(words[3].encode()) <= 255
    assert "\n" not in comment(text)


def desired(services: int = 1) -> DesiredState:
    state = DesiredState(Family.IPV4, Viewpoint(node="n1"))
    for number in range(services):
        state.tracker.apply_service(service(f"shop/s{number}", clusterIP=f"10.96.{number >> 8}.{number & 255}"))
        slice_ = endpoint_slice(f"shop/s{number}-1", *(f"10.244.{i}.1" for i in range(5)), of=f"s{number}")
        state.tracker.apply_slice(slice_)
    state.take()
    return state


@pytest.mark.parametrize("services", [1, 300])
def test_a_change_writes_as_many_lines_whatever_the_number_of_services(services: int) -> None:
    state = desired(services)
    state.tracker.apply_slice(endpoint_slice("shop/s0-1", *(f"10.244.{i}.2" for i in range(5)), of="s0"))
    delta = state.take()
    before, now = (render(one, SETTINGS) for one in (*delta.before.values(), *delta.now.values()) if one)

    lines = list(Edit.restore_input([Edit.between(before, now)]))

    # 5 endpoints of 2 rules, a service chain of 6; 6 chains declared, 5 flushed and deleted; table and commit.
    assert len(lines) == 10 + 6 + 6 + 10 + 2


def test_senders_are_dropped_only_where_the_others_are_let_by() -> None:
    """What still serves the address, such as IPVS, would lose the others too."""
    state = DesiredState(Family.IPV4, Viewpoint(node="n1"))
    spec = {"type": "LoadBalancer", "clusterIP": "10.96.0.1", "loadBalancerSourceRanges": ["198.51.100.0/24"]}
    status = {"loadBalancer": {"ingress": [{"ip": "192.0.2.10"}]}}
    state.tracker.apply_service(service("shop/s", status=status, **spec))
    state.tracker.apply_slice(endpoint_slice("shop/s-1", "10.244.1.1", of="s"))
    (now,) = (render(one, SETTINGS) for one in state.take().now.values() if one)

    lines = list(Edit.restore_input([Edit.between(NO_RULES, now)]))

    (entrance,) = (at for at, line in enumerate(lines) if line.startswith("-I KUBE-SERVICES") and "-j KUBE-FW" in line)
    (drop,) = (at for at, line in enumerate(lines) if line.startswith("-I KUBE-PROXY-FIREWALL"))
    assert lines[drop - 1 : drop + 2] == ["*filter", lines[drop], "COMMIT"]
    assert entrance < lines.index("COMMIT") < drop
    back = list(Edit.restore_input([Edit.between(now, NO_RULES)]))
    assert sum("KUBE-PROXY-FIREWALL" in line for line in back) == 1


def test_rule_counts_are_kube_proxys() -> None:
    (frontends,) = desired().frontends.values()

    rules = render(frontends, SETTINGS)

    assert rules.counts() == {"nat": 2 + 3 * 5, "filter": 0}
    assert not list(Edit.restore_input([Edit.between(rules, rules)]))
    assert list(Edit.restore_input([Edit.between(NO_RULES, NO_RULES)])) == []


def test_comments_are_left_out_of_endpoints_in_large_clusters() -> None:
    (frontends,) = desired().frontends.values()

    rules = render(frontends, Settings(Family.IPV4, LocalTraffic("10.244.0.0/16"), comments=False))

    commented = {chain[:9] for chain, its in rules.chains.items() if any("--comment" in rule for rule in its[1:])}
    assert commented == set()
    assert "--comment" in rules.lines[0].rule
