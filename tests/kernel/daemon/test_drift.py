"""Others change our rules: it is noticed within seconds, mended, counted, and told with what was lost."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from kpx import lab
from kpx.kernel.iptables.program import Variant
from kpx.lab.topology import NODE
from tests.kernel.daemon.conftest import Daemons, Node, lab_of
from tests.kernel.daemon.process import Daemon, eventually
from tests.unit.cluster.objects import endpoint_slice, service

FAMILIES = {"IPv4": "iptables", "IPv6": "ip6tables"}


@dataclass
class Proxied:
    """A node whose rules a daemon watches."""

    lab: str
    node: Node
    daemon: Daemon
    variant: Variant
    wanted: dict[str, str]

    def run(self, *command: str) -> str:
        words = lab.command(self.lab, NODE, command)
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    def saved(self) -> dict[str, str]:
        """The rules of each family, in an order that does not depend on history."""
        texts = {family: self.run(f"{base}-{self.variant.value}-save") for family, base in FAMILIES.items()}
        return {
            family: "\n".join(sorted(line for line in text.splitlines() if line[:1] == "-"))
            for family, text in texts.items()
        }

    def found(self) -> dict[str, float]:
        series = self.daemon.metrics("kpx_drift_found_total")
        return {family: series.get(f'ip_family="{family}"', 0) for family in FAMILIES}

    def mends(
        self,
        *commands: str,
        families: tuple[str, ...] = ("IPv4", "IPv6"),
        then: Callable[[], object] = lambda: None,
    ) -> str:
        """Have others run commands; wait until all is as before, and was counted once. What was logged meanwhile."""
        before, repaired, logged = self.found(), self.daemon.metric("kpx_drift_repaired_total"), len(self.daemon.log)
        for command in commands:
            self.run(*command.split())
        then()
        eventually(self.found, lambda now: now == {f: n + (f in families) for f, n in before.items()}, "not noticed")
        assert self.saved() == self.wanted
        assert self.daemon.metric("kpx_drift_repaired_total") > repaired
        return self.daemon.log[logged:]


@pytest.fixture(scope="module", params=list(Variant))
def proxied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    variant: Variant = request.param
    node = Node(tmp_path_factory.mktemp("drift"))
    with lab_of() as place:
        hint = lab.command(place.name, NODE, [f"iptables-{variant.value}", "-t", "mangle", "-N", "KUBE-IPTABLES-HINT"])
        subprocess.run(hint, check=True)
        daemons = Daemons(node.folder)
        try:
            command = lab.command(place.name, NODE, [*node.command, "-v=2"])
            daemon = daemons.start(*command, namespace=place.namespace(NODE)).synced()
            made = Proxied(place.name, node, daemon, variant, {})
            made.wanted = made.saved()
            yield made
        finally:
            daemons.end()


def chain(rules: str, kind: str) -> str:
    found = re.search(rf"{kind}-[A-Z0-9]{{16}}", rules)
    assert found
    return found[0]


def test_chains_and_rules_are_lost(proxied: Proxied) -> None:
    flushed = chain(proxied.wanted["IPv4"], "KUBE-SVC")
    program, program6 = (f"{base}-{proxied.variant.value}" for base in FAMILIES.values())

    told = proxied.mends(
        f"{program} -t nat -F {flushed}", f"{program} -F FORWARD", f"{program6} -t nat -D KUBE-POSTROUTING 1"
    )

    assert f"IPv4 repaired: chain {flushed} had other rules" in told
    assert told.count("IPv4 repaired: rule was missing: -t filter -A FORWARD") == 4
    assert "IPv6 repaired: chain KUBE-POSTROUTING had other rules" in told
    if proxied.variant is Variant.NFT:
        by = rf"chain {flushed} in table nat lost a rule, by {program}\[\d+\]"
        assert re.search(rf"IPv4 rules were changed by somebody else: .*{by}", told)
    else:
        assert re.search(r"IPv4 rules were changed by somebody else: .*table nat went from \d+ to \d+ entries", told)


def test_everything_is_flushed(proxied: Proxied) -> None:
    nft = proxied.variant is Variant.NFT
    flush = ["nft flush ruleset"] if nft else [f"{base}-legacy -t nat -F" for base in FAMILIES.values()]

    told = proxied.mends(*flush)

    if nft:
        assert re.search(r"IPv4 rules were changed by .*, by nft\[\d+\]", told)
    for family in FAMILIES:
        assert f"{family} repaired: rule was missing: -t nat -A PREROUTING" in told
        assert re.search(rf"{family} repaired: and \d+ more", told)


def test_a_change_of_ours_meets_flushed_rules(proxied: Proxied) -> None:
    """What cannot be changed, because it is gone, is mended at once, not when a failed sync is tried again."""
    proxied.node.write("late.yaml", service("late", "10.96.100.77"), endpoint_slice("late", "10.244.21.10"))
    eventually(lambda: "10.96.100.77" in proxied.saved()["IPv4"])
    logged = len(proxied.daemon.log)

    remove = (proxied.node.manifests / "late.yaml").unlink
    proxied.mends(f"iptables-{proxied.variant.value} -t nat -F", families=("IPv4",), then=remove)

    assert "sync failed" not in proxied.daemon.log[logged:]
    assert proxied.daemon.metric("kubeproxy_sync_proxy_rules_iptables_restore_failures_total") == 0


def test_what_others_do_to_their_own_rules_is_no_drift(proxied: Proxied) -> None:
    before, logged = proxied.found(), len(proxied.daemon.log)
    program = f"iptables-{proxied.variant.value}"
    full = proxied.daemon.metric("kubeproxy_sync_full_proxy_rules_duration_seconds_count")
    theirs = [
        "-N OTHER",
        "-A OTHER -s 192.0.2.1 -j DROP",
        "-I INPUT -j OTHER",
        "-t nat -A POSTROUTING -s 192.0.2.1 -j RETURN",
        "-F OTHER",
        "-D INPUT -j OTHER",
        "-X OTHER",
        "-t nat -D POSTROUTING -s 192.0.2.1 -j RETURN",
    ]
    for words in theirs:
        proxied.run(program, *words.split())
    # Our own rules are looked at after that: the next thing that is noticed comes later.
    proxied.mends(f"{program} -t nat -F {chain(proxied.wanted['IPv4'], 'KUBE-SEP')}", families=("IPv4",))

    assert proxied.found() == {**before, "IPv4": before["IPv4"] + 1}
    assert proxied.daemon.log[logged:].count("repaired: ") == 1
    assert proxied.daemon.metric("kubeproxy_sync_full_proxy_rules_duration_seconds_count") <= full + 3
