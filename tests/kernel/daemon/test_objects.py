"""Objects that cannot be served stop no others, and what changes on the node or in its configuration is followed."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kpx import lab
from kpx.kernel.iptables.program import Variant
from kpx.lab import Lab
from kpx.lab.requests import Outcome, Request, send
from kpx.lab.topology import NODE
from tests.kernel.daemon.conftest import Daemons, Node, lab_of
from tests.kernel.daemon.process import KPX, Daemon, eventually, run
from tests.unit.cluster.objects import endpoint_slice, service

MANY = 300
# Nothing in these objects says that xt_recent keeps the time in 32 bits.
FOREVER: dict[str, Any] = {
    "sessionAffinity": "ClientIP",
    "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 2**40}},
}


def saved(variant: Variant = Variant.NFT) -> str:
    return run(f"iptables-{variant.value}-save", "-t", "nat").stdout


@pytest.mark.parametrize("variant", list(Variant))
def test_invalid_objects_among_many(variant: Variant, node: Node, daemons: Daemons) -> None:
    run(f"iptables-{variant.value}", "-t", "mangle", "-N", "KUBE-IPTABLES-HINT")
    good = [
        one
        for number in range(MANY)
        for one in (
            service(f"good-{number}", f"10.97.{number // 250}.{number % 250 + 1}"),
            endpoint_slice(f"good-{number}", "10.244.21.10"),
        )
    ]
    bad = {
        "address": service("address", "10.96.0.300"),
        "type": service("type", "10.96.0.11", ports="none"),
        "kernel": service("kernel", "10.96.0.12", **FOREVER),
    }
    node.write("good.yaml", *good)
    node.write("bad.yaml", *bad.values(), endpoint_slice("kernel", "10.244.21.11"))

    daemon = daemons.start(*node.command).synced()

    assert len(re.findall(r'-A KUBE-SERVICES .*default/good-\d+ cluster IP"', saved(variant))) == MANY
    for name in bad:
        assert len(re.findall(rf"Service default/{name} is left out: \S+", daemon.log)) == 1
    rejected = eventually(lambda: rejections(daemon), bool)
    assert all("Service" in labels for labels in rejected)
    assert sum(rejected.values()) >= len(bad)
    daemon.healthy()

    node.write("bad.yaml", service("address", "10.96.0.10"), endpoint_slice("address", "10.244.21.11"))
    eventually(lambda: saved(variant), lambda rules: "default/address cluster IP" in rules)


def rejections(daemon: Daemon) -> dict[str, float]:
    found = re.findall(r"^kpx_rejected_objects\w*{(.*)} (\S+)$", daemon.get("/metrics").body, re.M)
    return {labels: float(value) for labels, value in found}


def test_a_change_of_the_configuration_ends_the_process(node: Node, daemons: Daemons) -> None:
    """A supervisor starts it again, and it reads the new one."""
    daemon = daemons.start(*node.command).synced()

    node.configure(clusterCIDR="10.244.0.0/15,fd00:244::/48")

    assert daemon.ended() == 1
    assert re.search(
        r"Error running ProxyServer: content of the proxy server's configuration file was updated$", daemon.log, re.M
    )
    assert "10.96.100.1/32" in saved()
    daemons.start(*node.command).synced()
    assert "! -s 10.244.0.0/15" in saved()


def test_other_pod_networks_of_the_node_end_the_process_where_they_count(node: Node, daemons: Daemons) -> None:
    node.configure(detectLocalMode="NodeCIDR")
    daemon = daemons.start(*node.command).synced()
    manifest = node.manifests / "00-node.yaml"
    assert "! -s 10.244.21.0/24" in saved()

    manifest.write_text(manifest.read_text().replace("10.244.21.0/24", "10.244.23.0/24"))

    assert daemon.ended() == 1
    assert re.search("Error running ProxyServer: the node's pod CIDRs changed from .*10.244.23.0/24", daemon.log)


def test_logs_as_json_with_an_unknown_field(node: Node, daemons: Daemons) -> None:
    node.configure(logging={"format": "json", "verbosity": 2}, iptables={"minSyncPeriods": "1s"})

    daemon = daemons.start(*node.command).synced()

    daemon.logs("IPv6 full sync took")
    lines = [json.loads(line) for line in daemon.log.splitlines()]
    assert {"ts", "caller", "msg"} <= set.intersection(*(set(line) for line in lines))
    warnings = [line["msg"] for line in lines if line.get("level") == "warning"]
    assert any("strict decoding failed" in text and "minSyncPeriods" in text for text in warnings)
    assert any(line.get("v") == 2 and line["msg"].startswith("IPv4 full sync took") for line in lines)


def test_profiling_shows_every_thread_and_sets_the_verbosity(node: Node, daemons: Daemons) -> None:
    node.configure(enableProfiling=True)
    daemon = daemons.start(*node.command).synced()

    assert "MainThread" in daemon.get("/debug/pprof/goroutine").body
    assert daemon.get("/debug/flags/v", method="PUT", body="2").status == 200

    node.write("late.yaml", service("late", "10.96.100.77"))
    daemon.logs("IPv4 partial sync took")


def test_a_container_whose_first_process_it_is(node: Node, daemons: Daemons) -> None:
    """It ends when it is told to, and knows its own changes from those of others, whose ids are not what they seem."""
    enclosed = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    container = daemons.start(*enclosed, *node.command, "-v=2").synced()
    node.write("late.yaml", service("late", "10.96.100.77"), endpoint_slice("late", "10.244.21.10"))
    eventually(lambda: "default/late" in saved())

    run("iptables", "-t", "nat", "-F", "KUBE-SERVICES")
    eventually(lambda: container.metric("kpx_drift_found_total"))
    assert container.metrics("kpx_drift_found_total") == {'ip_family="IPv4"': 1}
    assert "default/late cluster IP" in saved()
    assert "by iptables-nft-re" not in container.log

    (first,) = Path(f"/proc/{container.process.pid}/task/{container.process.pid}/children").read_text().split()
    subprocess.run(["kill", "-TERM", first], check=True)
    assert container.ended() == 143


def test_a_part_that_fails_ends_the_process(node: Node) -> None:
    """A proxy without one of its threads would serve what is no longer so."""
    program = (
        "import sys; from kpx.cluster.manifests import ManifestSource as Source; from kpx.proxier.main import main;"
        "Source.run = lambda *_: 1 / 0; sys.exit(main(sys.argv[1:]))"
    )
    ended = run(node.command[0], "-c", program, *node.command[len(KPX) + 1 :])

    assert ended.status == 1
    assert re.search("thread source ended by an error", ended.stderr)


@pytest.fixture
def place() -> Iterator[Lab]:
    with lab_of() as made:
        yield made


def test_node_ports_follow_the_nodes_addresses(place: Lab, node: Node, daemons: Daemons) -> None:
    """An address within nodePortAddresses that the node gets is served without a restart, until it is gone."""
    node.configure(nodePortAddresses=["10.199.1.0/24"])
    namespace = place.namespace(NODE)
    daemon = daemons.start(*lab.command(place.name, NODE, node.command), namespace=namespace).synced()

    def outcome(address: str) -> Outcome:
        (reply,) = send([Request(namespace, "tcp", address, 30080)])
        return reply.outcome

    def address(verb: str) -> None:
        subprocess.run(["ip", "-n", namespace, "address", verb, "10.199.1.99/32", "dev", "lo"], check=True)

    assert outcome("10.199.1.21") is Outcome.ANSWERED
    assert outcome("10.199.0.21") is Outcome.REFUSED
    address("add")
    eventually(lambda: outcome("10.199.1.99"), lambda found: found is Outcome.ANSWERED)
    address("delete")
    rules = lab.command(place.name, NODE, ["iptables-save", "-t", "nat"])
    eventually(lambda: run(*rules).stdout, lambda text: "10.199.1.99" not in text and "-d 10.199.1.21/32" in text)
    assert daemon.metric("kpx_drift_found_total") == 0
    assert "by somebody else" not in daemon.log
