"""What a trace found is set against either list of endpoints, where the proxy's detector of pods decides on one."""

from __future__ import annotations

import pytest

from kpx.proxier.frontends import Endpoint, Frontend, Frontends, Kind, Masquerade, Scope, ServicePortName, Verdict
from kpx.proxier.node import LocalTraffic
from kpx.trace import result
from kpx.trace.comparison import Sort, differences
from kpx.trace.questions import Wanted
from kpx.trace.result import Branch, Ending, Sender, Trace
from kpx.trace.target import Target

NEAR, NEAR_TOO, FAR = (
    Endpoint("10.244.21.10", 8080, local=True),
    Endpoint("10.244.21.11", 8080, local=True),
    Endpoint("10.244.22.11", 8080),
)
PODS = LocalTraffic(source="10.244.0.0/16")
POD = Sender("pod", "10.244.21.12", "veth0")
POD_ELSEWHERE = Sender("external", "10.244.22.10", "eth0")
CLIENT = Sender("external", "203.0.113.10", "eth0")


def wanted(
    kind: Kind, scope: Scope, cluster: tuple[Endpoint, ...], local: tuple[Endpoint, ...], pods: LocalTraffic | None
) -> Wanted:
    masquerade = Masquerade.OFF_CLUSTER if kind is Kind.CLUSTER_IP else Masquerade.NODE
    frontend = Frontend(kind, "192.0.2.1", 80, "TCP", scope, Verdict.FORWARD, masquerade)
    port = Frontends(ServicePortName("shop", "web", "", "TCP"), (frontend,), (*cluster, *local), cluster, local)
    return Wanted(port, frontend, pods)


def traced(sender: Sender, *endpoints: Endpoint) -> Trace:
    """Evenly sent to some endpoints, and masqueraded to none."""
    branches = tuple(
        Branch(
            1 / len(endpoints), False, (), (), Ending(result.Verdict.SENT, "", one.ip, one.port, sender.address, True)
        )
        for one in endpoints
    )
    return Trace(Target("192.0.2.1", 80), sender, "192.0.2.1", ("nftables (table ip kpx)",), (), branches)


def found(wanted: Wanted, trace: Trace) -> set[Sort]:
    return {one.sort for one in differences(wanted, trace)}


@pytest.mark.parametrize("pods", [PODS, None], ids=["known", "untold"])
def test_a_pod_of_another_node_may_count_as_one_of_this(pods: LocalTraffic | None) -> None:
    local = wanted(Kind.LOAD_BALANCER, Scope.LOCAL, (NEAR, FAR), (NEAR,), pods)
    inner = wanted(Kind.CLUSTER_IP, Scope.CLUSTER, (NEAR, FAR), (), pods)

    assert found(local, traced(POD_ELSEWHERE, NEAR, FAR)) == set()
    assert found(local, traced(POD_ELSEWHERE, NEAR)) == set()
    assert found(inner, traced(POD_ELSEWHERE, NEAR, FAR)) == set()


@pytest.mark.parametrize("pods", [PODS, LocalTraffic(interface="veth+")], ids=["network", "interface"])
def test_a_client_does_not(pods: LocalTraffic) -> None:
    local = wanted(Kind.LOAD_BALANCER, Scope.LOCAL, (NEAR, FAR), (NEAR,), pods)
    inner = wanted(Kind.CLUSTER_IP, Scope.CLUSTER, (NEAR, FAR), (), pods)

    assert found(local, traced(CLIENT, NEAR, FAR)) == {Sort.FOREIGN_DESTINATION}
    assert found(inner, traced(CLIENT, NEAR, FAR)) == {Sort.MASQUERADE}


def test_of_a_pod_either_list_is_right_also_where_neither_holds_the_other() -> None:
    """The endpoints of this node that hints keep for another zone are on the local list alone."""
    local = wanted(Kind.LOAD_BALANCER, Scope.LOCAL, (NEAR, FAR), (NEAR, NEAR_TOO), PODS)

    assert found(local, traced(POD, NEAR, FAR)) == set()
    assert found(local, traced(POD, NEAR, NEAR_TOO)) == set()
    assert found(local, traced(POD, NEAR_TOO, FAR)) == {Sort.MISSING_ENDPOINT}
