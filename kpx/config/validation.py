"""Everything that is wrong with the values of a configuration, in kube-proxy 1.36's words and with its names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from kpx.config import gates
from kpx.config.addresses import is_port, split_host_port
from kpx.config.duration import Duration
from kpx.config.quantity import is_zero
from kpx.config.types import KubeProxyConfiguration
from kpx.net import canonical_ip, canonical_network, family_of

MODES = ("iptables", "ipvs", "nftables")
LOCAL_MODES = ("ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix", "")
PRIMARY = "primary"
PREVIOUS_RELEASE = "1.35"

_NOT_NEGATIVE = "must be greater than or equal to 0"
_POSITIVE = "must be greater than 0"
_CIDR = "must be a valid CIDR"
_MAX_VERBOSITY = (1 << 31) - 1


def violations(config: KubeProxyConfiguration) -> list[str]:
    """What kube-proxy refuses in a configuration that has its defaults; empty if there is nothing."""
    checks = (_mode_section, _conntrack, _mode, _periods, _servers, _node_ports, _local_traffic, _logging)
    return [f"{config.kind}.{violation}" for check in checks for violation in check(config)]


def aggregate(violations: Iterable[str]) -> str:
    """Several messages as one, as Kubernetes joins them: repeated ones once, in brackets if more than one is left."""
    distinct = list(dict.fromkeys(violations))
    return distinct[0] if len(distinct) == 1 else f"[{', '.join(distinct)}]"


def _invalid(name: str, value: object, why: str) -> str:
    return f"{name}: Invalid value: {_shown(value)}: {why}"


def _shown(value: object) -> str:
    return json.dumps(str(value) if isinstance(value, Duration) else value, ensure_ascii=False, separators=(",", ":"))


def _within(name: str, value: int, lowest: int, highest: int) -> Iterator[str]:
    if not lowest <= value <= highest:
        yield _invalid(name, value, f"must be within the range [{lowest}, {highest}]")


def _not_negative(section: str, values: Mapping[str, int | Duration]) -> Iterator[str]:
    for name, value in values.items():
        if (value.nanoseconds if isinstance(value, Duration) else value) < 0:
            yield _invalid(f"{section}.{name}", value, _NOT_NEGATIVE)


def _mode_section(config: KubeProxyConfiguration) -> Iterator[str]:
    yield from _within("KubeProxyIPTablesConfiguration.MasqueradeBit", config.iptables.masquerade_bit, 0, 31)
    if config.mode == "nftables":
        yield from _within("KubeProxyNFTablesConfiguration.MasqueradeBit", config.nftables.masquerade_bit, 0, 31)
    if config.mode == "ipvs":
        ipvs, section = config.ipvs, "KubeProxyIPVSConfiguration"
        timeouts = {
            "TCPTimeout": ipvs.tcp_timeout,
            "TCPFinTimeout": ipvs.tcp_fin_timeout,
            "UDPTimeout": ipvs.udp_timeout,
        }
        yield from _not_negative(section, timeouts)
        for index, cidr in enumerate(ipvs.exclude_cidrs):
            if canonical_network(cidr) is None:
                yield _invalid(f"{section}.ExcludeCidrs[{index}]", cidr, _CIDR)


def _conntrack(config: KubeProxyConfiguration) -> Iterator[str]:
    conntrack = config.conntrack
    limits: Mapping[str, int | Duration] = {
        "MaxPerCore": conntrack.max_per_core,
        "Min": conntrack.min,
        "TCPEstablishedTimeout": conntrack.tcp_established_timeout,
        "TCPCloseWaitTimeout": conntrack.tcp_close_wait_timeout,
        "UDPTimeout": conntrack.udp_timeout,
        "UDPStreamTimeout": conntrack.udp_stream_timeout,
    }
    yield from _not_negative("KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration", limits)
    yield from _within("KubeProxyLinuxConfiguration.OOMScoreAdj", config.oom_score_adj, -1000, 1000)


def _mode(config: KubeProxyConfiguration) -> Iterator[str]:
    if config.mode and config.mode not in MODES:
        why = f"must be {', '.join(MODES)} or blank (blank means the best-available proxy [currently iptables])"
        yield _invalid("Mode.ProxyMode", config.mode, why)
    yield from _not_negative("ClientConnection", {"Burst": config.client_connection.burst})


def _periods(config: KubeProxyConfiguration) -> Iterator[str]:
    if config.config_sync_period <= Duration():
        yield _invalid("ConfigSyncPeriod", config.config_sync_period, _POSITIVE)
    if config.sync_period <= Duration():
        yield _invalid("SyncPeriod", config.sync_period, _POSITIVE)
    if config.min_sync_period < Duration():
        yield _invalid("MinSyncPeriod", config.min_sync_period, _NOT_NEGATIVE)
    if config.min_sync_period > config.sync_period:
        why = f"must be greater than or equal to {config.kind}.MinSyncPeriod"
        yield _invalid("SyncPeriod", config.min_sync_period, why)


def _servers(config: KubeProxyConfiguration) -> Iterator[str]:
    if canonical_ip(config.bind_address) is None:
        why = "not a valid textual representation of an IP address"
        yield _invalid("BindAddress", config.bind_address, why)
    if config.healthz_bind_address:
        yield from _server("HealthzBindAddress", config.healthz_bind_address)
    yield from _server("MetricsBindAddress", config.metrics_bind_address)


def _server(name: str, address: str) -> Iterator[str]:
    try:
        host, port = split_host_port(address)
    except ValueError:
        yield _invalid(name, address, "must be IP:port")
        return
    if canonical_ip(host) is None:
        yield _invalid(name, host, "must be a valid IP")
    if not is_port(port):
        yield _invalid(name, port, "must be a valid port")


def _node_ports(config: KubeProxyConfiguration) -> Iterator[str]:
    for index, address in enumerate(config.node_port_addresses):
        if address == PRIMARY:
            if len(config.node_port_addresses) > 1:
                yield _invalid(f"NodePortAddresses[{index}]", address, "can't use both 'primary' and CIDRs")
            break
        if canonical_network(address) is None:
            yield _invalid(f"NodePortAddresses[{index}]", address, _CIDR)
    hidden = config.show_hidden_metrics_for_version
    if hidden not in ("", PREVIOUS_RELEASE):
        why = f"must be omitted or have the value '{PREVIOUS_RELEASE}'; only the previous minor version is allowed"
        yield _invalid("ShowHiddenMetricsForVersion", hidden, why)


def _local_traffic(config: KubeProxyConfiguration) -> Iterator[str]:
    mode, detect = config.detect_local_mode, config.detect_local
    if mode not in LOCAL_MODES:
        supported = ", ".join(map(_shown, LOCAL_MODES))
        yield f"DetectLocalMode: Unsupported value: {_shown(mode)}: supported values: {supported}"
    if mode == "BridgeInterface" and not detect.bridge_interface:
        yield _invalid("DetectLocalConfiguration.InterfaceName", "", "must not be empty")
    if mode == "InterfaceNamePrefix" and not detect.interface_name_prefix:
        yield _invalid("DetectLocalConfiguration.InterfacePrefix", "", "must not be empty")
    if mode == "ClusterCIDR":
        yield from _cluster_cidrs(config.cluster_cidrs)


def _cluster_cidrs(cidrs: tuple[str, ...]) -> Iterator[str]:
    name = "DetectLocalConfiguration.ClusterCIDRs"
    networks = [canonical_network(cidr) for cidr in cidrs]
    families = {family_of(network) for network in networks if network}
    if len(cidrs) > 2 or (all(networks) and len(families) < len(networks)):
        yield _invalid(name, cidrs, "must be a single CIDR, or two CIDRs of different IP families")
        return
    for index, cidr in enumerate(cidrs):
        if networks[index] is None:
            yield _invalid(f"{name}[{index}]", cidr, _CIDR)


def _logging(config: KubeProxyConfiguration) -> Iterator[str]:
    logging, feature_gates = config.logging, config.feature_gates
    if logging.format not in ("text", "json"):
        yield _invalid("logging.format", logging.format, "Unsupported log format")
    if logging.format == "json" and not gates.enabled(feature_gates, "LoggingBetaOptions"):
        yield "logging.format: Forbidden: Log format json is disabled, see LoggingBetaOptions feature"
    if logging.format != "text" and logging.vmodule:
        yield "logging.vmodule: Forbidden: Only supported for text log format"
    if logging.verbosity > _MAX_VERBOSITY:
        yield _invalid("logging.verbosity", logging.verbosity, f"Must be <= {_MAX_VERBOSITY}")
    if gates.enabled(feature_gates, "LoggingAlphaOptions"):
        return
    for name, options in (("text", logging.options.text), ("json", logging.options.json)):
        if options.split_stream:
            yield f"logging.options.{name}.splitStream: Forbidden: Feature LoggingAlphaOptions is disabled"
        if not is_zero(options.info_buffer_size):
            yield f"logging.options.{name}.infoBufferSize: Forbidden: Feature LoggingAlphaOptions is disabled"
