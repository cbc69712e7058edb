"""Take-over from stock kube-proxy in mode ipvs, and back, while connections are made: none is lost, nothing stays."""

from __future__ import annotations

import re

from kpx.lab import Lab, namespaces, requests
from kpx.lab.requests import Outcome, Request
from kpx.lab.topology import NODE
from tests.ipvs.stock import (
    CONFIGURATION,
    GATEWAY,
    GATEWAY_NODE_PORT,
    GATEWAY_VIP,
    REDIS,
    WEB,
    StockIpvs,
    stock_objects,
)
from tests.ipvs.test_life_cycle import IPVS_CHAINS, chains, left_of_ipvs, place
from tests.kernel.daemon.conftest import Daemons, Node, daemons, fixture_objects, node, stock_rules
from tests.kernel.daemon.places import started, within
from tests.kernel.daemon.process import KPX, eventually
from tests.kernel.daemon.traffic import Target, streaming

__all__ = ["daemons", "node", "place"]

STREAMED = (Target("a11", *WEB, frozenset({"a10", "b10"})), Target("client", *GATEWAY_VIP, frozenset({"a12"})))
# Nobody but `visit` goes there, so that what counts their packets tells whether it was made anew.
QUIET = (
    Target("a11", *GATEWAY, frozenset({"a12", "b11"})),
    Target("client", *GATEWAY_NODE_PORT, frozenset({"a12"})),
    Target("a11", *REDIS, frozenset({"a13", "b12", "b13"})),
)
VISITS = 6


def visit(place: Lab) -> str:
    """Visit the quiet Services; the pod that answers where a client stays with one."""
    answers = set()
    for target in QUIET:
        asked = [Request(place.namespace(target.place), "tcp", target.address, target.port)] * VISITS
        replies = requests.send(asked)
        assert {reply.outcome for reply in replies} == {Outcome.ANSWERED}, replies
        answers = {reply.answers for reply in replies}
        assert answers <= target.answers
    (pod,) = answers
    return pod


def connections(place: Lab) -> dict[str, int]:
    """How many connections each quiet virtual server, and each of its real servers, has counted."""
    found: dict[str, int] = {}
    virtual = ""
    for line in within(place, "ipvsadm", "-Ln", "--stats", "--exact").splitlines()[3:]:
        first, address, count, *_ = line.split()
        virtual = virtual if first == "->" else address
        if any(virtual == f"{one.address}:{one.port}" for one in QUIET):
            found[f"{virtual} {address}"] = int(count)
    return found


def visited(place: Lab) -> dict[str, int]:
    """The same, when the visits are in: the kernel adds up with some delay."""

    def all_are_in(found: dict[str, int]) -> bool:
        return all(found[f"{one.address}:{one.port} {one.address}:{one.port}"] == VISITS for one in QUIET)

    return eventually(lambda: connections(place), all_are_in, "the visits are not counted")


def rules(place: Lab) -> list[tuple[str, int]]:
    """All rules in order, and how many packets have met each."""
    saved = within(place, "iptables-legacy-save", "-c")
    return [(rule, int(count)) for count, rule in re.findall(r"^\[(\d+):\d+\] (-A .*)$", saved, re.M)]


def held(place: Lab) -> tuple[object, ...]:
    """All that the mode has in the kernel for IPv4, without what counts."""
    sets = [line for line in within(place, "ipset", "save").splitlines() if "KUBE-6-" not in line]
    addresses = re.findall(r" inet (\S+)", within(place, "ip", "-o", "address", "show", "dev", "kube-ipvs0"))
    # Initial values of a set's hash are the kernel's choice.
    entries = sorted(line for line in sets if line.startswith("add"))
    names = sorted(line.split()[1] for line in sets if line.startswith("create"))
    return StockIpvs(place).virtual_servers(), names, entries, sorted(addresses), [rule for rule, _ in rules(place)]


def test_from_mode_ipvs_and_back(place: Lab, node: Node, daemons: Daemons) -> None:
    """What kube-proxy left is right, and not touched: not even what it has counted is lost."""
    node.serve(*stock_objects())
    stock = StockIpvs(place)
    stock.sync()
    before, pod = held(place), visit(place)
    counted, met = visited(place), rules(place)
    with streaming(place, STREAMED) as stream:
        daemon = started(daemons, place, node, "ipvs", **CONFIGURATION)
        stream.more()
        assert held(place) == before
        assert connections(place) == counted
        for (rule, now), (_, then) in zip(rules(place), met, strict=True):
            assert now >= then, rule
        assert daemon.end() == 143
        stream.more()
        stock.sync()
        stream.more()
        assert held(place) == before
        assert connections(place) == counted
    assert visit(place) == pod

    within(place, *KPX, "cleanup")

    assert (left_of_ipvs(place), chains(place)) == ([], set())


def test_from_mode_iptables(place: Lab, node: Node, daemons: Daemons) -> None:
    """Its chains go once the virtual servers are in that take their place."""
    node.serve(*fixture_objects())
    for family in ("iptables", "ip6tables"):
        with namespaces.entered(place.namespace(NODE)):
            stock = stock_rules(f"{family}-legacy")
        within(place, f"{family}-legacy-restore", stdin=stock)
    targets = (
        Target("a11", "10.96.100.1", 80, frozenset({"a10", "b10"})),
        Target("client", "10.199.0.21", 30080, frozenset({"a12", "b13"})),
    )
    with streaming(place, targets) as stream:
        started(daemons, place, node, "ipvs")
        eventually(
            lambda: not [one for one in chains(place) if one.startswith(("KUBE-SVC", "KUBE-SEP", "KUBE-EXT"))],
            what="rules of iptables stay",
        )
        stream.more()
        assert chains(place) >= IPVS_CHAINS


def test_from_mode_ipvs_to_iptables(place: Lab, node: Node, daemons: Daemons) -> None:
    """No first segment is lost, also where senders are limited; virtual servers stay as long as their connections."""
    node.serve(*stock_objects())
    StockIpvs(place).sync()
    with streaming(place, STREAMED) as stream:
        daemon = started(daemons, place, node, "iptables", **CONFIGURATION)
        eventually(lambda: not chains(place) & IPVS_CHAINS, what="the rules of ipvs stay")
        stream.more()
        daemon.logs("virtual servers stay until their last connections end")
