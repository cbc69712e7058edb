"""What is asked is taken as it is meant, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpx.tools.cluster import Options
from kpx.tools.errors import ToolError, UsageError
from kpx.trace.questions import Asked, find

UNSERVED = """\
apiVersion: v1
kind: Service
metadata: {name: direct, namespace: shop}
spec: {clusterIP: None, clusterIPs: [None], ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere, namespace: shop}
spec: {type: ExternalName, externalName: db.example.com}
"""


@pytest.mark.parametrize(
    ("name", "told"),
    [("direct", "is headless .*pods' own addresses"), ("elsewhere", "of type ExternalName: .*db.example.com")],
)
def test_what_no_proxy_serves_is_called_what_it_is(name: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "objects.yaml").write_text(UNSERVED)
    with pytest.raises(ToolError, match=told):
        find(Asked(f"svc/{name}", "shop"), Options(manifests=str(tmp_path), node="node-a"))


def test_two_ports_are_one_too_many() -> None:
    with pytest.raises(UsageError, match="shop/web:http names a port already: leave out --to-port https"):
        find(Asked("shop/web:http", port="https"), Options())


DNS = """\
apiVersion: v1
kind: Service
metadata: {name: dns, namespace: kube-system}
spec:
  type: NodePort
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10]
  ports:
  - {name: dns, port: 53, protocol: UDP, nodePort: 30053}
  - {name: dns-tcp, port: 53, protocol: TCP, nodePort: 30054}
"""
OVER_UDP = "kube-system/dns:dns answers there over UDP: to see that, trace"


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ("10.96.0.10:53", (f"{OVER_UDP} 10.96.0.10:53/udp",)),
        ("10.96.0.10:53/tcp", ()),
        ("10.96.0.10:53/UDP", ()),
        ("10.96.0.10:54", ()),
        ("nodeport/30053", (f"no Service has nodeport/30053/tcp, but {OVER_UDP} nodeport/30053/udp",)),
        ("nodeport/30053/tcp", (f"no Service has nodeport/30053/tcp, but {OVER_UDP} nodeport/30053/udp",)),
        ("nodeport/30054", ()),
    ],
)
def test_other_protocols_of_an_address_are_named(text: str, notes: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "objects.yaml").write_text(DNS)
    assert find(Asked(text), Options(manifests=str(tmp_path), node="node-a")).notes == notes
