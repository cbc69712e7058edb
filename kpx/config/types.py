"""KubeProxyConfiguration, ``kubeproxy.config.k8s.io/v1alpha1``, as kube-proxy 1.36 has it.

Every field is here, also those that kpx accepts and does not use (`kpx.config.fields` says which). The defaults are
kube-proxy's static ones. Attribute names are Python's; the API's names are the encoded ones.
"""

from __future__ import annotations

from typing import NewType

import msgspec

from kpx.config.duration import Duration

Int32 = NewType("Int32", int)
UInt32 = NewType("UInt32", int)
FlushFrequency = NewType("FlushFrequency", Duration)
"""A duration that may also be written as a bare number of nanoseconds."""
Quantity = NewType("Quantity", str)
"""A Kubernetes quantity (``0``, ``64Ki``), kept as its text."""
StringList = tuple[str, ...]

API_VERSION = "kubeproxy.config.k8s.io/v1alpha1"
KIND = "KubeProxyConfiguration"


class _Section(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of all structs here."""


class ClientConnection(_Section, frozen=True):
    kubeconfig: str = ""
    accept_content_types: str = ""
    content_type: str = "application/vnd.kubernetes.protobuf"
    qps: float = 5.0
    burst: Int32 = Int32(10)


class OutputRouting(_Section, frozen=True):
    split_stream: bool = False
    info_buffer_size: Quantity = Quantity("0")


class LoggingOptions(_Section, frozen=True):
    text: OutputRouting = OutputRouting()
    json: OutputRouting = OutputRouting()


class VModuleItem(_Section, frozen=True):
    """The verbosity of the source files whose base name matches a pattern."""

    file_pattern: str
    verbosity: UInt32


VModule = tuple[VModuleItem, ...]


class Logging(_Section, frozen=True):
    format: str = "text"
    flush_frequency: FlushFrequency = FlushFrequency(Duration.parse("5s"))
    verbosity: UInt32 = UInt32(0)
    vmodule: VModule = ()
    options: LoggingOptions = LoggingOptions()


class IPTables(_Section, frozen=True):
    masquerade_bit: Int32 = Int32(14)
    masquerade_all: bool = False
    localhost_node_ports: bool = True
    sync_period: Duration = Duration.parse("30s")
    min_sync_period: Duration = Duration.parse("1s")


class IPVS(_Section, frozen=True):
    sync_period: Duration = Duration.parse("30s")
    min_sync_period: Duration = Duration()
    scheduler: str = ""
    exclude_cidrs: StringList = msgspec.field(default=(), name="excludeCIDRs")
    strict_arp: bool = msgspec.field(default=False, name="strictARP")
    tcp_timeout: Duration = Duration()
    tcp_fin_timeout: Duration = Duration()
    udp_timeout: Duration = Duration()


class NFTables(_Section, frozen=True):
    masquerade_bit: Int32 = Int32(14)
    masquerade_all: bool = False
    sync_period: Duration = Duration.parse("30s")
    min_sync_period: Duration = Duration.parse("1s")


class Winkernel(_Section, frozen=True):
    network_name: str = ""
    source_vip: str = ""
    enable_dsr: bool = msgspec.field(default=False, name="enableDSR")
    root_hns_endpoint_name: str = ""
    forward_health_check_vip: bool = False


class DetectLocal(_Section, frozen=True):
    bridge_interface: str = ""
    interface_name_prefix: str = ""


class Conntrack(_Section, frozen=True):
    max_per_core: Int32 = Int32(32768)
    min: Int32 = Int32(131072)
    tcp_established_timeout: Duration = Duration.parse("24h")
    tcp_close_wait_timeout: Duration = Duration.parse("1h")
    tcp_be_liberal: bool = False
    udp_timeout: Duration = Duration()
    udp_stream_timeout: Duration = Duration()


class KubeProxyConfiguration(_Section, frozen=True):
    """The whole configuration. The properties give what holds in the mode that is set."""

    api_version: str = API_VERSION
    kind: str = KIND
    feature_gates: dict[str, bool] = {}
    client_connection: ClientConnection = ClientConnection()
    logging: Logging = Logging()
    hostname_override: str = ""
    bind_address: str = "0.0.0.0"
    healthz_bind_address: str = "0.0.0.0:10256"
    metrics_bind_address: str = "127.0.0.1:10249"
    bind_address_hard_fail: bool = False
    enable_profiling: bool = False
    show_hidden_metrics_for_version: str = ""
    mode: str = ""
    iptables: IPTables = IPTables()
    ipvs: IPVS = IPVS()
    nftables: NFTables = NFTables()
    winkernel: Winkernel = Winkernel()
    detect_local_mode: str = ""
    detect_local: DetectLocal = DetectLocal()
    cluster_cidr: str = msgspec.field(default="", name="clusterCIDR")
    node_port_addresses: StringList = ()
    oom_score_adj: Int32 = Int32(-999)
    conntrack: Conntrack = Conntrack()
    config_sync_period: Duration = Duration.parse("15m")
    port_range: str = ""
    windows_run_as_service: bool = False

    @property
    def sync_period(self) -> Duration:
        return self._active.sync_period

    @property
    def min_sync_period(self) -> Duration:
        return self._active.min_sync_period

    @property
    def masquerade_all(self) -> bool:
        """SNAT all traffic to cluster IPs; mode ipvs takes it from the section ``iptables``, as kube-proxy does."""
        return self._marking.masquerade_all

    @property
    def masquerade_bit(self) -> int:
        """The bit of the packet mark (0-31); mode ipvs takes it from the section ``iptables``, as kube-proxy does."""
        return self._marking.masquerade_bit

    @property
    def cluster_cidrs(self) -> tuple[str, ...]:
        """``clusterCIDR``, which is one text with commas, as a list."""
        return tuple(self.cluster_cidr.split(",")) if self.cluster_cidr else ()

    @property
    def _active(self) -> IPTables | IPVS | NFTables:
        return self.ipvs if self.mode == "ipvs" else self._marking

    @property
    def _marking(self) -> IPTables | NFTables:
        return self.nftables if self.mode == "nftables" else self.iptables
