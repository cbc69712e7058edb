"""The daemon ends, starts again, is replaced and takes over while connections are made: none is lost."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from kpx import lab
from kpx.kernel.iptables.program import Variant
from kpx.kernel.nft.listener import Listener
from kpx.lab import Lab, namespaces, objects
from kpx.lab.topology import NODE, Topology
from tests.kernel.daemon.conftest import FIXTURE, Daemons, Node, fixture_objects, lab_of, stock_rules
from tests.kernel.daemon.process import DEADLINE_SECONDS, HEALTHZ, Daemon, eventually
from tests.kernel.daemon.traffic import Target, streaming
from tests.unit.cluster.objects import endpoint_slice, service

FIRST, MANY = 250, 1000
CHECK_PORT = 32100  # of the lab's Service shopfront
FAMILIES = ("iptables", "ip6tables")


@pytest.fixture
def place(variant: Variant) -> Iterator[Lab]:
    """A lab whose node's kubelet uses this variant of iptables."""
    with lab_of(Topology(tuple(range(10, 20)), tuple(range(10, 21)))) as made:
        within(made, f"iptables-{variant.value}", "-t", "mangle", "-N", "KUBE-IPTABLES-HINT")
        yield made


@pytest.fixture(params=list(Variant))
def variant(request: pytest.FixtureRequest) -> Variant:
    assert isinstance(request.param, Variant)
    return request.param


def within(place: Lab, *command: str, stdin: str | None = None) -> str:
    """Run a program on the lab's node; what it printed."""
    words = lab.command(place.name, NODE, command)
    return subprocess.run(words, input=stdin, capture_output=True, text=True, check=True).stdout


def started(daemons: Daemons, place: Lab, node: Node, *more: str) -> Daemon:
    words = lab.command(place.name, NODE, [*node.command, *more])
    return daemons.start(*words, namespace=place.namespace(NODE))


def rules(place: Lab, variant: Variant) -> list[str]:
    """All rules of the node without counters; where the kernel has handles for them, with these."""
    if variant is Variant.NFT:
        return within(place, "nft", "--handle", "--stateless", "list", "ruleset").splitlines()
    programs = [f"{family}-legacy-save" for family in FAMILIES]
    return [line for one in programs for line in within(place, one).splitlines() if line[:1] == "-"]


def test_restarts(variant: Variant, place: Lab, node: Node, daemons: Daemons) -> None:
    daemon = started(daemons, place, node).synced()
    before = rules(place, variant)
    with streaming(place) as stream:
        daemon.send(signal.SIGHUP)
        stream.more()
        assert daemon.end(signal.SIGTERM) == 143
        stream.more()
        daemon = started(daemons, place, node).synced()
        stream.more()
        assert daemon.end(signal.SIGKILL) == 137
        stream.more()
        daemon = started(daemons, place, node).synced()
        stream.more()
        assert daemon.end(signal.SIGINT) == 130
    assert rules(place, variant) == before


@pytest.mark.parametrize("variant", [Variant.NFT], indirect=True)
def test_a_kill_in_the_middle_of_writing(variant: Variant, place: Lab, node: Node, daemons: Daemons) -> None:
    """Rules are loaded part by part; whatever part was the last, the next start adds what is missing."""
    objects.write_manifests(node.manifests, place.topology, FIRST)
    started(daemons, place, node).synced().end()
    before = rules(place, variant)
    objects.write_manifests(node.manifests, place.topology, MANY)
    with streaming(place) as stream:
        with namespaces.entered(place.namespace(NODE)):
            listener = Listener(only_commits=True)
        with listener:
            daemon = started(daemons, place, node)
            stopped_amid(place, daemon, listener)
        daemon.end(signal.SIGKILL)
        assert served(place) < MANY
        stream.more()
        started(daemons, place, node).synced()
        assert served(place) == MANY
    after = set(rules(place, variant))
    assert [line for line in before if line not in after] == []


def served(place: Lab) -> int:
    """How many of the many Services have a rule for their address."""
    return len(re.findall("^-A KUBE-SERVICES .*scale/scale-", within(place, "iptables-save", "-t", "nat"), re.M))


def stopped_amid(place: Lab, daemon: Daemon, listener: Listener) -> None:
    """Stop the daemon once it has written a part: it is counted after each commit only, so that it gets that far."""
    while True:
        assert listener.receive(DEADLINE_SECONDS), daemon.log
        daemon.process.send_signal(signal.SIGSTOP)
        if served(place) > FIRST:
            return
        daemon.process.send_signal(signal.SIGCONT)


