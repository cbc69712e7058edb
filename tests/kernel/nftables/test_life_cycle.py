"""The daemon in mode nftables starts, takes over, is switched and rolled back: not one connection is lost."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kpx import lab
from kpx.kernel.iptables.program import Variant
from kpx.lab import Lab, namespaces
from kpx.lab.topology import NODE, Topology
from tests.kernel.daemon.conftest import Daemons, Node, daemons, fixture_objects, lab_of, node, stock_rules
from tests.kernel.daemon.download import download_objects, downloading
from tests.kernel.daemon.places import launched, started, within
from tests.kernel.daemon.process import KPX, eventually, run
from tests.kernel.daemon.traffic import Target, streaming
from tests.packets.scenario import FIXTURE

__all__ = ["daemons", "node"]

STOCK = (
    Target("a11", "10.96.100.1", 80, frozenset({"a10", "b10"})),
    Target("client", "10.199.0.21", 30080, frozenset({"a12", "b13"})),
)


@pytest.fixture
def place() -> Iterator[Lab]:
    with lab_of(Topology(tuple(range(10, 20)), tuple(range(10, 21)))) as made:
        yield made


def tables(place: Lab) -> list[str]:
    return within(place, "nft", "list", "tables").splitlines()


OURS = ["table ip kpx", "table ip6 kpx"]


def test_restarts_write_nothing(place: Lab, node: Node, daemons: Daemons) -> None:
    daemon = started(daemons, place, node, "nftables")
    assert daemon.get("/proxyMode").body == "nftables"
    before = within(place, "nft", "--handle", "--stateless", "list", "ruleset")
    with streaming(place) as stream:
        assert daemon.end() == 143
        stream.more()
        started(daemons, place, node, "nftables").end()
    assert within(place, "nft", "--handle", "--stateless", "list", "ruleset") == before
    assert set(tables(place)) == set(OURS)


@pytest.mark.parametrize("variant", list(Variant))
def test_the_mode_is_switched_there_and_back(variant: Variant, place: Lab, node: Node, daemons: Daemons) -> None:
    within(place, f"iptables-{variant.value}", "-t", "mangle", "-N", "KUBE-IPTABLES-HINT")
    node.write("download.yaml", *download_objects())
    daemon = started(daemons, place, node, "iptables")
    with streaming(place) as stream, downloading(place) as download:
        daemon.end()
        daemon = started(daemons, place, node, "nftables")
        eventually(lambda: not chains(place, variant), what="the rules of iptables mode stay")
        assert not rules(place, variant)
        assert set(OURS) <= set(tables(place))
        stream.more()
        download.more()
        daemon.end()
        started(daemons, place, node, "iptables")
        eventually(lambda: not set(OURS) & set(tables(place)), what="the tables of nftables mode stay")
        stream.more()
        download.more()
    assert chains(place, variant)


def rules(place: Lab, variant: Variant) -> list[str]:
    """The rules of iptables that are there, in both families."""
    saved = "".join(within(place, f"{family}-{variant.value}-save") for family in ("iptables", "ip6tables"))
    return re.findall(r"^-A .*", saved, re.M)


def chains(place: Lab, variant: Variant) -> list[str]:
    """The chains of iptables mode that are there, in both families."""
    saved = "".join(within(place, f"{family}-{variant.value}-save") for family in ("iptables", "ip6tables"))
    return [name for name in re.findall(r"^:(KUBE-\S+)", saved, re.M) if name != "KUBE-IPTABLES-HINT"]


def test_kube_proxys_table_is_taken_over_from(place: Lab, node: Node, daemons: Daemons) -> None:
    node.serve(*fixture_objects())
    within(place, "nft", "-f", "-", stdin=(FIXTURE / "nftables.txt").read_text())
    with streaming(place, STOCK) as stream:
        started(daemons, place, node, "nftables")
        eventually(lambda: "table ip kube-proxy" not in tables(place))
        stream.more()
    assert set(tables(place)) == set(OURS)


def test_it_waits_for_kube_proxy_to_end_and_takes_over(
    place: Lab, node: Node, daemons: Daemons, tmp_path: Path
) -> None:
    """As a move in a cluster goes: both pods are on the node, and one of them ends."""
    node.serve(*fixture_objects())
    load_table(place)
    program = tmp_path / "kube-proxy"
    shutil.copy2("/bin/sleep", program)
    before = within(place, "nft", "--stateless", "list", "ruleset")
    with (
        streaming(place, STOCK) as stream,
        subprocess.Popen(lab.command(place.name, NODE, [str(program), "1000"])) as rival,
    ):
        try:
            daemon = launched(daemons, place, node, "nftables")
            daemon.logs(r"kube-proxy\[\d+\] is alive on this node: waiting for it to end")
            stream.more()
            assert within(place, "nft", "--stateless", "list", "ruleset") == before
        finally:
            rival.kill()
        daemon.synced().healthy()
        eventually(lambda: "table ip kube-proxy" not in tables(place))
        stream.more()
    assert set(tables(place)) == set(OURS)


def load_table(place: Lab) -> None:
    within(place, "nft", "-f", "-", stdin=(FIXTURE / "nftables.txt").read_text())


def load_chains(place: Lab, variant: Variant) -> None:
    for family in ("iptables", "ip6tables"):
        program = f"{family}-{variant.value}"
        with namespaces.entered(place.namespace(NODE)):
            rules = stock_rules(program)
        within(place, f"{program}-restore", stdin=rules)


@pytest.mark.parametrize("stale", ["no endpoints", "no services", "other sources"])
@pytest.mark.parametrize("rival", ["table", *Variant], ids=["nftables", "iptables-legacy", "iptables-nft"])
def test_a_proxy_that_is_rolled_back_to_takes_precedence_over_stale_rules(
    stale: str, rival: Variant | str, place: Lab, node: Node, daemons: Daemons
) -> None:
    served = [one for one in fixture_objects() if stale == "other sources" or one["kind"] != "EndpointSlice"]
    for one in served:
        if one["kind"] == "Service" and one["metadata"]["name"] == "edge":
            one["spec"]["loadBalancerSourceRanges"] = ["192.0.2.128/25"]
    node.serve(*(one for one in served if stale != "no services" or one["kind"] != "Service"))
    started(daemons, place, node, "nftables").end()

    if isinstance(rival, Variant):
        load_chains(place, rival)
    else:
        load_table(place)

    guarded = Target("client", "192.0.2.10", 443, frozenset({"a13"}))
    with streaming(place, (*STOCK, guarded)) as stream:
        with namespaces.entered(place.namespace(NODE)):
            assert run(*KPX, "cleanup").status == 0
        stream.more()
    assert not set(OURS) & set(tables(place))
