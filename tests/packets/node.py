"""The node under test: programs run in it, and its kernel put back to a blank state."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from kpx import lab
from kpx.lab import Lab
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


@dataclass(frozen=True, slots=True)
class Node:
    """node-a of a lab."""

    lab: Lab

    @property
    def namespace(self) -> str:
        return self.lab.namespace(NODE)

    def run(self, *argv: str, stdin: str | None = None) -> str:
        """Run a program in the node and return what it printed. Raises AssertionError with its complaint."""
        entering = lab.command(self.lab.name, NODE, argv)
        done = subprocess.run(entering, input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
        return done.stdout

    def blank(self, variant: Variant) -> None:
        """Leave no rule of any kind, no flow and no setting of an earlier scenario."""
        flush = [
            "nft flush ruleset",
            "conntrack -F",
            "sysctl -qw net.ipv4.conf.all.route_localnet=0",
            "ip address flush dev lo scope global",
        ]
        if variant.flavour == "legacy":
            flush += [f"echo '{_BLANK}' | {variant.iptables(family)}-restore" for family in Family]
        self.run("sh", "-ec", "\n".join(flush))
