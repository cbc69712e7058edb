"""What each field of the configuration does in kpx, and which ones it accepts without using them.

The flag help and docs/configuration.md are made of these texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kpx.config.schema import leaves


@dataclass(frozen=True, slots=True)
class Field:
    """A field in words.

    ``unused`` is empty for a field that kpx uses, else the reason why not, and ``harmless`` are the values at which
    that makes no difference, if it is not the default. ``default`` says what the static default does not.
    """

    text: str
    unused: str = ""
    harmless: tuple[object, ...] = ()
    default: str = ""


_WINDOWS = "it is for Windows nodes"
_READS_JSON = "kpx reads the API's objects as JSON"
_UNBUFFERED = "kpx writes each log line at once, to standard error"
_SYNC = "How soon a failed sync is tried again, and how often the rules in the kernel are checked. More than 0."
_MIN_SYNC = "Wait at least this long between two syncs; changes that come meanwhile are taken together."
_MARK = 'The bit (0-31) of the packet mark that stands for "masquerade this"'
_MASQUERADE_ALL = "SNAT all traffic to cluster IPs, whoever sends it"
_GO_FILES = "its patterns name source files of kube-proxy; use `logging.verbosity`"

FIELDS: Mapping[str, Field] = {
    "apiVersion": Field("Required, and no other version exists."),
    "kind": Field("Required."),
    "featureGates": Field("Feature gates by name. Those that kpx obeys are listed below."),
    "clientConnection.kubeconfig": Field(
        "The kubeconfig file. Without it and without `--master`, the pod's service account is used."
    ),
    "clientConnection.acceptContentTypes": Field("Accept header of API requests.", _READS_JSON),
    "clientConnection.contentType": Field("Content type of API requests.", _READS_JSON, ("application/json",)),
    "clientConnection.qps": Field("API requests a second, in the long run."),
    "clientConnection.burst": Field("API requests that may follow each other at once."),
    "logging.format": Field("Form of the log lines: `text` or `json`."),
    "logging.flushFrequency": Field("How long log lines may stay in a buffer.", _UNBUFFERED),
    "logging.verbosity": Field("How much is logged: 0 for what matters, 4 for debugging, up to 10."),
    "logging.vmodule": Field("Verbosity by source file.", _GO_FILES),
    "logging.options.text.splitStream": Field("Errors and notices in different streams.", _UNBUFFERED),
    "logging.options.text.infoBufferSize": Field("Buffer size of the notices' stream.", _UNBUFFERED),
    "logging.options.json.splitStream": Field("Errors and notices in different streams.", _UNBUFFERED),
    "logging.options.json.infoBufferSize": Field("Buffer size of the notices' stream.", _UNBUFFERED),
    "hostnameOverride": Field("Name of this node's Node object, where it differs from the host name."),
    "bindAddress": Field(
        "What the node's primary IP is taken to be, unless it is `0.0.0.0` or `::`. Nothing is bound to it."
    ),
    "healthzBindAddress": Field(
        "IP, or IP and port, of the health server.", default="`0.0.0.0:10256`, `[::]:10256` if bindAddress is IPv6"
    ),
    "metricsBindAddress": Field(
        "IP, or IP and port, of the metrics server.", default="`127.0.0.1:10249`, `[::1]:10249` if bindAddress is IPv6"
    ),
    "bindAddressHardFail": Field("End the process if one of the two servers cannot bind, in place of trying again."),
    "enableProfiling": Field("Serve the debugging pages of the metrics server."),
    "showHiddenMetricsForVersion": Field("Show metrics that the release before hid.", "kpx hides no metrics"),
    "mode": Field("`iptables`, `ipvs` or `nftables`. There is no fallback from one to another.", default="`iptables`"),
    "iptables.masqueradeBit": Field(f"{_MARK}; for iptables and ipvs."),
    "iptables.masqueradeAll": Field(f"{_MASQUERADE_ALL}; for iptables and ipvs."),
    "iptables.localhostNodePorts": Field("Answer IPv4 node ports on 127.0.0.1 too; for iptables."),
    "iptables.syncPeriod": Field(_SYNC),
    "iptables.minSyncPeriod": Field(_MIN_SYNC),
    "ipvs.syncPeriod": Field(_SYNC),
    "ipvs.minSyncPeriod": Field(_MIN_SYNC),
    "ipvs.scheduler": Field("IPVS scheduler, for example `rr`, `lc`, `sh`.", default="`rr`"),
    "ipvs.excludeCIDRs": Field("Virtual servers in these networks are never cleaned up."),
    "ipvs.strictARP": Field("Set arp_ignore to 1 and arp_announce to 2, as MetalLB and kube-vip need it."),
    "ipvs.tcpTimeout": Field("IPVS timeout of idle TCP connections; 0s leaves the kernel's."),
    "ipvs.tcpFinTimeout": Field("IPVS timeout of TCP connections after a FIN; 0s leaves the kernel's."),
    "ipvs.udpTimeout": Field("IPVS timeout of UDP flows; 0s leaves the kernel's."),
    "nftables.masqueradeBit": Field(f"{_MARK}; for nftables."),
    "nftables.masqueradeAll": Field(f"{_MASQUERADE_ALL}; for nftables."),
    "nftables.syncPeriod": Field(_SYNC),
    "nftables.minSyncPeriod": Field(_MIN_SYNC),
    "winkernel.networkName": Field("Network of the pods.", _WINDOWS),
    "winkernel.sourceVip": Field("Source address of load-balanced traffic.", _WINDOWS),
    "winkernel.enableDSR": Field("Direct server return.", _WINDOWS),
    "winkernel.rootHnsEndpointName": Field("Endpoint of the host.", _WINDOWS),
    "winkernel.forwardHealthCheckVip": Field("Forward health checks to the virtual address.", _WINDOWS),
    "detectLocalMode": Field(
        "How traffic of this node's pods is told from other traffic: `ClusterCIDR`, `NodeCIDR`, `BridgeInterface`, "
        "`InterfaceNamePrefix`.",
        default="`ClusterCIDR`",
    ),
    "detectLocal.bridgeInterface": Field("The pods' bridge, for BridgeInterface."),
    "detectLocal.interfaceNamePrefix": Field("How names of the pods' interfaces begin, for InterfaceNamePrefix."),
    "clusterCIDR": Field("Network of the pods, or one of each IP family with a comma between; for ClusterCIDR."),
    "nodePortAddresses": Field(
        "Node ports answer on the node's addresses in these networks, or with `primary` on its primary addresses. "
        "Empty: on all.",
        default="empty; `[primary]` in mode nftables",
    ),
    "oomScoreAdj": Field("oom_score_adj of the process, -1000 to 1000."),
    "conntrack.maxPerCore": Field("Room for this many tracked connections a CPU core; 0 leaves the kernel's limit."),
    "conntrack.min": Field("Room for at least this many tracked connections, unless maxPerCore is 0."),
    "conntrack.tcpEstablishedTimeout": Field("Timeout of idle established TCP connections; 0s leaves the kernel's."),
    "conntrack.tcpCloseWaitTimeout": Field("Timeout of TCP connections in CLOSE_WAIT; 0s leaves the kernel's."),
    "conntrack.tcpBeLiberal": Field("Do not call TCP segments out of the window invalid."),
    "conntrack.udpTimeout": Field("Timeout of UDP flows without an answer; 0s leaves the kernel's."),
    "conntrack.udpStreamTimeout": Field("Timeout of UDP flows with answers; 0s leaves the kernel's."),
    "configSyncPeriod": Field(
        "How often cached API objects are delivered again.", "kpx compares the kernel itself with what it should hold"
    ),
    "portRange": Field("Ports of the user-space proxy.", "that proxy no longer exists"),
    "windowsRunAsService": Field("Run as a Windows service.", _WINDOWS),
}


def unused_fields(settings: Mapping[str, object]) -> list[tuple[str, str]]:
    """The fields that were set to something that would matter, if kpx used them: their paths, and why it does not."""
    return [
        (path, field.unused)
        for path, field in FIELDS.items()
        if field.unused and path in settings and settings[path] not in (field.harmless or (leaves()[path].default,))
    ]