LATE = (
    service("late", "10.96.100.77", namespace="shop"),
    endpoint_slice("late", "10.244.21.10", namespace="shop"),
)


@pytest.mark.parametrize("variant", [Variant.NFT], indirect=True)
def test_an_upgrade(variant: Variant, place: Lab, node: Node, daemons: Daemons) -> None:
    """The next version starts while this one still runs, and gets the ports when this one has ended."""
    daemon = started(daemons, place, node, "-v=2").synced()
    before = rules(place, variant)
    with streaming(place) as stream:
        upgraded = started(daemons, place, node, "--take-over", "-v=2")
        upgraded.logs("healthz server: cannot listen on .*: Address already in use; trying again in 5 s")
        upgraded.logs("IPv6 full sync took")
        stream.more()
        assert rules(place, variant) == before
        node.write("late.yaml", *LATE)
        stream.more()
        assert daemon.end() == 143
        eventually(lambda: upgraded.get("/healthz", HEALTHZ), lambda answer: answer.status == 200)
        eventually(lambda: upgraded.get("/", CHECK_PORT), lambda answer: answer.status == 200)
        upgraded.synced()
    after = rules(place, variant)
    assert [line for line in before if line not in after] == []
    chains = re.findall("^-A (KUBE-[A-Z]+).*shop/late", within(place, "iptables-save", "-t", "nat"), re.M)
    assert sorted(chains) == ["KUBE-SEP", "KUBE-SEP", "KUBE-SERVICES", "KUBE-SVC", "KUBE-SVC"]


STOCK = (
    Target("a11", "10.96.100.1", 80, frozenset({"a10", "b10"})),
    Target("client", "10.199.0.21", 30080, frozenset({"a12", "b13"})),
)


def test_taking_over_from_kube_proxy(variant: Variant, place: Lab, node: Node, daemons: Daemons) -> None:
    """Of the rules that kube-proxy left, those that are as they should be are not touched."""
    node.serve(*fixture_objects())
    for family in FAMILIES:
        program = f"{family}-{variant.value}"
        with namespaces.entered(place.namespace(NODE)):
            stock = stock_rules(program)
        within(place, f"{program}-restore", stdin=stock)
    before = rules(place, variant)
    with streaming(place, STOCK) as stream:
        started(daemons, place, node).synced()
        stream.more()
    after = rules(place, variant)
    assert [line for line in before if line not in after] == []
    new = [line for line in after if line not in before]
    assert len(new) == 2, new
    assert all("KUBE-EXTERNAL-SERVICES" in line for line in new), new


def test_going_back_to_kube_proxy(variant: Variant, place: Lab, node: Node, daemons: Daemons) -> None:
    """When kube-proxy writes its chains again, as it does when it starts, all is as it was but for one jump."""
    node.serve(*fixture_objects())
    stock: dict[str, str] = {}
    for family in FAMILIES:
        program = f"{family}-{variant.value}"
        with namespaces.entered(place.namespace(NODE)):
            stock[program] = stock_rules(program)
        within(place, f"{program}-restore", stdin=stock[program])
    before = {program: saved_rules(place, program) for program in stock}
    with streaming(place, STOCK) as stream:
        started(daemons, place, node).synced().end()
        stream.more()
        for program, text in stock.items():
            within(place, f"{program}-restore", "--noflush", stdin=re.sub(r"^-A (?!KUBE).*\n", "", text, flags=re.M))
        stream.more()
    after = {program: saved_rules(place, program) for program in stock}
    for program in stock:
        assert before[program] <= after[program]
        (more,) = after[program] - before[program]
        assert more.startswith("-A OUTPUT ")
        assert more.endswith("-j KUBE-EXTERNAL-SERVICES")


def saved_rules(place: Lab, program: str) -> set[str]:
    return set(re.findall("^-A .*$", within(place, f"{program}-save"), re.M))


@pytest.mark.parametrize("variant", [Variant.NFT], indirect=True)
def test_taking_over_from_kube_proxy_in_another_mode(place: Lab, node: Node, daemons: Daemons) -> None:
    """Its table goes once the chains are in that take its place."""
    node.serve(*fixture_objects())
    within(place, "nft", "-f", str(FIXTURE / "nftables.txt"))
    with streaming(place, STOCK) as stream:
        started(daemons, place, node).synced()
        eventually(lambda: "kube-proxy" not in within(place, "nft", "list", "tables"))
        stream.more()
