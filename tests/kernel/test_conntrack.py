"""The conntrack table and its cleaning, with real flows through real DNAT rules."""

from __future__ import annotations

import socket
import struct
import subprocess
import time
from collections.abc import Iterator

import pytest

from kpx.kernel import conntrack, sysctl
from kpx.kernel.conntrack import Flow, Tuple
from kpx.kernel.netlink import NETLINK_NETFILTER, NLM_F_CREATE, NLM_F_EXCL, Socket, attribute, be32, nested
from kpx.net import Family
from kpx.proxier.conntrack import ConntrackCleaner
from kpx.proxier.frontends import (
    Endpoint,
    Frontend,
    Frontends,
    Kind,
    Masquerade,
    Scope,
    ServicePortName,
    Verdict,
)
from kpx.proxier.metrics import Metrics

UDP = socket.IPPROTO_UDP
V4, V6 = Family.IPV4, Family.IPV6
VIP = {V4: "10.96.0.10", V6: "fd00::10"}
POD = {V4: "10.42.1.53", V6: "fd01::53"}
NODE = {V4: "198.51.100.7", V6: "2001:db8::7"}
OTHER = {V4: "198.51.100.8", V6: "2001:db8::8"}
NODE_PORT = 30053
RULESET = """
table ip nat {
    chain output {
        type nat hook output priority -100;
        ip daddr 10.96.0.10 udp dport 53 dnat to 10.42.1.53:5353
        ip daddr 198.51.100.7 udp dport 30053 dnat to 10.42.1.53:5353
    }
}
table ip6 nat {
    chain output {
        type nat hook output priority -100;
        ip6 daddr fd00::10 udp dport 53 dnat to [fd01::53]:5353
        ip6 daddr 2001:db8::7 udp dport 30053 dnat to [fd01::53]:5353
    }
}
"""
MARKS_AND_ZONES = """
table ip raw {
    chain output {
        type filter hook output priority -300;
        ip daddr 198.51.100.8 udp dport 1 ct zone set 7
        ip daddr 198.51.100.8 udp dport 2 ct original zone set 9
    }
}
table ip mangle {
    chain output {
        type filter hook output priority -150;
        ct mark set 0x2a
    }
}
"""


@pytest.fixture(autouse=True)
def rules() -> None:
    """A service address and a node port that are sent on to a pod; every packet goes out of a link to nowhere."""
    for command in (
        "link add veth0 type veth peer name veth1",
        "link set veth0 up",
        "link set veth1 up",
        f"addr add {NODE[V4]}/24 dev veth0",
        f"addr add {NODE[V6]}/64 dev veth0 nodad",
        "route add default dev veth0",
        "-6 route add default dev veth0",
    ):
        subprocess.run(["ip", *command.split()], check=True)
    subprocess.run(["nft", "-f", "-"], input=RULESET, text=True, check=True)


@pytest.fixture
def netlink() -> Iterator[Socket]:
    with Socket(NETLINK_NETFILTER) as one:
        yield one


def send(destination: str, port: int, kind: int = socket.SOCK_DGRAM) -> None:
    af = socket.AF_INET6 if ":" in destination else socket.AF_INET
    with socket.socket(af, kind) as client:
        client.setblocking(False)
        if kind == socket.SOCK_STREAM:
            client.connect_ex((destination, port))
        else:
            client.sendto(b"x", (destination, port))


def flows(netlink: Socket, family: Family = V4, protocol: int | None = None) -> dict[tuple[str, int], Flow]:
    """The flows by their original destination."""
    found = conntrack.dump(netlink, family, protocol)
    return {(flow.original.destination, flow.original.destination_port): flow for flow in found}


@pytest.mark.parametrize("family", [V4, V6])
def test_a_flow_tells_where_it_was_sent_and_where_it_goes(netlink: Socket, family: Family) -> None:
    send(VIP[family], 53)
    send(OTHER[family], 9)
    found = flows(netlink, family, UDP)
    translated, plain = found[VIP[family], 53], found[OTHER[family], 9]
    assert (translated.reply.source, translated.reply.source_port) == (POD[family], 5353)
    assert translated.translated
    assert not plain.translated
    assert (plain.reply.source, plain.reply.source_port) == (OTHER[family], 9)
    assert translated.original.source == translated.reply.destination == NODE[family]
    assert 0 < translated.timeout <= sysctl.read_int("net/netfilter/nf_conntrack_udp_timeout")
    assert translated.protocol == UDP
    assert translated.id != plain.id


def test_a_dump_holds_one_family_and_one_protocol(netlink: Socket) -> None:
    send(VIP[V4], 53)
    send(VIP[V6], 53)
    send(OTHER[V4], 80, socket.SOCK_STREAM)
    assert set(flows(netlink, V4, UDP)) == {(VIP[V4], 53)}
    assert set(flows(netlink, V6, UDP)) == {(VIP[V6], 53)}
    assert set(flows(netlink, V4, socket.IPPROTO_TCP)) == {(OTHER[V4], 80)}
    assert set(flows(netlink, V4)) == {(VIP[V4], 53), (OTHER[V4], 80)}


