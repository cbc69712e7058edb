"""ipvs mode in the kernel: what kube-proxy makes of a small cluster, and nothing written that need not be."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from kpx.net import Family
from kpx.proxier.backend import BackendError
from kpx.proxier.desired import DesiredState
from kpx.proxier.ipvs.servers import Changes, Refused, Servers
from kpx.proxier.phases import Phase
from kpx.proxier.plan import Viewpoint
from tests.ipvs.worlds import (
    EXAMPLE,
    backend,
    bound,
    endpoints,
    everything,
    example,
    grouped,
    remove,
    run,
    saved,
    servers,
    sets,
    shop,
    world,
)
from tests.unit.proxier.objects import endpoint_slice, service

WEB = "TCP 10.96.0.82:80"
CLUSTER = {"clusterIP": "10.96.0.82"}


def test_makes_the_virtual_servers_that_kube_proxy_makes() -> None:
    with backend() as ours:
        ours.sync(example().frontends)

    assert grouped() == grouped((EXAMPLE / "ipvsadm.txt").read_text())
    assert bound() == {"10.96.12.34", "10.96.40.1", "203.0.113.80", "10.96.77.5"}


def test_a_sync_tells_how_long_it_read_and_wrote() -> None:
    state = example()
    with backend() as ours:
        ours.sync(state.frontends)
        spent = ours.phases()
        assert min(spent[Phase.READ], spent[Phase.WRITE]) > 0
        state.take()
        state.tracker.apply_service(service("shop/new", clusterIP="10.96.0.99"))
        ours.update(state.take())
        assert list(ours.phases()) == [Phase.WRITE]


def test_makes_the_sets_that_kube_proxy_makes() -> None:
    with backend() as ours:
        ours.sync(example().frontends)

    gateway = "203.0.113.80,tcp:443"
    assert {name: entries for name, entries in sets().items() if entries} == {
        "KUBE-LOOP-BACK": {
            "10.42.1.11,tcp:8080,10.42.1.11",
            "10.42.1.21,tcp:8443,10.42.1.21",
            "10.42.1.31,tcp:6379,10.42.1.31",
        },
        "KUBE-CLUSTER-IP": {"10.96.12.34,tcp:80", "10.96.40.1,tcp:443", "10.96.77.5,tcp:6379"},
        "KUBE-LOAD-BALANCER": {gateway},
        "KUBE-LOAD-BALANCER-LOCAL": {gateway},
        "KUBE-LOAD-BALANCER-FW": {gateway},
        "KUBE-LOAD-BALANCER-SOURCE-CIDR": {f"{gateway},192.0.2.0/25", f"{gateway},198.51.100.0/24"},
        "KUBE-LOAD-BALANCER-SOURCE-IP": {f"{gateway},203.0.113.80"},
        "KUBE-NODE-PORT-TCP": {"31443"},
        "KUBE-NODE-PORT-LOCAL-TCP": {"31443"},
        "KUBE-HEALTH-CHECK-NODE-PORT": {"32100"},
        "KUBE-IPVS-IPS": {"10.96.12.34", "10.96.40.1", "203.0.113.80", "10.96.77.5"},
    }
    assert len(sets()) == 17


def test_makes_the_rules_that_kube_proxy_makes() -> None:
    with backend() as ours:
        ours.sync(example().frontends)
        made = [line for line in saved() if "KUBE-" in line]
    run("iptables-legacy-restore --noflush", (EXAMPLE / "rules.txt").read_text())

    assert [line for line in saved() if "KUBE-" in line] == made
    jumps = [line.split() for line in made if not line.startswith((":KUBE", "-A KUBE"))]
    assert sorted((words[1], words[-1]) for words in jumps) == [
        ("FORWARD", "KUBE-FORWARD"),
        ("FORWARD", "KUBE-PROXY-FIREWALL"),
        ("INPUT", "KUBE-IPVS-FILTER"),
        ("INPUT", "KUBE-NODE-PORT"),
        ("INPUT", "KUBE-PROXY-FIREWALL"),
        ("OUTPUT", "KUBE-IPVS-OUT-FILTER"),
        ("OUTPUT", "KUBE-SERVICES"),
        ("POSTROUTING", "KUBE-POSTROUTING"),
        ("PREROUTING", "KUBE-SERVICES"),
    ]
    # The last one put in front comes first.
    assert [words[-1] for words in jumps if words[1] == "INPUT"] == [
        "KUBE-IPVS-FILTER",
        "KUBE-PROXY-FIREWALL",
        "KUBE-NODE-PORT",
    ]


def test_the_node_is_refused_where_its_address_is_not_allowed() -> None:
    with backend(node_ip="203.0.113.9") as ours:
        ours.sync(example().frontends)

    refusal = "-A KUBE-IPVS-OUT-FILTER -s 203.0.113.80/32 -m ipvs --vproto 6 --vaddr 203.0.113.80 --vport 443 -j DROP"
    assert refusal in saved()
    assert not sets()["KUBE-LOAD-BALANCER-SOURCE-IP"]


@pytest.mark.parametrize("family", list(Family))
def test_a_sync_of_what_is_there_writes_nothing(family: Family) -> None:
    desired = example() if family is Family.IPV4 else world_in_ipv6()
    with backend(family) as ours:
        first = ours.sync(desired.frontends)
        again = ours.sync(desired.frontends)
    with backend(family) as restarted:
        later = restarted.sync(desired.frontends)

    assert first.repairs
    assert first.written["virtual servers"]
    for outcome in (again, later):
        assert outcome.repaired == ()
        assert not any(outcome.written.values())
    assert later.owned == first.owned


def world_in_ipv6() -> DesiredState:
    desired = DesiredState(Family.IPV6, Viewpoint(node="n1"))
    desired.tracker.apply_service(
        service(
            "shop/web",
            clusterIP="fd00:96::1",
            type="LoadBalancer",
            loadBalancerSourceRanges=["fd00:1::/64", "fd00:2::1/128"],
            ports=[{"name": "http", "port": 80, "nodePort": 30080}],
            status={"loadBalancer": {"ingress": [{"ip": "2001:db8::1"}]}},
        )
    )
    desired.tracker.apply_slice(endpoint_slice("shop/web-1", "fd00:42::1@n1", "fd00:42::2@n2", family="IPv6"))
    desired.take()
    return desired


def test_ipv6_has_names_of_its_own_and_leaves_ipv4_alone() -> None:
    with backend() as four, backend(Family.IPV6) as six:
        four.sync(example().frontends)
        six.sync(world_in_ipv6().frontends)

    assert sets()["KUBE-6-LOAD-BALANCER-SOURCE-CID"] == {
        "2001:db8::1,tcp:80,fd00:1::/64",
        "2001:db8::1,tcp:80,fd00:2::1",
    }
    assert grouped()["TCP [fd00:198::7]:30080 rr"] == {"-> [fd00:42::1]:8080 Masq 1", "-> [fd00:42::2]:8080 Masq 1"}
    assert {"fd00:96::1", "2001:db8::1", "10.96.12.34"} <= bound()
    assert grouped((EXAMPLE / "ipvsadm.txt").read_text()).items() <= grouped().items()
    assert "KUBE-6-CLUSTER-IP" in "".join(saved(Family.IPV6))


def test_a_change_writes_what_it_is_and_no_more() -> None:
    desired = world()
    for name in ("web", "dns", "api"):
        shop(desired, name, 1, 2, 3)
    desired.take()
    with backend() as ours:
        ours.sync(desired.frontends)
        before = everything()
        endpoints(desired, "web", 1, 2, 4)
        outcome = ours.update(desired.take())

    now = everything()
    assert outcome.written == {"virtual servers": 1, "rules": 0}
    differs = {name for name in now["servers"] if now["servers"][name] != before["servers"][name]}
    assert len(differs) == 1
    assert now["servers"][differs.pop()] == {f"-> 10.42.0.{host}:8080 Masq 1" for host in (1, 2, 4)}
    assert {**now, "servers": 0} == {**before, "servers": 0}


def test_services_that_share_an_address_keep_it_for_each_other() -> None:
    desired = world()
    shop(desired, "web", 1, externalIPs=["203.0.113.1"])
    shop(desired, "dns", 2, externalIPs=["203.0.113.1"], ports=[{"name": "http", "port": 53, "protocol": "TCP"}])
    desired.take()
    with backend() as ours:
        ours.sync(desired.frontends)
        remove(desired, "web")
        ours.update(desired.take())
        assert "203.0.113.1" in bound()
        assert sets()["KUBE-EXTERNAL-IP"] == {"203.0.113.1,tcp:53"}
        remove(desired, "dns")
        ours.update(desired.take())

    assert bound() == set()
    assert not any(sets().values())
    assert not servers()


def test_an_address_that_the_node_has_elsewhere_is_not_bound() -> None:
    desired = world()
    shop(desired, "web", 1, externalIPs=["198.51.100.7", "203.0.113.1"], **CLUSTER)
    desired.take()
    with backend(elsewhere=frozenset({"198.51.100.7"})) as ours:
        ours.sync(desired.frontends)

    assert bound() == {"10.96.0.82", "203.0.113.1"}
    assert "TCP 198.51.100.7:80 rr" in grouped()


# Others, and what was there before.


def test_virtual_servers_of_others_stay_where_they_are_excluded_and_those_of_marks_anywhere() -> None:
    for command in ("-A -t 192.0.2.1:80 -s wlc", "-A -t 192.0.2.200:80 -s wlc", "-A -f 7 -s rr", "-A -t [fd00::1]:80"):
        run(f"ipvsadm {command}")
    with backend(excluded=("192.0.2.0/25",)) as ours:
        outcome = ours.sync(world().frontends)

    assert set(grouped()) == {"TCP 192.0.2.1:80 wlc", "FWM 7 rr", "TCP [fd00::1]:80 wlc"}
    assert "virtual server TCP 192.0.2.200:80 was left over" in outcome.repaired


@pytest.mark.parametrize("other", ["hash:ip", "hash:ip,port family inet6", "list:set"])
def test_a_set_of_another_type_is_replaced_unless_it_is_in_use(other: str) -> None:
    desired = world()
    shop(desired, "web", 1, **CLUSTER)
    desired.take()
    run(f"ipset create KUBE-CLUSTER-IP {other}")
    program = "ip6tables-legacy" if "inet6" in other else "iptables-legacy"
    rule = "INPUT -m set --match-set KUBE-CLUSTER-IP dst -j ACCEPT"
    run(f"{program} -A {rule}")
    with backend() as ours:
        with pytest.raises(BackendError, match="remove the IP set KUBE-CLUSTER-IP: it is in use"):
            ours.sync(desired.frontends)
        run(f"{program} -D {rule}")
        outcome = ours.sync(desired.frontends)

    assert any("set KUBE-CLUSTER-IP was of another type" in line for line in outcome.repaired)
    assert sets()["KUBE-CLUSTER-IP"] == {"10.96.0.82,tcp:80"}


def test_a_service_in_an_excluded_network_is_served_as_any_other() -> None:
    desired = world()
    shop(desired, "web", 1, 2, **CLUSTER)
    desired.take()
    with backend(excluded=("10.96.0.0/16",)) as ours:
        ours.sync(desired.frontends)
        before = everything()
        again = ours.sync(desired.frontends)
        assert (again.rejected, again.repaired) == ({}, ())
        assert everything() == before
        endpoints(desired, "web", 2)
        ours.update(desired.take())
        assert grouped() == {f"{WEB} rr": {"-> 10.42.0.2:8080 Masq 1"}}
        # What is deleted here is known to be ours.
        remove(desired, "web")
        ours.update(desired.take())

    assert not servers()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("ipvsadm -C", "is gone"),
        ("ipvsadm -D -t 10.96.0.82:80", "virtual server TCP 10.96.0.82:80 is gone"),
        ("ipvsadm -E -t 10.96.0.82:80 -s wlc", "works in another way (scheduler wlc"),
        ("ipvsadm -d -t 10.96.0.82:80 -r 10.42.0.1:8080", "real server 10.42.0.1:8080 of TCP 10.96.0.82:80 is gone"),
        ("ipvsadm -e -t 10.96.0.82:80 -r 10.42.0.1:8080 -m -w 0", "has weight 0"),
        (
            "ipvsadm -a -t 10.96.0.82:80 -r 10.42.0.9:8080 -m",
            "real server 10.42.0.9:8080 of TCP 10.96.0.82:80 was added",
        ),
        ("ipset del KUBE-CLUSTER-IP 10.96.0.82,tcp:80", "set KUBE-CLUSTER-IP has 0 entries"),
        ("ip address del 10.96.0.82/32 dev kube-ipvs0", "kube-ipvs0 lost the address 10.96.0.82"),
        ("ip link del kube-ipvs0", "interface kube-ipvs0 was deleted"),
        ("iptables-legacy -t nat -F KUBE-SERVICES", "table nat"),
    ],
)
def test_what_others_do_is_noticed_and_mended(damage: str, told: str) -> None:
    desired = world()
    shop(desired, "web", 1, 2, **CLUSTER)
    desired.take()
    with backend() as ours:
        ours.sync(desired.frontends)
        assert ours.drifted() is None
        before = everything()
        run(damage)
        noticed = ours.drifted()
        assert noticed is not None
        assert told in noticed
        outcome = ours.sync(desired.frontends)
        assert outcome.repairs
        assert everything() == before
        ours.drifted()
        assert ours.drifted() is None


def test_an_ipv6_address_that_is_announced_once_more_is_still_our_own() -> None:
    """The kernel announces an address when it is added, and when it has found that it is no duplicate."""
    desired = world_in_ipv6()
    with backend(Family.IPV6) as six:
        six.sync(desired.frontends)
        run("ip link set kube-ipvs0 up")
        assert six.drifted() is None
        run("ip address del fd00:96::1/128 dev kube-ipvs0")
        run("ip address add fd00:96::1/128 dev kube-ipvs0")
        assert six.drifted() == (
            "interface kube-ipvs0 lost the address fd00:96::1; interface kube-ipvs0 got the address fd00:96::1"
        )


def test_what_others_change_during_a_sync_does_not_leave_a_service_out(monkeypatch: pytest.MonkeyPatch) -> None:
    desired = world()
    shop(desired, "web", 1, 2, **CLUSTER)
    desired.take()
    interferences = [
        "ipvsadm -a -t 10.96.0.82:80 -r 10.42.0.3:8080 -m",
        "ipvsadm -d -t 10.96.0.82:80 -r 10.42.0.1:8080",
    ]
    put = Servers.put

    def interfered(servers: Servers, changes: Changes) -> Refused:
        while interferences:
            run(interferences.pop())
        return put(servers, changes)

    with backend() as ours:
        ours.sync(desired.frontends)
        endpoints(desired, "web", 2, 3)
        desired.take()
        monkeypatch.setattr(Servers, "put", interfered)
        assert ours.sync(desired.frontends).rejected == {}

    assert grouped() == {f"{WEB} rr": {"-> 10.42.0.2:8080 Masq 1", "-> 10.42.0.3:8080 Masq 1"}}


def test_a_scheduler_that_the_kernel_lacks_is_named() -> None:
    desired = world()
    shop(desired, "web", 1, **CLUSTER)
    desired.take()
    with backend(scheduler="nonesuch") as ours:
        outcome = ours.sync(desired.frontends)

    (reason,) = outcome.rejected.values()
    assert "no scheduler nonesuch (modprobe ip_vs_nonesuch)" in reason
    assert not servers()
    assert bound() == set()


def test_cleanup_leaves_nothing_of_ours_and_all_of_others() -> None:
    run("iptables-legacy -A INPUT -p tcp --dport 22 -j ACCEPT")
    for table in ("mangle", "nat"):  # looking brings them into being
        run(f"iptables-legacy -t {table} -L")
    run("ipset create OTHERS hash:ip")
    run("ip link add other0 type dummy")
    before = saved()
    with backend(excluded=("192.0.2.0/24",)) as ours, backend(Family.IPV6) as six:
        ours.sync(example().frontends)
        six.sync(world_in_ipv6().frontends)
        run("ipvsadm -A -t 192.0.2.1:80 -s wlc")
        run("ipvsadm -A -t 198.51.100.7:8080 -s wlc")
        ours.cleanup()
        assert "TCP [fd00:96::1]:80 rr" in grouped()
        assert bound() == {"fd00:96::1", "2001:db8::1"}
        six.cleanup()

    assert set(grouped()) == {"TCP 192.0.2.1:80 wlc", "TCP 198.51.100.7:8080 wlc"}
    assert set(sets()) == {"OTHERS"}
    assert saved() == before
    assert "kube-ipvs0" not in run("ip link")


# Draining.


def test_an_idle_real_server_goes_at_once() -> None:
    desired = world()
    shop(desired, "web", 1, 2, **CLUSTER)
    desired.take()
    with backend() as ours:
        ours.sync(desired.frontends)
        endpoints(desired, "web", 2)
        ours.update(desired.take())
    assert grouped() == {f"{WEB} rr": {"-> 10.42.0.2:8080 Masq 1"}}


# Any history ends where a full sync does.

names = st.sampled_from(["web", "dns", "api"])
changes = st.one_of(
    st.tuples(st.just("shop"), names, st.sampled_from(["", "NodePort", "Balancer", "Local", "Sticky", "Datagrams"])),
    st.tuples(st.just("endpoints"), names, st.sets(st.integers(1, 5), max_size=4)),
    st.tuples(st.just("remove"), names, st.none()),
)


def change(desired: DesiredState, what: tuple[str, str, Any]) -> None:
    kind, name, detail = what
    number = sum(name.encode()) % 250
    if kind == "remove":
        remove(desired, name)
    elif kind == "endpoints":
        endpoints(desired, name, *sorted(detail))
    else:
        port: dict[str, Any] = {"name": "http", "port": 80}
        spec: dict[str, Any] = {"clusterIP": f"10.96.0.{number}", "ports": [port]}
        status = None
        if detail == "NodePort":
            port["nodePort"] = 30000 + number
            spec["type"] = "NodePort"
        elif detail == "Balancer":
            spec |= {"type": "LoadBalancer", "loadBalancerSourceRanges": ["203.0.113.0/24", "198.51.100.7/32"]}
            status = {"loadBalancer": {"ingress": [{"ip": "203.0.113.80"}]}}
        elif detail == "Local":
            spec |= {"externalTrafficPolicy": "Local", "externalIPs": ["203.0.113.81"]}
        elif detail == "Sticky":
            spec |= {"sessionAffinity": "ClientIP", "internalTrafficPolicy": "Local"}
        elif detail == "Datagrams":
            port["protocol"] = "UDP"
        desired.tracker.apply_service(service(f"shop/{name}", status=status, **spec))


@hypothesis_settings(
    max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(changes, min_size=1, max_size=10), st.randoms(use_true_random=False))
def test_changes_one_by_one_end_where_a_full_sync_does(
    history: list[tuple[str, str, Any]], chance: random.Random
) -> None:
    desired = world()
    with backend() as ours:
        ours.sync(desired.frontends)
        for what in history:
            change(desired, what)
            if chance.random() < 0.7:
                ours.update(desired.take())
        outcome = ours.update(desired.take())
        step_by_step = everything()

    with backend() as fresh:
        compared = fresh.sync(desired.frontends)
        assert compared.repaired == ()
        assert compared.owned == outcome.owned
        fresh.cleanup()
        assert not servers()
        fresh.sync(desired.frontends)
        assert everything() == step_by_step
