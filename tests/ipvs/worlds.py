"""Backends in the test's namespace, the worlds that they serve, and what the kernel then holds."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import yaml

from kpx.cluster.objects import EndpointSlice, Service
from kpx.kernel.iptables.program import Iptables, Variant
from kpx.net import Family
from kpx.proxier.desired import DesiredState
from kpx.proxier.frontends import ServiceName
from kpx.proxier.ipvs.backend import IpvsBackend
from kpx.proxier.ipvs.settings import Settings
from kpx.proxier.node import LocalTraffic
from kpx.proxier.plan import Viewpoint
from tests.unit.proxier.objects import endpoint_slice, service

EXAMPLE = Path(__file__).parents[1] / "fixtures" / "ipvs-example"
NODE_IP = "198.51.100.7"

SETTINGS = {
    Family.IPV4: Settings(
        Family.IPV4, local_traffic=LocalTraffic("10.42.0.0/16"), node_ip=NODE_IP, node_ports=(NODE_IP,)
    ),
    Family.IPV6: Settings(
        Family.IPV6, local_traffic=LocalTraffic("fd00:42::/48"), node_ip="fd00:198::7", node_ports=("fd00:198::7",)
    ),
}


def run(command: str, stdin: str | None = None) -> str:
    """Run a program in the test's namespace and return what it printed."""
    done = subprocess.run(command.split(), input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def backend(family: Family = Family.IPV4, clock: Clock | None = None, **changes: Any) -> Iterator[IpvsBackend]:
    """A backend as a daemon that has just started has it."""
    settings = replace(SETTINGS[family], **changes)
    made = IpvsBackend(Iptables(family, Variant.LEGACY), settings, clock=clock or Clock())
    try:
        yield made
    finally:
        made.close()


def example() -> DesiredState:
    """The objects of the example."""
    desired = DesiredState(Family.IPV4, Viewpoint(node="n1"))
    for one in yaml.safe_load_all((EXAMPLE / "objects.yaml").read_text()):
        if one["kind"] == "Service":
            desired.tracker.apply_service(msgspec.convert(one, Service))
        else:
            desired.tracker.apply_slice(msgspec.convert(one, EndpointSlice))
    desired.take()
    return desired


def world() -> DesiredState:
    """An empty one, seen from node n1."""
    return DesiredState(Family.IPV4, Viewpoint(node="n1"))


def shop(desired: DesiredState, name: str = "web", *hosts: int, **spec: Any) -> None:
    """Bring or change a Service with endpoints 10.42.0.<host>; hosts below 3 are on this node."""
    number = sum(name.encode()) % 250
    desired.tracker.apply_service(service(f"shop/{name}", **{"clusterIP": f"10.96.0.{number}", **spec}))
    endpoints(desired, name, *hosts, protocol=spec.get("ports", [{}])[0].get("protocol", "TCP"))


def endpoints(desired: DesiredState, name: str, *hosts: int, protocol: str = "TCP") -> None:
    """The endpoints of a Service are these now."""
    addresses = (f"10.42.0.{host}@{'n1' if host < 3 else 'n2'}" for host in hosts)
    desired.tracker.apply_slice(endpoint_slice(f"shop/{name}", *addresses, of=name, protocol=protocol))


def remove(desired: DesiredState, name: str) -> None:
    """The Service is gone."""
    desired.tracker.remove_service(ServiceName("shop", name))


def servers() -> str:
    """What ``ipvsadm -Ln`` lists, without its head."""
    return "\n".join(run("ipvsadm -Ln").splitlines()[3:])


def grouped(text: str | None = None) -> dict[str, set[str]]:
    """The real servers of each virtual server: ``TCP 10.96.0.1:80 rr`` has ``-> 10.42.0.1:8080 Masq 1`` and so on."""
    found: dict[str, set[str]] = {}
    reals: set[str] = set()
    for line in (servers() if text is None else text).splitlines():
        words = line.split()
        if words[0] == "->":
            reals.add(" ".join(words[:4]))
        else:
            found[" ".join(words)] = reals = set()
    return found


def sets() -> dict[str, set[str]]:
    """The entries of every IP set, as the ipset program prints them."""
    found: dict[str, set[str]] = {}
    for block in run("ipset list").split("\n\n"):
        if block.strip():
            head, _, members = block.partition("Members:\n")
            found[head.splitlines()[0].removeprefix("Name: ")] = set(members.split())
    return found


def bound() -> set[str]:
    """The addresses on our device."""
    return {line.split()[3].partition("/")[0] for line in run("ip -o address show dev kube-ipvs0").splitlines()}


def saved(family: Family = Family.IPV4) -> list[str]:
    """The chains and rules of all tables, without counters."""
    lines = run("iptables-legacy-save" if family is Family.IPV4 else "ip6tables-legacy-save").splitlines()
    return [line.split(" [")[0] for line in lines if line[:1] in "*:-"]


def everything() -> dict[str, Any]:
    """All that the mode has in the kernel."""
    return {"servers": grouped(), "sets": sets(), "bound": bound(), "rules": saved()}