@pytest.mark.parametrize("family", [V4, V6])
def test_the_flows_to_one_address_and_port(netlink: Socket, family: Family) -> None:
    for destination, port in ((VIP[family], 53), (VIP[family], 54), (OTHER[family], 53), (VIP[family], 53)):
        send(destination, port)
    send(VIP[family], 53, socket.SOCK_STREAM)

    found = [flow.original for flow in conntrack.dump_to(netlink, UDP, VIP[family], 53)]

    assert len({one.source_port for one in found}) == 2
    assert {(one.protocol, one.destination, one.destination_port) for one in found} == {(UDP, VIP[family], 53)}


def test_marks_counters_and_zones(netlink: Socket) -> None:
    sysctl.write("net/netfilter/nf_conntrack_acct", 1)
    subprocess.run(["nft", "-f", "-"], input=MARKS_AND_ZONES, text=True, check=True)
    for port in (1, 2):
        send(OTHER[V4], port)
    found = flows(netlink)
    in_a_zone, in_two = found[OTHER[V4], 1], found[OTHER[V4], 2]
    assert (in_a_zone.zone, in_a_zone.mark) == (7, 42)
    assert in_a_zone.sent is not None
    assert in_a_zone.received is not None
    assert (in_a_zone.sent.packets, in_a_zone.sent.bytes, in_a_zone.received.packets) == (1, 29, 0)
    assert in_two.original.destination_port == 2
    assert conntrack.delete(netlink, in_a_zone)
    assert conntrack.delete(netlink, in_two)
    assert flows(netlink) == {}


