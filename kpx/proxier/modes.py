"""The proxy modes, by the name that a configuration gives them."""

from __future__ import annotations

from collections.abc import Callable

from kpx.config.types import KubeProxyConfiguration
from kpx.proxier.iptables.mode import IptablesMode
from kpx.proxier.ipvs.mode import IpvsMode
from kpx.proxier.nftables.mode import NftablesMode
from kpx.proxier.site import Mode, ModeUnavailable

_MODES: dict[str, Callable[[KubeProxyConfiguration], Mode]] = {
    "": lambda _: IptablesMode(),
    "iptables": lambda _: IptablesMode(),
    "ipvs": lambda config: IpvsMode(config.ipvs.scheduler),
    "nftables": lambda _: NftablesMode(),
}


def mode_of(config: KubeProxyConfiguration) -> Mode:
    """The mode of a configuration. Raises `ModeUnavailable`."""
    if config.mode not in _MODES:
        raise ModeUnavailable(f"mode {config.mode} is not one of iptables, ipvs, nftables")
    return _MODES[config.mode](config)
