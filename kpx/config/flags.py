"""Every flag of kube-proxy 1.36 on Linux, and kpx's own two, as one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kpx.config import values
from kpx.config.fields import FIELDS, Field


@dataclass(frozen=True, slots=True)
class ValueType:
    """A type of flag value.

    ``name`` stands for the value in the help; ``parse`` makes a value of a text (or raises ValueError), ``show`` a text
    of a value; ``bare`` is the text that the flag alone stands for, None if it needs one; ``merge`` joins the values of
    a flag that is given twice (the later one counts if there is none).
    """

    name: str
    parse: Callable[[str], object]
    show: Callable[[object], str] = str
    bare: str | None = None
    merge: Callable[[object, object], object] | None = None


_NOTHING = frozenset({"", "false", "[]", "0s", "0"})

BOOL = ValueType("", values.boolean, values.show_boolean, bare="true")
STRING = ValueType("string", str)
INT32 = ValueType("int32", values.int32)
UINT32 = ValueType("Level", values.uint32)
FLOAT = ValueType("float", values.number, values.show_number)
DURATION = ValueType("duration", values.duration)
LIST = ValueType("list", values.strings, values.show_strings, merge=values.joined)
GATES = ValueType("Name=true|false,...", values.gates, values.show_gates, merge=values.updated)
VMODULE = ValueType("pattern=N,...", values.vmodule, values.show_vmodule)
QUANTITY = ValueType("quantity", values.quantity)
IP = ValueType("IP", values.ip)
IP_PORT = ValueType("IP[:port]", values.ip_port)
VERSION = ValueType("", values.version, bare="true")


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag.

    ``default`` is the text of the value that it has when it is not given; ``path`` is the field of the configuration
    that it sets, if there is one; ``text`` is its help, the field's if empty. ``deprecated`` names the flag to use in
    its place, ``unused`` is why kpx has no use for it.
    """

    name: str
    type: ValueType
    default: str
    path: str = ""
    text: str = ""
    short: str = ""
    deprecated: str = ""
    unused: str = ""

    @property
    def help(self) -> str:
        """What the flag does, its default and what is special about it, as plain text."""
        field = FIELDS.get(self.path, Field(""))
        default = field.default if self.default in _NOTHING else self.default
        parts = [
            self.text or field.text,
            default and f"(default {default})",
            self.deprecated and f"Deprecated: use --{self.deprecated}.",
            (self.unused or field.unused) and f"No effect: {self.unused or field.unused}.",
        ]
        return " ".join(filter(None, parts)).replace("`", "")


_CONFIG = "The configuration file. Of other flags only this group, --hostname-override and the logging ones then count."
_MANIFESTS = "Take the API's objects from the YAML files in this folder, in place of an API server. (kpx only)"
_TAKE_OVER = "Start although a kube-proxy is alive on this node, and take its rules over. (kpx only)"
_LEFTOVER = "A leftover of kube-proxy's libraries."
_NOT_READ = "kpx does not read it"
_PERIOD = FIELDS["iptables.syncPeriod"].text + " For iptables and nftables."
_MIN_PERIOD = FIELDS["iptables.minSyncPeriod"].text + " For iptables and nftables."
_HEALTHZ_PORT = "Port of the health server if its address has none; 0: no health server."
_METRICS_PORT = "Port of the metrics server if its address has none."

