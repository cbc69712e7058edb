"""The doctor on a node where a stock kube-proxy made the rules, with nothing of kpx beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

import pytest

from kpx.lab import Lab, namespaces
from kpx.net import Family
from tests.kernel.bundle.comparison import elsewhere, findings, rows, traces
from tests.kernel.daemon.conftest import FIXTURE, lab_of
from tests.kernel.doctor.clinic import Clinic, Diagnosis
from tests.packets.node import IPTABLES_LEGACY, IPTABLES_NFT, NFTABLES, Node, Variant
from tests.packets.proxies import StockRules

VARIANTS = [pytest.param(one, id=one.name) for one in (IPTABLES_NFT, IPTABLES_LEGACY, NFTABLES)]

# A process of that name, with the pages that the tools read: what is left of kube-proxy where no binary is at hand.
_PAGES = """
import http.server, json, sys, threading
mode = sys.argv[1]
configz = {"kubeproxy.config.k8s.io": {"mode": mode, "hostnameOverride": "node-a", "clusterCIDR": "10.244.0.0/16",
           "iptables": {"minSyncPeriod": "1s"}, "nftables": {"minSyncPeriod": "1s"}}}
metrics = "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\\"IPv4\\",le=\\"0.256\\"} 3\\n" \\
          "kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family=\\"IPv4\\",le=\\"+Inf\\"} 3\\n"

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        pages = {"/healthz": "{}", "/configz": json.dumps(configz), "/metrics": metrics}
        body = pages.get(self.path, "").encode()
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass

for port in (10256, 10249):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Page)
    threading.Thread(target=server.serve_forever).start()
print("ready", flush=True)
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Lab]:
    with lab_of() as made:
        yield made


@contextmanager
def stock(place: Lab, variant: Variant) -> Iterator[Node]:
    """kube-proxy's rules, and what stands for its process."""
    node = Node(place)
    StockRules(node, variant, Family.IPV4).start([], {})
    with namespaces.entered(node.namespace):
        process = subprocess.Popen(
            ["kube-proxy", "-c", _PAGES, variant.mode], executable=sys.executable, stdout=subprocess.PIPE
        )
    try:
        with process, process.stdout or Path(os.devnull).open("rb") as output:
            assert output.readline() == b"ready\n"
            yield node
            process.kill()
    finally:
        process.kill()
        node.blank(variant)


def doctor(place: Lab, objects: Path, *words: str) -> Diagnosis:
    status, text = Clinic(place).run("doctor", *words, "--manifests", str(objects), "-o", "json")
    return Diagnosis(status, json.loads(text))


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """The objects from which kube-proxy made the rules, of one family."""
    (tmp_path / "objects.yaml").write_text((FIXTURE / "objects.yaml").read_text())
    return tmp_path


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_healthy_node(place: Lab, variant: Variant, objects: Path) -> None:
    with stock(place, variant):
        found = doctor(place, objects)

    assert not found.ids("error"), found.of("error")
    # kube-proxy itself, which is not there, would serve this one.
    assert found.ids("fail", "warn") <= {"KPX-NP-008"}, [(one["id"], one["says"]) for one in found.of("fail")]
    assert found.report["mode"] == variant.mode


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_firewall_is_found(place: Lab, variant: Variant, objects: Path) -> None:
    with stock(place, variant) as node:
        node.run(variant.iptables(Family.IPV4), *["-I", "FORWARD", "-d", "10.244.0.0/16", "-p", "tcp", "-j", "DROP"])
        found = doctor(place, objects, "clusterip", "shop/web")

    assert "KPX-FW-001" in found.ids("fail")
    program = variant.iptables(Family.IPV4)
    assert found.finding("KPX-FW-001")["fix"]["now"][0].startswith(f"{program} -w 5 -t filter -D FORWARD ")


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_a_bundle_says_of_it(place: Lab, variant: Variant, objects: Path, tmp_path: Path) -> None:
    asked = (
        ("services", "-o", "json"),
        ("doctor", "clusterip", "shop/web", "-o", "json"),
        ("trace", "shop/web", "--via", "all", "--from", "external", "-o", "json"),
    )
    told, file = ("--manifests", str(objects)), tmp_path / "node.tar.gz"
    with stock(place, variant) as node:
        node.run(variant.iptables(Family.IPV4), *["-I", "FORWARD", "-d", "10.244.0.0/16", "-p", "tcp", "-j", "DROP"])
        assert Clinic(place).run("bundle", "-o", str(file), *told)[0] == 0
        here = [(*Clinic(place).run(*words, *told), "") for words in asked]

    off = elsewhere(file, asked)

    assert [status for status, *_ in off] == [status for status, *_ in here]
    assert rows(off[0]) == rows(here[0])
    differing = [both for both in zip_longest(findings(off[1]), findings(here[1])) if both[0] != both[1]]
    assert not differing, differing
    assert "KPX-FW-001" in {one["id"] for one in findings(off[1]) if one["status"] == "fail"}
    assert traces(off[2]) == traces(here[2])
    assert {branch["ending"]["verdict"] for one in traces(off[2]) for branch in one["branches"]} == {"dropped"}
