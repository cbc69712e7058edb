"""From the command line to the configuration that holds: file or flags, defaults, platform, validation."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from kpx.config import gates
from kpx.config.addresses import HEALTHZ_PORT, METRICS_PORT, default_servers, with_port
from kpx.config.arguments import Arguments, notices
from kpx.config.duration import Duration
from kpx.config.errors import ConfigError
from kpx.config.fields import unused_fields
from kpx.config.flags import FLAGS
from kpx.config.loading import load
from kpx.config.schema import Settings, build
from kpx.config.types import KubeProxyConfiguration
from kpx.config.validation import PRIMARY, aggregate, violations
from kpx.config.values import joined

_IDLE = {"sync_period": Duration(), "min_sync_period": Duration()}
_NFTABLES_FLAGS = ("syncPeriod", "minSyncPeriod", "masqueradeAll")


def effective_configuration(arguments: Arguments) -> tuple[KubeProxyConfiguration, list[str]]:
    """The configuration that holds, and what is to be warned about.

    With ``--config`` the file counts, and of the flags only ``--hostname-override`` and the logging flags; else the
    flags count. ConfigError, with the whole message, if there is a fault.
    """
    try:
        settings, warnings = _from_file(arguments.config, arguments) if arguments.config else _from_flags(arguments)
        override = _hostname_override(arguments)
    except ConfigError as error:
        raise ConfigError(f"failed complete: {error}") from error
    config = completed(build(settings | override))
    if faults := gates.locked(config.feature_gates):
        raise ConfigError(f"failed complete: {aggregate(faults)}")
    if faults := violations(config):
        raise ConfigError(f"failed validate: {aggregate(faults)}")
    unused = [f"{path} is accepted, but not used: {why}" for path, why in unused_fields(settings)]
    return config, [*warnings, *notices(arguments), *gates.unknown(config.feature_gates), *unused]


def _from_file(path: Path, arguments: Arguments) -> tuple[Settings, list[str]]:
    settings, warnings = load(path)
    healthz, metrics = default_servers(str(settings.get("bindAddress", "")))
    settings["healthzBindAddress"] = with_port(str(settings.get("healthzBindAddress", healthz)), HEALTHZ_PORT)
    settings["metricsBindAddress"] = with_port(str(settings.get("metricsBindAddress", metrics)), METRICS_PORT)
    logging = {path: value for path, value in _given(arguments).items() if path.startswith("logging.")}
    vmodule = "logging.vmodule"
    if vmodule in logging and vmodule in settings:
        logging[vmodule] = joined(logging[vmodule], settings[vmodule])
    return settings | logging, warnings


def _from_flags(arguments: Arguments) -> tuple[Settings, list[str]]:
    settings = _given(arguments)
    mode = settings.get("mode")
    if mode == "nftables":  # the flags of iptables set the section of nftables too: it has none of its own
        for name in _NFTABLES_FLAGS:
            if f"iptables.{name}" in settings:
                settings[f"nftables.{name}"] = settings.pop(f"iptables.{name}")
    elif mode == "ipvs":  # the flag's default differs from the field's
        settings.setdefault("ipvs.minSyncPeriod", Duration.parse(FLAGS["ipvs-min-sync-period"].default))
    for server in ("healthz", "metrics"):
        address = FLAGS[f"{server}-bind-address"]
        port = int(str(arguments.values.get(f"{server}-port", FLAGS[f"{server}-port"].default)))
        given = str(settings.get(address.path, address.default))
        settings[address.path] = with_port(given, port) if port else ""
    return settings, []


def _given(arguments: Arguments) -> Settings:
    """The settings that the given flags make. An empty text stands for the default."""
    given = ((FLAGS[name].path, value) for name, value in arguments.values.items())
    return {path: value for path, value in given if path and value != ""}


def _hostname_override(arguments: Arguments) -> Settings:
    """The setting of ``--hostname-override``, which wins over the file."""
    override = arguments.values.get("hostname-override")
    if not override:
        return {}
    name = str(override).strip().lower()
    if not name:
        raise ConfigError("empty hostname-override is invalid")
    return {"hostnameOverride": name}


def completed(config: KubeProxyConfiguration) -> KubeProxyConfiguration:
    """The platform's defaults filled in, and what belongs to other modes cleared, as kube-proxy shows it."""
    mode = config.mode or "iptables"
    active = mode if mode in ("ipvs", "nftables") else "iptables"
    iptables, ipvs, nftables = config.iptables, config.ipvs, config.nftables
    if active != "iptables":
        iptables = replace(iptables, **_IDLE)
    if active != "ipvs":
        ipvs = replace(ipvs, **_IDLE)
    if active != "nftables":
        nftables = replace(nftables, masquerade_all=False, **_IDLE)
    else:
        iptables = replace(iptables, masquerade_all=False)
    return replace(
        config,
        mode=mode,
        detect_local_mode=config.detect_local_mode or "ClusterCIDR",
        node_port_addresses=config.node_port_addresses or ((PRIMARY,) if active == "nftables" else ()),
        iptables=iptables,
        ipvs=ipvs,
        nftables=nftables,
    )
