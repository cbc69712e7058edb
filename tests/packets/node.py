"""The node under test: programs run in it, and its kernel put back to a blank state."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from kpx.lab import Lab, namespaces
from kpx.lab.state import State
from kpx.lab.topology import NODE
from kpx.net import Family

_BLANK = """*mangle
:PREROUTING ACCEPT
:INPUT ACCEPT
:FORWARD ACCEPT
:OUTPUT ACCEPT
:POSTROUTING ACCEPT
COMMIT
*filter
:INPUT ACCEPT
:FORWARD ACCEPT
:OUTPUT ACCEPT
COMMIT
*nat
:PREROUTING ACCEPT
:INPUT ACCEPT
:OUTPUT ACCEPT
:POSTROUTING ACCEPT
COMMIT
"""


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to program the kernel: the proxy's mode and, in iptables mode, the variant of its programs."""

    name: str
    mode: str
    flavour: str = "nft"

    def iptables(self, family: Family) -> str:
        """The name of the iptables program of this variant and family, such as ``ip6tables-legacy``."""
        return ("iptables-" if family is Family.IPV4 else "ip6tables-") + self.flavour


IPTABLES_NFT = Variant("iptables-nft", "iptables")
IPTABLES_LEGACY = Variant("iptables-legacy", "iptables", "legacy")
NFTABLES = Variant("nftables", "nftables")
IPVS = Variant("ipvs", "ipvs", "legacy")


@dataclass(frozen=True, slots=True)
class Node:
    """node-a of a lab."""

    lab: Lab

    @property
    def namespace(self) -> str:
        return self.lab.namespace(NODE)

    def run(self, *argv: str, stdin: str | None = None) -> str:
        """Run a program in the node and return what it printed. Raises AssertionError with its complaint."""
        # `kpx lab exec` would start six more processes, each of which takes 25 ms in a guest (tests/uml). As there, the
        # programs of the node share no lock with those of the host.
        environment = os.environ | {"XTABLES_LOCKFILE": str(State(self.lab.name).run / "xtables.lock")}
        with namespaces.entered(self.namespace):
            done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
        return done.stdout

    def blank(self, variant: Variant) -> None:
        """Leave no rule of any kind, no flow and no setting of an earlier scenario."""
        wipe = [
            "conntrack -F",
            "echo 0 >/proc/sys/net/ipv4/conf/all/route_localnet",
            "ip address flush dev lo scope global",
        ]
        if variant.flavour == "legacy":
            wipe += [f"{variant.iptables(family)}-restore <<'RULES'\n{_BLANK}RULES" for family in Family]
        if variant.mode == "ipvs":  # after the rules, which hold on to the sets
            wipe += [
                "ipvsadm -C",
                "[ ! -e /proc/sys/net/ipv4/conf/kube-ipvs0 ] || ip link delete kube-ipvs0",
                "ipset destroy",
            ]
        else:
            wipe += ["nft flush ruleset"]
        self.run("sh", "-ec", "\n".join(wipe))
