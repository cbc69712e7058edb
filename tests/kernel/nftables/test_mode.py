"""Mode nftables as the daemon starts it: what it needs, and what it says where that is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kpx.kernel.nft import probe
from kpx.kernel.nft.objects import Chain, Hook, HookPoint
from kpx.kernel.nft.transaction import add
from kpx.lab import objects
from kpx.net import Family
from kpx.proxier.nftables import mode
from kpx.proxier.nftables.mode import NftablesMode
from kpx.proxier.site import ModeUnavailable
from tests.kernel.daemon.conftest import Daemons, Node, daemons, node
from tests.kernel.daemon.process import KPX, run
from tests.kernel.nftables.worlds import table

__all__ = ["daemons", "node"]

# What no kernel has: a chain of a type that does not exist.
UNHEARD_OF = probe.Feature("magic", "CONFIG_NFT_MAGIC", (add(Chain("odd", Hook("magic", HookPoint.INPUT, 0))),))


def test_both_families_are_served_where_the_kernel_can() -> None:
    assert NftablesMode().families() == list(Family)


def test_what_the_kernel_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mode, "check_features", lambda nft, family: probe.check_features(nft, family, [UNHEARD_OF]))

    with pytest.raises(ModeUnavailable, match=r"the kernel lacks magic in family ip \(CONFIG_NFT_MAGIC\).*iptables"):
        NftablesMode().families()


@pytest.mark.parametrize("way", ["flag", "file"])
def test_no_program_is_needed(way: str, node: Node, daemons: Daemons, tmp_path: Path) -> None:
    """Neither nft nor iptables: the path is empty."""
    mode, flags = ("nftables", ()) if way == "file" else ("iptables", ("--proxy-mode=nftables",))
    objects.write_configuration(node.config, objects.configuration(mode, {}))
    command = node.command if way == "file" else [*KPX, "daemon", "--manifests", str(node.manifests)]
    settings = (
        () if way == "file" else ("--hostname-override=node-a", "--conntrack-max-per-core=0", "--conntrack-min=0")
    )
    daemon = daemons.start("env", f"PATH={tmp_path}", *command, *flags, *settings).synced()

    assert daemon.get("/proxyMode").body == "nftables"
    assert table().elements["service-ips"]
    assert daemon.metric("kubeproxy_sync_proxy_rules_nftables_sync_failures_total") == 0
    assert not daemon.metrics("kubeproxy_sync_proxy_rules_iptables_total")
    assert daemon.end() == 143


def test_cleanup_needs_none_either(node: Node, daemons: Daemons, tmp_path: Path) -> None:
    objects.write_configuration(node.config, objects.configuration("nftables", {}))
    daemons.start(*node.command).synced().end()
    assert table().table is not None

    ended = run(*KPX, "cleanup", env={"PATH": str(tmp_path)})

    assert (ended.status, ended.stdout) == (0, "")
    assert not re.search("error|warning", ended.stderr, re.I)
    assert table().table is None
