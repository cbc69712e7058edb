"""What a plan says, from facts alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kpx.migrate.changes import changes
from kpx.migrate.checks import Check, Status, checks
from kpx.migrate.facts import MODES, Facts, Holding, Listener
from kpx.migrate.others import others
from kpx.migrate.plan import plan
from kpx.migrate.text import text

IPVS = {"ip_vs": "", "nf_conntrack": "", "ip_set": "", "ip_vs_rr": ""}
STOCK = Facts(
    kernel="6.1.0",
    mode="iptables",
    proxies=("kube-proxy[42]",),
    holdings=(Holding("iptables", "9 rules in chains KUBE-... of iptables-nft", "nft"),),
    listeners=(Listener(10256, "kube-proxy", 42), Listener(10249, "kube-proxy", 42)),
    modules=IPVS,
    iptables="iptables-nft 1.8.9",
    settings={"net/ipv4/ip_forward": 1, "net/netfilter/nf_conntrack_max": 131072},
    conntrack_limit=131072,
)


def one(facts: Facts, mode: str, id: str) -> Check:
    (found,) = [check for check in checks(facts, mode) if check.id == id]
    return found


def ids(facts: Facts, mode: str, *statuses: Status) -> list[str]:
    return [check.id for check in checks(facts, mode) if check.status in statuses]


@pytest.mark.parametrize("mode", MODES)
def test_a_node_of_kube_proxy_is_ready_for_each_mode(mode: str) -> None:
    assert plan(STOCK, mode).ready
    assert ids(STOCK, mode, Status.WARN) == ["deprecated"] * (mode == "ipvs")


def test_what_the_kernel_lacks_is_in_the_way_but_for_ipv6() -> None:
    without = replace(STOCK, lacks={"IPv6": "no nf_tables for IPv6"})
    assert plan(without, "nftables").ready
    assert one(without, "nftables", "kernel").status is Status.WARN
    old = replace(STOCK, kernel="5.4.0", lacks={"IPv4": "it lacks concatenated ranges"})
    assert one(old, "nftables", "kernel") == Check(
        "kernel", Status.FAIL, "Linux 5.4.0, IPv4: it lacks concatenated ranges", "choose mode iptables on this node"
    )
    assert plan(old, "iptables").ready


def test_missing_modules_and_programs_are_in_the_way_of_their_modes() -> None:
    bare = replace(STOCK, iptables="", iptables_fault="it is not installed", modules={**IPVS, "ip_vs": "not found"})
    assert ids(bare, "ipvs", Status.FAIL) == ["modules", "iptables"]
    assert ids(bare, "iptables", Status.FAIL) == ["iptables"]
    assert ids(bare, "nftables", Status.FAIL) == []
    assert ids(replace(STOCK, scheduler="nonesuch"), "ipvs", Status.FAIL) == ["scheduler"]


def test_cilium_serves_where_nothing_of_a_kube_proxy_is() -> None:
    beside = replace(STOCK, others=others(["cilium_host", "eth0"], []))
    assert one(beside, "nftables", "other-proxy").status is Status.WARN
    alone = replace(beside, proxies=(), holdings=())
    assert one(alone, "nftables", "other-proxy").status is Status.FAIL


def test_others_are_told_by_their_interfaces_and_processes() -> None:
    assert others(["eth0", "cni0", "docker0"], ["kubelet", "kube-proxy"]) == ()
    assert [found.name for found in others(["antrea-gw0", "ovn-k8s-mp0"], ["cilium-agent", "kube-router"])] == [
        "Cilium",
        "kube-router",
        "Antrea",
        "OVN-Kubernetes",
    ]
    (router,) = others(["kube-dummy-if"], ["kube-router"])
    assert router.serves


@pytest.mark.parametrize(
    ("owner", "remedy"),
    [("k3s-server", "start it with --disable-kube-proxy"), ("nginx", "end it, or set healthzBindAddress")],
)
def test_a_port_is_taken(owner: str, remedy: str) -> None:
    found = one(replace(STOCK, listeners=(Listener(10256, owner, 7),)), "iptables", "port")
    assert (found.status, found.found) == (Status.FAIL, f"port 10256 is taken by {owner}[7]")
    assert remedy in found.remedy


def test_what_a_node_has_grown_used_to() -> None:
    used = replace(
        STOCK,
        localhost_packets=7,
        forward_drops=("iptables-nft",),
        settings={"net/ipv4/ip_forward": 0, "net/netfilter/nf_conntrack_max": 262144},
    )
    assert ids(used, "nftables", Status.WARN) == ["forwarding", "forward-policy", "conntrack", "localhost"]
    assert ids(used, "iptables", Status.WARN) == ["forwarding", "conntrack"]


def test_changes_are_told_for_every_move() -> None:
    for before in MODES:
        for after in MODES:
            assert changes(before, after)
    assert changes("", "nftables") == ()
    assert any("sessionAffinity" in one for one in changes("ipvs", "nftables"))


def test_a_plan_that_is_not_ready_names_no_commands() -> None:
    shown = text(plan(replace(STOCK, listeners=(Listener(10256, "nginx", 7),)), "iptables"), colour=False)
    assert "kubectl" not in shown
    assert shown.endswith("NOT READY: see what is marked FAIL.")


def test_colour_adds_nothing_but_colour() -> None:
    made = plan(STOCK, "ipvs")
    coloured = text(made, colour=True)
    assert "\x1b[33mWARN\x1b[0m" in coloured
    assert coloured.replace("\x1b[33m", "").replace("\x1b[32m", "").replace("\x1b[0m", "") == text(made, colour=False)