_GENERAL = (
    Flag("config", STRING, "", text=_CONFIG),
    Flag("master", STRING, "", text="URL of the API server; overrides the one in the kubeconfig."),
    Flag("write-config-to", STRING, "", text="Write the effective configuration to this file and exit."),
    Flag("cleanup", BOOL, "false", text="Remove the rules of all modes and exit."),
    Flag("init-only", BOOL, "false", text="Do what needs more than CAP_NET_ADMIN and exit."),
    Flag("help", BOOL, "false", text="Print this and exit.", short="h"),
    Flag("version", VERSION, "false", text="Print the version and exit; --version=raw prints all there is to it."),
    Flag("manifests", STRING, "", text=_MANIFESTS),
    Flag("take-over", BOOL, "false", text=_TAKE_OVER),
)
_CLUSTER = (
    Flag("kubeconfig", STRING, "", "clientConnection.kubeconfig"),
    Flag("kube-api-content-type", STRING, "application/vnd.kubernetes.protobuf", "clientConnection.contentType"),
    Flag("kube-api-qps", FLOAT, "5", "clientConnection.qps"),
    Flag("kube-api-burst", INT32, "10", "clientConnection.burst"),
    Flag("config-sync-period", DURATION, "15m0s", "configSyncPeriod"),
    Flag("feature-gates", GATES, "", "featureGates", "Feature gates by name."),
)
_NODE = (
    Flag("hostname-override", STRING, "", "hostnameOverride"),
    Flag("bind-address", IP, "0.0.0.0", "bindAddress"),
    Flag("cluster-cidr", STRING, "", "clusterCIDR"),
    Flag("detect-local-mode", STRING, "", "detectLocalMode"),
    Flag("pod-bridge-interface", STRING, "", "detectLocal.bridgeInterface"),
    Flag("pod-interface-name-prefix", STRING, "", "detectLocal.interfaceNamePrefix"),
    Flag("nodeport-addresses", LIST, "[]", "nodePortAddresses"),
    Flag("oom-score-adj", INT32, "-999", "oomScoreAdj"),
)
_RULES = (
    Flag("proxy-mode", STRING, "", "mode"),
    Flag("masquerade-all", BOOL, "false", "iptables.masqueradeAll", "SNAT all traffic to cluster IPs; for every mode."),
    Flag("iptables-masquerade-bit", INT32, "14", "iptables.masqueradeBit"),
    Flag("iptables-localhost-nodeports", BOOL, "true", "iptables.localhostNodePorts"),
    Flag("iptables-sync-period", DURATION, "30s", "iptables.syncPeriod", _PERIOD),
    Flag("iptables-min-sync-period", DURATION, "1s", "iptables.minSyncPeriod", _MIN_PERIOD),
    Flag("ipvs-sync-period", DURATION, "30s", "ipvs.syncPeriod"),
    Flag("ipvs-min-sync-period", DURATION, "1s", "ipvs.minSyncPeriod"),
    Flag("ipvs-scheduler", STRING, "", "ipvs.scheduler"),
    Flag("ipvs-exclude-cidrs", LIST, "[]", "ipvs.excludeCIDRs"),
    Flag("ipvs-strict-arp", BOOL, "false", "ipvs.strictARP"),
    Flag("ipvs-tcp-timeout", DURATION, "0s", "ipvs.tcpTimeout"),
    Flag("ipvs-tcpfin-timeout", DURATION, "0s", "ipvs.tcpFinTimeout"),
    Flag("ipvs-udp-timeout", DURATION, "0s", "ipvs.udpTimeout"),
)
_CONNTRACK = (
    Flag("conntrack-max-per-core", INT32, "32768", "conntrack.maxPerCore"),
    Flag("conntrack-min", INT32, "131072", "conntrack.min"),
    Flag("conntrack-tcp-timeout-established", DURATION, "24h0m0s", "conntrack.tcpEstablishedTimeout"),
    Flag("conntrack-tcp-timeout-close-wait", DURATION, "1h0m0s", "conntrack.tcpCloseWaitTimeout"),
    Flag("conntrack-tcp-be-liberal", BOOL, "false", "conntrack.tcpBeLiberal"),
    Flag("conntrack-udp-timeout", DURATION, "0s", "conntrack.udpTimeout"),
    Flag("conntrack-udp-timeout-stream", DURATION, "0s", "conntrack.udpStreamTimeout"),
)
_SERVERS = (
    Flag("healthz-bind-address", IP_PORT, "0.0.0.0:10256", "healthzBindAddress"),
    Flag("metrics-bind-address", IP_PORT, "127.0.0.1:10249", "metricsBindAddress"),
    Flag("healthz-port", INT32, "10256", text=_HEALTHZ_PORT, deprecated="healthz-bind-address"),
    Flag("metrics-port", INT32, "10249", text=_METRICS_PORT, deprecated="metrics-bind-address"),
    Flag("bind-address-hard-fail", BOOL, "false", "bindAddressHardFail"),
    Flag("profiling", BOOL, "false", "enableProfiling"),
    Flag("show-hidden-metrics-for-version", STRING, "", "showHiddenMetricsForVersion"),
)
_LOGGING = (
    Flag("v", UINT32, "0", "logging.verbosity", short="v"),
    Flag("vmodule", VMODULE, "", "logging.vmodule"),
    Flag("logging-format", STRING, "text", "logging.format"),
    Flag("log-flush-frequency", DURATION, "5s", "logging.flushFrequency"),
    Flag("log-text-split-stream", BOOL, "false", "logging.options.text.splitStream"),
    Flag("log-text-info-buffer-size", QUANTITY, "0", "logging.options.text.infoBufferSize"),
    Flag("log-json-split-stream", BOOL, "false", "logging.options.json.splitStream"),
    Flag("log-json-info-buffer-size", QUANTITY, "0", "logging.options.json.infoBufferSize"),
)
_LEFTOVERS = (
    Flag("boot-id-file", STRING, "/proc/sys/kernel/random/boot_id", text=_LEFTOVER, unused=_NOT_READ),
    Flag("machine-id-file", STRING, "/etc/machine-id,/var/lib/dbus/machine-id", text=_LEFTOVER, unused=_NOT_READ),
)

GROUPS: Mapping[str, tuple[Flag, ...]] = {
    "General": _GENERAL,
    "Cluster": _CLUSTER,
    "Node": _NODE,
    "Rules": _RULES,
    "Connection tracking": _CONNTRACK,
    "Servers": _SERVERS,
    "Logging": _LOGGING,
    "Accepted, not used": _LEFTOVERS,
}
"""The flags as the help groups them."""

FLAGS: Mapping[str, Flag] = {flag.name: flag for group in GROUPS.values() for flag in group}
SHORT: Mapping[str, Flag] = {flag.short: flag for flag in FLAGS.values() if flag.short}
