"""The pure parts of ipvs mode."""

from __future__ import annotations

import pytest

from kpx.config.types import IPVS
from kpx.kernel import modules
from kpx.kernel.ipset import Entry
from kpx.kernel.ipvs.types import Real, Virtual
from kpx.net import Family
from kpx.proxier.desired import DesiredState
from kpx.proxier.frontends import Frontends
from kpx.proxier.ipvs.names import IpSet
from kpx.proxier.ipvs.render import Member, PortState, render
from kpx.proxier.ipvs.requirements import sysctls
from kpx.proxier.ipvs.settings import Settings
from kpx.proxier.ipvs.skeleton import chains
from kpx.proxier.node import LocalTraffic
from kpx.proxier.plan import Viewpoint
from tests.unit.proxier.objects import endpoint_slice, service

SETTINGS = Settings(Family.IPV4, node_ports=("10.199.0.21", "10.199.1.21"))


def frontends(*endpoints: str, **spec: object) -> Frontends:
    desired = DesiredState(Family.IPV4, Viewpoint(node="n1"))
    desired.tracker.apply_service(service(**spec))
    desired.tracker.apply_slice(endpoint_slice("shop/web-1", *endpoints))
    desired.take()
    (found,) = desired.frontends.values()
    return found


def rendered(*endpoints: str, settings: Settings = SETTINGS, **spec: object) -> PortState:
    return render(frontends(*endpoints, **spec), settings)


def test_node_ports_answer_on_every_address() -> None:
    state = rendered("10.0.0.1@n2", type="NodePort", ports=[{"name": "http", "port": 80, "nodePort": 30080}])
    assert set(state.servers) == {
        Virtual("10.96.0.1", 80, "TCP"),
        Virtual("10.199.0.21", 30080, "TCP"),
        Virtual("10.199.1.21", 30080, "TCP"),
    }
    assert state.addresses == ("10.96.0.1",)
    assert Member(IpSet.NODE_PORT_TCP, Entry(port=30080)) in state.members


def test_without_a_local_endpoint_the_policy_local_falls_back_on_all() -> None:
    spec = {"externalIPs": ["203.0.113.1"], "externalTrafficPolicy": "Local"}
    reals = {"10.96.0.1": (Real("10.0.0.1", 8080), Real("10.0.0.2", 8080))}
    local = rendered("10.0.0.1@n1", "10.0.0.2@n2", **spec)
    remote = rendered("10.0.0.1@n2", "10.0.0.2@n3", **spec)

    assert local.servers[Virtual("203.0.113.1", 80, "TCP")].reals == (Real("10.0.0.1", 8080),)
    assert remote.servers[Virtual("203.0.113.1", 80, "TCP")].reals == reals["10.96.0.1"]


def test_local_endpoints_may_reach_themselves_whatever_their_readiness() -> None:
    entries = [
        {"addresses": ["10.0.0.1"], "nodeName": "n1", "conditions": {"ready": False, "serving": False}},
        {"addresses": ["10.0.0.2"], "nodeName": "n2"},
    ]
    desired = DesiredState(Family.IPV4, Viewpoint(node="n1"))
    desired.tracker.apply_service(service())
    desired.tracker.apply_slice(endpoint_slice(endpoints=entries))
    desired.take()
    (found,) = desired.frontends.values()

    state = render(found, SETTINGS)
    loops = [member.entry for member in state.members if member.set is IpSet.LOOP_BACK]
    assert loops == [Entry("10.0.0.1", "tcp", 8080, "10.0.0.1")]


@pytest.mark.parametrize(
    ("scheduler", "affinity", "flags", "timeout"),
    [("rr", None, 0, 0), ("rr", 600, 0x1, 600), ("mh", None, 0x10, 0), ("mh", 600, 0x11, 600), ("sh", None, 0, 0)],
)
def test_flags_are_those_of_affinity_and_of_maglev(
    scheduler: str, affinity: int | None, flags: int, timeout: int
) -> None:
    made = Settings(Family.IPV4, scheduler).virtual(affinity)
    assert (made.scheduler, made.flags, made.timeout) == (scheduler, flags, timeout)


def test_names_of_ipv6_sets_are_cut() -> None:
    assert IpSet.LOAD_BALANCER_SOURCE_CIDR.in_family(Family.IPV6) == "KUBE-6-LOAD-BALANCER-SOURCE-CID"
    assert IpSet.NODE_PORT_LOCAL_SCTP.in_family(Family.IPV6) == "KUBE-6-NODE-PORT-LOCAL-SCTP-HAS"
    assert len({one.in_family(Family.IPV6) for one in IpSet}) == len(IpSet)


CLUSTER = '-m comment --comment "Kubernetes service cluster ip + port for masquerade purpose" -m set --match-set '


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        (Settings(Family.IPV4, masquerade_all=True), f"{CLUSTER}KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ"),
        (Settings(Family.IPV4), f"{CLUSTER}KUBE-CLUSTER-IP src,dst -j KUBE-MARK-MASQ"),
        (
            Settings(Family.IPV4, local_traffic=LocalTraffic("10.0.0.0/8")),
            f"! -s 10.0.0.0/8 {CLUSTER}KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ",
        ),
        (
            Settings(Family.IPV6, local_traffic=LocalTraffic(interface="pod-+")),
            f"! -i pod-+ {CLUSTER}KUBE-6-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ",
        ),
    ],
)
def test_who_is_masqueraded_on_the_way_to_a_cluster_ip(settings: Settings, rule: str) -> None:
    assert rule in chains(settings, {IpSet.CLUSTER_IP}, ())["nat", "KUBE-SERVICES"]
    assert rule not in chains(settings, (), ())["nat", "KUBE-SERVICES"]


@pytest.mark.parametrize(
    ("release", "reuse"),
    [("4.0.9", False), ("4.19.0-amd64", True), ("5.8.1", True), ("5.9.0", False), ("6.1.0-13-amd64", False)],
)
def test_the_reuse_of_ports_is_set_where_the_kernel_needs_it(release: str, reuse: bool) -> None:
    names = [name for name, _ in sysctls(IPVS(), release)]
    assert ("net/ipv4/vs/conn_reuse_mode" in names) == reuse
    assert "net/ipv4/conf/all/arp_ignore" not in names


def test_strict_arp_asks_for_its_settings() -> None:
    assert sysctls(IPVS(strict_arp=True), "6.1.0")[-2:] == [
        ("net/ipv4/conf/all/arp_ignore", 1),
        ("net/ipv4/conf/all/arp_announce", 2),
    ]


def test_the_remedy_for_missing_modules_can_be_typed() -> None:
    assert modules.remedy(["ip_vs", "ip_vs_rr"]) == (
        "run 'modprobe -a ip_vs ip_vs_rr', and for every boot "
        "'printf \"ip_vs\\nip_vs_rr\\n\" > /etc/modules-load.d/kpx.conf'"
    )
