"""Objects in the API's JSON form, and a consumer of events that keeps what a proxy would keep."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from kpx.cluster.events import Applied, Event, Key, Rejected, Removed, Synced
from kpx.cluster.objects import Kind, Object, Service

DEADLINE = 30.0


def service(name: str, address: str = "10.96.0.1", *, namespace: str = "default", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": address, "ports": [{"port": 80}], **spec},
    }


def endpoint_slice(name: str, *addresses: str, namespace: str = "default") -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-1", "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address]} for address in addresses],
    }


def node(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}


def service_cidr(name: str, *cidrs: str) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": name},
        "spec": {"cidrs": list(cidrs)},
    }


def labelled(object_: dict[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        **object_,
        "metadata": {**object_["metadata"], "labels": {**object_["metadata"].get("labels", {}), **labels}},
    }


def text(*objects: object) -> str:
    """A YAML file with these documents."""
    return yaml.safe_dump_all(objects)


def key(name: str, kind: Kind = Kind.SERVICE, namespace: str = "default") -> Key:
    return Key(kind, namespace, name)


class Mirror:
    """Keeps the objects that events tell of, and all events. `wait` fails a test that waits too long."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.objects: dict[Key, Object] = {}
        self.rejected: dict[Key, str] = {}
        self.synced: list[Kind] = []
        self._news = threading.Condition()

    def take(self, event: Event) -> None:
        with self._news:
            self.events.append(event)
            match event:
                case Applied(key, object_):
                    self.objects[key] = object_
                    self.rejected.pop(key, None)
                case Rejected(key, reason):
                    self.rejected[key] = reason
                case Removed(key):
                    assert key in self.objects or key in self.rejected, f"{key} removed, but not known"
                    self.objects.pop(key, None)
                    self.rejected.pop(key, None)
                case Synced(kind):
                    self.synced.append(kind)
            self._news.notify_all()

    def names(self, kind: Kind = Kind.SERVICE) -> set[str]:
        return {key.name for key in self.objects if key.kind is kind}

    def address(self, name: str) -> str:
        """The clusterIP of a Service; empty if there is none."""
        found = self.objects.get(key(name))
        return found.spec.cluster_ip if isinstance(found, Service) else ""

    def has_only(self, *names: str) -> bool:
        """Whether these are all Services."""
        return self.names() == set(names)

    def wait(self, condition: Callable[[], object]) -> None:
        with self._news:
            until = time.monotonic() + DEADLINE
            while not condition():
                assert time.monotonic() < until, f"not in time: {self.synced} {self.names()} {self.rejected}"
                self._news.wait(0.02)

    def wait_synced(self) -> None:
        self.wait(lambda: set(self.synced) == set(Kind))


def wait_until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until, "not in time"
        time.sleep(0.005)