def test_a_protocol_without_ports_and_the_family_of_icmp(netlink: Socket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as ping:
        ping.sendto(struct.pack(">BBHHH", 8, 0, 0xF7FE, 1, 0), (OTHER[V4], 0))
    (flow,) = conntrack.dump(netlink, V4)
    assert flow.original == Tuple(socket.IPPROTO_ICMP, NODE[V4], 0, OTHER[V4], 0)
    assert conntrack.delete(netlink, flow)


def test_only_the_very_entry_is_deleted(netlink: Socket) -> None:
    send(VIP[V4], 53)
    flow = flows(netlink)[VIP[V4], 53]
    assert conntrack.delete(netlink, flow)
    assert not conntrack.delete(netlink, flow)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind((flow.original.source, flow.original.source_port))
        client.sendto(b"x", (VIP[V4], 53))
    again = flows(netlink)[VIP[V4], 53]
    assert again.original == flow.original
    assert not conntrack.delete(netlink, flow)
    assert flows(netlink)[VIP[V4], 53].id == again.id


def test_count_and_limit(netlink: Socket) -> None:
    before = conntrack.count()
    for port in range(1, 11):
        send(OTHER[V4], port)
    assert conntrack.count() - before == len(flows(netlink)) == 10
    assert conntrack.limit() > 10


def test_a_dump_of_many_flows_is_whole(netlink: Socket) -> None:
    fill(netlink, 5000)
    seen = {flow.original.source for flow in conntrack.dump(netlink, V4, UDP)}
    assert len(seen) == 5000


def fill(netlink: Socket, number: int) -> None:
    """Make entries from 10.0.0.0 on to the service address, answered by a pod that is gone."""
    for n in range(number):
        source = socket.inet_aton(f"10.0.{n >> 8}.{n & 255}")
        tuples = (
            entry(1, source, 1000, socket.inet_aton(VIP[V4]), 53),
            entry(2, socket.inet_aton("10.42.9.9"), 5353, source, 1000),
        )
        payload = struct.pack(">BBH", socket.AF_INET, 0, 0) + b"".join(tuples) + be32(3, 0xE) + be32(7, 600)
        netlink.request(1 << 8, NLM_F_CREATE | NLM_F_EXCL, payload, "make a flow")


def entry(kind: int, source: bytes, source_port: int, destination: bytes, destination_port: int) -> bytes:
    return nested(
        kind,
        nested(1, attribute(1, source), attribute(2, destination)),
        nested(
            2,
            attribute(1, bytes([UDP])),
            attribute(2, source_port.to_bytes(2, "big")),
            attribute(3, destination_port.to_bytes(2, "big")),
        ),
    )


def service(family: Family, *endpoints: Endpoint) -> Frontends:
    frontends = tuple(
        Frontend(kind, address, port, "UDP", Scope.CLUSTER, Verdict.FORWARD, Masquerade.NEVER)
        for kind, address, port in ((Kind.CLUSTER_IP, VIP[family], 53), (Kind.NODE_PORT, None, NODE_PORT))
    )
    return Frontends(ServicePortName("kube-system", "dns", "dns", "UDP"), frontends, endpoints)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("0")


@pytest.fixture
def cleaner(metrics: Metrics) -> Iterator[ConntrackCleaner]:
    one = ConntrackCleaner(metrics, lambda family: [NODE[family]])
    one.start()
    yield one
    one.stop()


def clean(cleaner: ConntrackCleaner, family: Family, *frontends: Frontends, removed: Frontends | None = None) -> None:
    cleaner.request(family, frontends, [removed] if removed else [])
    deadline = time.monotonic() + 10
    while not cleaner.idle:
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("family", [V4, V6])
def test_the_flows_of_an_endpoint_that_is_gone_are_removed_and_no_others(
    netlink: Socket, cleaner: ConntrackCleaner, metrics: Metrics, family: Family
) -> None:
    stale = {(VIP[family], 53), (NODE[family], NODE_PORT)}
    others = {(OTHER[family], NODE_PORT), (OTHER[family], 53)}
    for destination in stale | others:
        send(*destination)
    send(VIP[family], 53, socket.SOCK_STREAM)
    pod = Endpoint(POD[family], 5353)
    clean(cleaner, family, service(family, pod))
    assert set(flows(netlink, family, UDP)) == stale | others
    clean(cleaner, family, service(family, Endpoint(POD[family], 5354)))
    assert set(flows(netlink, family, UDP)) == others
    assert set(flows(netlink, family, socket.IPPROTO_TCP)) == {(VIP[family], 53)}
    text = metrics.render().decode()
    label = f'{{ip_family="{family.value}"}}'
    assert f"kubeproxy_conntrack_reconciler_deleted_entries_total{label} 2.0" in text
    assert f"kubeproxy_conntrack_reconciler_sync_duration_seconds_count{label} 2.0" in text


def test_a_client_reaches_the_new_endpoint_with_its_old_socket(netlink: Socket, cleaner: ConntrackCleaner) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((VIP[V4], 53))
        client.send(b"x")
        subprocess.run(["nft", "flush", "chain", "ip", "nat", "output"], check=True)
        rule = "ip daddr 10.96.0.10 udp dport 53 dnat to 10.42.2.53:5353"
        subprocess.run(["nft", "add", "rule", "ip", "nat", "output", *rule.split()], check=True)
        client.send(b"x")
        assert flows(netlink)[VIP[V4], 53].reply.source == POD[V4]
        clean(cleaner, V4, service(V4, Endpoint("10.42.2.53", 5353)))
        client.send(b"x")
    assert flows(netlink)[VIP[V4], 53].reply.source == "10.42.2.53"


def test_a_service_that_lost_its_last_endpoint_or_is_gone_keeps_no_flows(
    netlink: Socket, cleaner: ConntrackCleaner
) -> None:
    send(VIP[V4], 53)
    clean(cleaner, V4, service(V4))
    assert flows(netlink) == {}
    send(NODE[V4], NODE_PORT)
    clean(cleaner, V4, removed=service(V4, Endpoint(POD[V4], 5353)))
    assert flows(netlink) == {}


def test_requests_are_merged_and_what_was_removed_is_remembered(netlink: Socket, metrics: Metrics) -> None:
    send(VIP[V4], 53)
    cleaner = ConntrackCleaner(metrics, lambda family: [NODE[family]])
    cleaner.request(V4, [], [service(V4)])
    cleaner.request(V4, [])
    cleaner.request(V6, [])
    cleaner.start()
    try:
        clean(cleaner, V6)
        assert flows(netlink) == {}
        duration = 'kubeproxy_conntrack_reconciler_sync_duration_seconds_count{ip_family="IPv4"} 1.0'
        assert duration in metrics.render().decode()
    finally:
        cleaner.stop()


def test_thousands_of_stale_flows_go_in_one_pass(netlink: Socket, cleaner: ConntrackCleaner) -> None:
    fill(netlink, 5000)
    clean(cleaner, V4, service(V4, Endpoint(POD[V4], 5353)))
    assert conntrack.count() == 0


def test_a_failure_is_logged_and_the_next_request_is_served(
    netlink: Socket, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[list[str]] = [[NODE[V4]]]

    def addresses(family: Family) -> list[str]:
        if not answers:
            return [NODE[family]]
        answers.pop()
        raise OSError("planted")

    send(VIP[V4], 53)
    cleaner = ConntrackCleaner(metrics, addresses)
    cleaner.start()
    try:
        clean(cleaner, V4, service(V4))
        assert "stale UDP flows (IPv4) could not be removed: planted" in caplog.text
        assert flows(netlink)
        clean(cleaner, V4, service(V4))
        assert flows(netlink) == {}
    finally:
        cleaner.stop()
