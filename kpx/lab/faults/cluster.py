"""Faults in the proxy and in the cluster's objects."""

from __future__ import annotations

from typing import Any

from kpx.lab.faults.fault import WEB, Fault, Visit
from kpx.lab.faults.site import Object, Site
from kpx.lab.topology import NODE

_WAITS = """
import signal
print("ready", flush=True)
signal.pause()
"""


def _stopped(site: Site) -> None:
    site.kill_daemon()


def _hung(site: Site) -> None:
    site.hold_daemon()


def _second(site: Site) -> None:
    site.start(_WAITS, "kube-proxy")


def _conflict(site: Site) -> None:
    meta = {"name": "copy", "namespace": "shop", "creationTimestamp": "2030-01-01T00:00:00Z"}
    ports = [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {"clusterIP": "10.96.100.1", "ports": ports},
    }
    site.add("99-copy.yaml", service)


def _slices(objects: list[Object]) -> list[Object]:
    return [one for one in objects if one["kind"] == "EndpointSlice"]


def _endpoints(objects: list[Object]) -> list[dict[str, Any]]:
    return [endpoint for one in _slices(objects) for endpoint in one["endpoints"]]


def _no_endpoints(site: Site) -> None:
    def change(objects: list[Object]) -> None:
        for one in _slices(objects):
            one["endpoints"] = []

    site.edit("10-web.yaml", change)


def _none_ready(site: Site) -> None:
    def change(objects: list[Object]) -> None:
        for endpoint in _endpoints(objects):
            endpoint["conditions"] = {"ready": False, "serving": False}

    site.edit("10-web.yaml", change)


def _wrong_port(site: Site) -> None:
    def change(objects: list[Object]) -> None:
        for one in _slices(objects):
            one["ports"][0]["port"] = 8081

    site.edit("10-web.yaml", change)


def _elsewhere(site: Site) -> None:
    def change(objects: list[Object]) -> None:
        for one in _slices(objects):
            one["endpoints"] = [endpoint for endpoint in one["endpoints"] if endpoint["nodeName"] != NODE]

    site.edit("70-shopfront.yaml", change)


def _silent_pod(site: Site) -> None:
    for pod in ("a10", "b10"):
        site.insert("filter", "INPUT", "-p", "tcp", "--dport", "8080", "-j", "DROP", place=pod)


FAULTS = (
    Fault("second-proxy", "a kube-proxy runs beside this proxy", "clusterip", "shop/web", "KPX-PX-003", _second),
    Fault("proxy-stopped", "the proxy has crashed", "clusterip", "shop/web", "KPX-PX-001", _stopped),
    Fault("proxy-hung", "the proxy hangs: it is alive and does nothing", "clusterip", "shop/web", "KPX-PX-002", _hung),
    Fault(
        "no-endpoints",
        "the Service's selector matches no pod",
        "clusterip",
        "shop/web",
        "KPX-IP-002",
        _no_endpoints,
        WEB,
    ),
    Fault("none-ready", "no endpoint of the Service is ready", "clusterip", "shop/web", "KPX-IP-003", _none_ready, WEB),
    Fault(
        "wrong-target-port",
        "targetPort is a port that no process in the pods listens on",
        "clusterip",
        "shop/web",
        "KPX-IP-007",
        _wrong_port,
        WEB,
    ),
    Fault(
        "silent-pods",
        "the pods drop what comes for their port",
        "clusterip",
        "shop/web",
        "KPX-IP-007",
        _silent_pod,
        WEB,
    ),
    Fault(
        "address-conflict",
        "a newer Service asks for an address that another one has",
        "clusterip",
        "shop/copy",
        "KPX-PX-007",
        _conflict,
    ),
    Fault(
        "no-local-endpoint",
        "the policy is Local, and no endpoint is on this node",
        "nodeport",
        "shop/shopfront",
        "KPX-NP-007",
        _elsewhere,
        Visit("client", address="192.0.2.11", port=80),
    ),
)
