"""The daemon in mode ipvs: how it starts, what it sets, and that a switch of modes loses no connection."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from kpx.lab import Lab, namespaces
from kpx.lab.topology import NODE, Topology
from tests.kernel.daemon.conftest import Daemons, Node, daemons, lab_of, node
from tests.kernel.daemon.download import download_objects, downloading
from tests.kernel.daemon.places import launched, started, within
from tests.kernel.daemon.process import KPX, eventually, run
from tests.kernel.daemon.traffic import streaming

__all__ = ["daemons", "node"]

IPVS_CHAINS = {"KUBE-LOAD-BALANCER", "KUBE-NODE-PORT", "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER"}


@pytest.fixture
def place() -> Iterator[Lab]:
    with lab_of(Topology(tuple(range(10, 14)), tuple(range(10, 14)))) as made:
        yield made


def chains(place: Lab) -> set[str]:
    """The chains of service proxies that are there, in both families."""
    saved = "".join(within(place, f"{family}-legacy-save") for family in ("iptables", "ip6tables"))
    return set(re.findall(r"^:(KUBE-\S+)", saved, re.M))


def virtual_servers(place: Lab) -> list[str]:
    return within(place, "ipvsadm", "-Ln").splitlines()[3:]


def left_of_ipvs(place: Lab) -> list[str]:
    """What mode ipvs has left besides rules."""
    devices = [line for line in within(place, "ip", "-o", "link").splitlines() if "kube-ipvs0" in line]
    return [*virtual_servers(place), *within(place, "ipset", "list", "-n").split(), *devices]


def test_it_says_that_the_mode_is_deprecated_and_sets_what_it_needs(place: Lab, node: Node, daemons: Daemons) -> None:
    ipvs = {"strictARP": True, "tcpTimeout": "15m10s", "tcpFinTimeout": "61s", "udpTimeout": "77s"}
    daemon = started(daemons, place, node, "ipvs", ipvs=ipvs)

    assert daemon.get("/proxyMode").body == "ipvs"
    assert "The ipvs proxier is now deprecated" in daemon.log
    assert "Please use 'nftables' instead" in daemon.log
    names = ("net.ipv4.vs.conntrack", "net.ipv4.vs.expire_nodest_conn", "net.ipv4.vs.expire_quiescent_template")
    assert within(place, "sysctl", "-n", *names).split() == ["1", "1", "1"]
    arp = ("net.ipv4.conf.all.arp_ignore", "net.ipv4.conf.all.arp_announce", "net.ipv4.ip_forward")
    assert within(place, "sysctl", "-n", *arp).split() == ["1", "2", "1"]
    assert within(place, "ipvsadm", "-l", "--timeout").split()[-3:] == ["910", "61", "77"]


def test_a_scheduler_that_is_none_ends_it_with_a_sentence(place: Lab, node: Node, daemons: Daemons) -> None:
    daemon = launched(daemons, place, node, "ipvs", ipvs={"scheduler": "nonesuch"})

    assert daemon.ended() == 1
    assert "can't use the IPVS proxier: the kernel has no IPVS scheduler 'nonesuch'" in daemon.log
    assert "ipvs.scheduler is one of rr, wrr," in daemon.log
    assert virtual_servers(place) == []


def test_a_restart_changes_nothing_and_a_flush_is_mended(place: Lab, node: Node, daemons: Daemons) -> None:
    daemon = started(daemons, place, node, "ipvs")
    before = virtual_servers(place), within(place, "ipset", "save"), within(place, "iptables-legacy-save")
    with streaming(place) as stream:
        assert daemon.end() == 143
        stream.more()
        daemon = started(daemons, place, node, "ipvs")
        stream.more()
        assert virtual_servers(place)[0] == before[0][0]
    within(place, "ipvsadm", "-C")
    eventually(lambda: len(virtual_servers(place)) == len(before[0]), what="the virtual servers do not come back")
    daemon.logs("rules were changed by somebody else: virtual server .* is gone")


def test_node_ports_follow_the_addresses_of_the_node(place: Lab, node: Node, daemons: Daemons) -> None:
    spec = {
        "type": "NodePort",
        "clusterIP": "10.96.99.99",
        "ports": [{"protocol": "TCP", "port": 80, "nodePort": 30099}],
    }
    metadata = {"namespace": "shop", "name": "own"}
    node.write("own.yaml", {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    daemon = started(daemons, place, node, "ipvs", logging={"verbosity": 2})

    def answers(address: str) -> bool:
        return f"TCP  {address}:30099 rr" in virtual_servers(place)

    def told() -> int:
        return daemon.log.count("all IPv4 rules are compared: the node's addresses changed")

    within(place, "ip", "address", "add", "10.199.77.1/32", "dev", "lo")
    eventually(lambda: answers("10.199.77.1"), what="no node port on the address that has come")
    compared = told()
    for number in range(3):  # a pod comes: nothing that the rules depend on
        within(place, "ip", "link", "add", f"veth{number}", "type", "veth", "peer", "name", f"peer{number}")
        within(place, "ip", "address", "add", "10.199.77.1/32", "dev", f"veth{number}")
        within(place, "ip", "link", "set", f"peer{number}", "up")
        within(place, "ip", "link", "set", f"veth{number}", "up")
    within(place, "ip", "address", "del", "10.199.77.1/32", "dev", "lo")
    for number in range(3):
        assert answers("10.199.77.1")
        within(place, "ip", "link", "del", f"veth{number}")
    eventually(lambda: not answers("10.199.77.1"), what="a node port on an address that has gone")
    assert told() == compared + 1


def test_the_mode_is_switched_there_and_back(place: Lab, node: Node, daemons: Daemons) -> None:
    node.write("download.yaml", *download_objects())
    daemon = started(daemons, place, node, "iptables")
    iptables_chains = chains(place)
    with streaming(place) as stream, downloading(place) as download:
        daemon.end()
        daemon = started(daemons, place, node, "ipvs")
        eventually(lambda: not chains(place) & {"KUBE-NODEPORTS", "KUBE-PROXY-CANARY"}, what="rules of iptables stay")
        assert not [chain for chain in chains(place) if chain.startswith(("KUBE-SVC", "KUBE-SEP", "KUBE-EXT"))]
        stream.more()
        download.more()
        daemon.end()
    with streaming(place) as stream, downloading(place) as download:
        # This download has begun in IPVS, which goes on with it.
        daemon = started(daemons, place, node, "iptables")
        eventually(lambda: not chains(place) & IPVS_CHAINS, what="the rules of ipvs stay")
        assert chains(place) == iptables_chains
        stream.more()
        download.more()
        daemon.logs("virtual servers stay until their last connections end")


def test_cleanup_removes_it_and_what_a_former_mode_drains(place: Lab, node: Node, daemons: Daemons) -> None:
    before = left_of_ipvs(place), chains(place)
    started(daemons, place, node, "ipvs").end()
    assert left_of_ipvs(place)

    with namespaces.entered(place.namespace(NODE)):
        assert run(*KPX, "cleanup").status == 0

    assert (left_of_ipvs(place), chains(place)) == before == ([], set())


def test_a_switch_without_connections_leaves_nothing_behind(place: Lab, node: Node, daemons: Daemons) -> None:
    started(daemons, place, node, "ipvs").end()
    started(daemons, place, node, "iptables")
    eventually(lambda: not left_of_ipvs(place), what="something of ipvs stays")
    assert not chains(place) & IPVS_CHAINS
