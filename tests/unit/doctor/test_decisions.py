"""Small decisions of the checks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import pytest

from kpx.doctor.check import Check
from kpx.doctor.facts import Answer, Facts, Flows, NotKnown, Outcome, Reach, RuleSet
from kpx.doctor.finding import Place, Result, Status
from kpx.doctor.fixes import dotted_name
from kpx.doctor.reading import processes
from kpx.doctor.runbooks.conntrack import room
from kpx.doctor.runbooks.endpoints import answered
from kpx.doctor.runbooks.nodeport import _reserved
from kpx.doctor.runbooks.packets import _next
from kpx.doctor.runbooks.proxy import healthy, leftovers
from kpx.doctor.runbooks.settings import forwarding
from kpx.doctor.runbooks.sync import _percentile, lag
from kpx.doctor.subject import Subject
from kpx.kernel.links import InterfaceAddress
from kpx.net import Family
from kpx.proxier.frontends import Frontends, ServicePortName
from kpx.tools.cluster import Cluster
from kpx.tools.flows import Usage
from kpx.tools.stock import reached
from kpx.trace.reasons import of_proxy

BUCKETS = "kubeproxy_sync_proxy_rules_duration_seconds_bucket"


def metrics(**counts: float) -> Mapping[str, list[tuple[Mapping[str, str], float]]]:
    edges = {"tenth": "0.1", "second": "1", "all": "+Inf"}
    return {BUCKETS: [({"ip_family": "IPv4", "le": edges[name]}, value) for name, value in counts.items()]}


def test_a_percentile_is_the_edge_of_its_bucket() -> None:
    assert _percentile(metrics(tenth=99, second=100, all=100), 0.99) == 0.1
    assert _percentile(metrics(tenth=98, second=100, all=100), 0.99) == 1
    assert _percentile(metrics(tenth=0, second=0, all=3), 0.99) == math.inf
    assert _percentile(metrics(tenth=0, second=0, all=0), 0.99) is None
    assert _percentile({}, 0.99) is None


@pytest.mark.parametrize(
    ("port", "ranges", "held"),
    [(30080, "", False), (30080, "30000-32767", True), (30080, "80,30080", True), (29999, "80,30000-32767", False)],
)
def test_reserved_ports(port: int, ranges: str, held: bool) -> None:
    assert _reserved(port, ranges) is held


@pytest.mark.parametrize(
    ("network", "host"),
    [
        ("203.0.113.0", "203.0.113.1"),
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8::", "2001:db8::1"),
        ("fd00::5", "fd00::5"),
    ],
)
def test_a_host_of_a_network(network: str, host: str) -> None:
    assert _next(network) == host


@pytest.mark.parametrize(
    ("bound", "where"),
    [
        ("", ("127.0.0.1", 10256)),
        ("0.0.0.0:10256", ("127.0.0.1", 10256)),
        ("10.0.0.1:9000", ("10.0.0.1", 9000)),
        ("[::]:9000", ("127.0.0.1", 9000)),
        ("[fd00::1]:9000", ("fd00::1", 9000)),
    ],
)
def test_where_a_server_answers(bound: str, where: tuple[str, int]) -> None:
    assert reached(bound, 10256) == where


def test_a_sysctl_of_an_interface_with_a_dot_in_its_name() -> None:
    assert dotted_name("net/ipv4/conf/eth0.7/rp_filter") == "net.ipv4.conf.eth0/7.rp_filter"


class Told:
    """Facts that a test gives: methods by name, and settings."""

    def __init__(self, settings: Mapping[str, str] | None = None, **answers: object) -> None:
        self._settings = settings or {}
        self._answers = answers

    def setting(self, name: str) -> str:
        if name not in self._settings:
            raise NotKnown(name)
        return self._settings[name]

    def __getattr__(self, name: str) -> Callable[..., object]:
        def answer(*_: object) -> object:
            if isinstance(found := self._answers[name], Exception):
                raise found
            return found

        return answer


def results(check: Check, facts: Told) -> list[Result]:
    return list(check.look(cast(Facts, facts), Subject()))


def test_rules_of_two_kinds_without_a_proxy_that_tells_are_not_mended() -> None:
    sets = (RuleSet("iptables-nft", Family.IPV4, 34, 200, 180), RuleSet("kube-proxy", Family.IPV4, 1, 1, 1))
    (found,) = results(leftovers, Told(current="", rule_sets=sets))
    assert (found.status, found.fix) == (Status.INFO, None)
    assert "iptables-nft and kube-proxy" in found.says


def test_forwarding_of_ipv6_keeps_the_routes_that_routers_tell() -> None:
    cluster = Cluster("manifests", "m", "n1", "", [(Family.IPV6, Frontends(ServicePortName("a", "b", "", "TCP"), ()))])
    addresses = [
        InterfaceAddress("eth0.7", "fd00::1", 64, Family.IPV6),
        InterfaceAddress("lo", "::1", 128, Family.IPV6),
    ]
    settings = {"net/ipv6/conf/all/forwarding": "0", "net/ipv6/conf/eth0.7/accept_ra": "1"}
    (found,) = results(forwarding, Told(settings, cluster=cluster, addresses=addresses))
    assert found.fix is not None
    assert found.fix.now == (
        ("sysctl", "-w", "net.ipv6.conf.eth0/7.accept_ra=2"),
        ("sysctl", "-w", "net.ipv6.conf.all.forwarding=1"),
    )
    assert found.fix.undo[-1] == ("sysctl", "-w", "net.ipv6.conf.eth0/7.accept_ra=1")


def test_a_full_table_is_told_also_where_its_flows_cannot_be_read() -> None:
    usage = Usage(260_000, 262_144, 0.0, None, {}, {})
    for flows in (NotKnown("it takes too long"), Flows((), (), (), 0)):
        (found,) = results(room, Told(usage=usage, flows=flows, writable=False, cores=2))
        assert found.status is Status.FAIL
        assert found.fix is not None
        assert found.fix.place is Place.BY_HAND


def test_a_change_waits_since_it_was_asked_for() -> None:
    def waiting(now: float) -> Status:
        series = {"ip_family": "IPv4"}
        told = {
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds": [(series, 5000.0)],
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds": [(series, 1000.0)],
        }
        (found,) = results(lag, Told(metrics=told, clock=now, restart=(("systemctl", "restart", "kpx"),)))
        return found.status

    assert (waiting(5000.2), waiting(5060.0)) == (Status.PASS, Status.FAIL)


def test_a_node_that_is_about_to_go_is_no_fault_of_the_proxy() -> None:
    class Pages(Told):
        def get(self, _: int, path: str, __: str = "") -> Answer:
            return Answer(200 if path == "/livez" else 503, '{"nodeEligible": false}')

    (found,) = results(healthy, Pages(configuration=NotKnown("it does not tell"), proxies=()))
    assert (found.status, found.fix) == (Status.INFO, None)


def test_a_datagram_without_an_answer_is_not_well() -> None:
    silent, well = Reach(Outcome.SILENT, "pod"), Reach(Outcome.ANSWERED, "pod")
    assert answered("2 were asked", [well, well], "shop/web").status is Status.PASS
    one = answered("2 were asked", [well, silent], "shop/dns")
    assert (one.status, one.says) == (Status.INFO, "2 were asked; 1 did not answer a datagram, and may not have got it")


@pytest.mark.parametrize(
    ("chain", "proxys"),
    [
        ("KUBE-SERVICES", True),
        ("KUBE-SEP-AAAABBBBCCCCDDDD", True),
        ("KUBE-POD-FW-ABC", False),
        ("KUBE-ROUTER-FORWARD", False),
        ("KUBE-NWPLCY-X", False),
        ("FORWARD", False),
    ],
)
def test_chains_of_network_policies_are_not_the_proxys(chain: str, proxys: bool) -> None:
    assert of_proxy("filter", chain) is proxys


def test_the_unit_that_is_started_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is there, but not enabled, is of a proxy that this node has left."""
    monkeypatch.delenv(processes.RESTART, raising=False)
    monkeypatch.setattr(processes, "_UNIT_FOLDERS", (str(tmp_path),))
    monkeypatch.setattr(processes, "_ENABLED", tmp_path)
    monkeypatch.setattr(processes.shutil, "which", lambda _: "/bin/systemctl")
    (tmp_path / "kpx.service").touch()
    assert processes.restart("n1")[0][0] == "kubectl"

    (tmp_path / "kube-proxy.service").touch()
    (tmp_path / "multi-user.target.wants").mkdir()
    (tmp_path / "multi-user.target.wants" / "kube-proxy.service").touch()
    assert processes.restart("n1") == (("systemctl", "restart", "kube-proxy"),)
