"""Stock kube-proxy in mode ipvs on the node of a lab: what it holds for the example, with the lab's addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from kpx.lab import Lab
from tests.ipvs.worlds import EXAMPLE
from tests.packets.node import Node

WEB = ("10.96.12.34", 80)
GATEWAY = ("10.96.40.1", 443)
GATEWAY_VIP = ("192.0.2.10", 443)
GATEWAY_NODE_PORT = ("10.199.0.21", 31443)
REDIS = ("10.96.77.5", 6379)

# Where the example's nodes, pods and networks are in the lab. Its cluster IPs are the lab's too.
_MOVED = {
    "n1": "node-a",
    "n2": "node-b",
    "n3": "node-b",
    "10.42.1.11": "10.244.21.10",
    "10.42.2.12": "10.244.22.10",
    "10.42.1.21": "10.244.21.12",
    "10.42.3.22": "10.244.22.11",
    "10.42.1.31": "10.244.21.13",
    "10.42.2.32": "10.244.22.12",
    "10.42.3.33": "10.244.22.13",
    "10.42.0.0": "10.244.0.0",
    "198.51.100.7": "10.199.0.21",
    "198.51.100.0": "10.199.0.0",
    "192.0.2.0": "203.0.113.0",
    "203.0.113.80": "192.0.2.10",
}
_PLACES = re.compile(rf"(?<![\w.])({'|'.join(map(re.escape, _MOVED))})(?![\w.])")
_SYSCTLS = ("conntrack", "expire_nodest_conn", "expire_quiescent_template")


def _read(path: Path) -> str:
    return _PLACES.sub(lambda found: _MOVED[found[0]], path.read_text())


def stock_objects() -> list[dict[str, Any]]:
    """The objects of the example, and the node."""
    versions = {"EndpointSlice": "discovery.k8s.io/v1"}
    objects = list(yaml.safe_load_all(_read(EXAMPLE / "objects.yaml")))
    addresses = [{"type": "InternalIP", "address": "10.199.0.21"}]
    objects.append({"kind": "Node", "metadata": {"name": "node-a"}, "status": {"addresses": addresses}})
    return [{"apiVersion": versions.get(one["kind"], "v1"), **one} for one in objects]


# The one address of the node that the example has a node port on.
CONFIGURATION = {"nodePortAddresses": ["10.199.0.0/24"]}


class StockIpvs:
    """kube-proxy's writes, which are the same whatever was there before."""

    def __init__(self, lab: Lab) -> None:
        self._node = Node(lab)

    def sync(self) -> None:
        """Write all of it: sets and rules as they are, all else where it is missing."""
        run = self._node.run
        run("sysctl", "-qw", *(f"net.ipv4.vs.{name}=1" for name in _SYSCTLS))
        sets = _read(EXAMPLE / "ipset.txt")
        run("ipset", "-exist", "restore", stdin=sets)
        run("iptables-legacy-restore", "--noflush", "--counters", stdin=_read(EXAMPLE / "rules.txt"))
        run("iptables-legacy-restore", "--noflush", stdin="".join(self._missing_jumps()))
        device = "ip link show kube-ipvs0 >/dev/null 2>&1 || ip link add kube-ipvs0 type dummy"
        addresses = re.findall(r"^add KUBE-IPVS-IPS (\S+)$", sets, re.M)
        # `replace` leaves an address alone that is there.
        run("sh", "-ec", "\n".join([device, *(f"ip address replace {one}/32 dev kube-ipvs0" for one in addresses)]))
        held = self.virtual_servers()
        missing = [line for line in _virtual_servers(_read(EXAMPLE / "ipvsadm.txt")) if line not in held]
        if missing:
            run("ipvsadm", "-R", stdin="\n".join(missing) + "\n")

    def _missing_jumps(self) -> Iterator[str]:
        held = self._node.run("iptables-legacy-save").splitlines()
        for line in _read(EXAMPLE / "jumps.txt").splitlines(keepends=True):
            if not line.startswith("-I") or "-A" + line.rstrip()[2:] not in held:
                yield line

    def virtual_servers(self) -> list[str]:
        return [line.rstrip() for line in self._node.run("ipvsadm", "-Sn").splitlines()]


def _virtual_servers(listed: str) -> Iterator[str]:
    """What ``ipvsadm -Ln`` lists, as ``ipvsadm -Sn`` saves it."""
    virtual = ""
    for line in listed.splitlines():
        first, address, *more = line.split()
        if first == "->":
            yield f"-a -t {virtual} -r {address} -m -w {more[1]}"
        else:
            virtual = address
            yield f"-A -t {virtual} -s {more[0]}{f' -p {more[2]}' if more[1:] else ''}"
