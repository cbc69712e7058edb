from __future__ import annotations

import pytest

from kpx.config.duration import Duration
from kpx.config.effective import completed
from kpx.config.schema import build
from kpx.config.validation import aggregate, violations

CONNTRACK = "KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration"
NEGATIVE = Duration.parse("-1s")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, []),
        ({"iptables.masqueradeBit": 32},
         ["KubeProxyIPTablesConfiguration.MasqueradeBit: Invalid value: 32: must be within the range [0, 31]"]),
        ({"mode": "nftables", "iptables.masqueradeBit": -1, "nftables.masqueradeBit": -1},
         ["KubeProxyIPTablesConfiguration.MasqueradeBit: Invalid value: -1: must be within the range [0, 31]",
          "KubeProxyNFTablesConfiguration.MasqueradeBit: Invalid value: -1: must be within the range [0, 31]"]),
        ({"nftables.masqueradeBit": 99, "ipvs.excludeCIDRs": ("x",), "ipvs.tcpTimeout": NEGATIVE}, []),
        ({"mode": "ipvs", "ipvs.excludeCIDRs": ("10.0.0.0/8", "10.0.0.1"), "ipvs.tcpTimeout": NEGATIVE},
         ['KubeProxyIPVSConfiguration.TCPTimeout: Invalid value: "-1s": must be greater than or equal to 0',
          'KubeProxyIPVSConfiguration.ExcludeCidrs[1]: Invalid value: "10.0.0.1": must be a valid CIDR']),
        ({"conntrack.maxPerCore": -1, "conntrack.udpStreamTimeout": NEGATIVE},
         [f"{CONNTRACK}.MaxPerCore: Invalid value: -1: must be greater than or equal to 0",
          f'{CONNTRACK}.UDPStreamTimeout: Invalid value: "-1s": must be greater than or equal to 0']),
        ({"oomScoreAdj": -1001},
         ["KubeProxyLinuxConfiguration.OOMScoreAdj: Invalid value: -1001: must be within the range [-1000, 1000]"]),
        ({"mode": "kernelspace"},
         ['Mode.ProxyMode: Invalid value: "kernelspace": must be iptables, ipvs, nftables or blank (blank means the '
          "best-available proxy [currently iptables])"]),
        ({"clientConnection.burst": -1},
         ["ClientConnection.Burst: Invalid value: -1: must be greater than or equal to 0"]),
        ({"configSyncPeriod": NEGATIVE}, ['ConfigSyncPeriod: Invalid value: "-1s": must be greater than 0']),
        ({"iptables.syncPeriod": NEGATIVE, "iptables.minSyncPeriod": NEGATIVE},
         ['SyncPeriod: Invalid value: "-1s": must be greater than 0',
          'MinSyncPeriod: Invalid value: "-1s": must be greater than or equal to 0']),
        ({"iptables.minSyncPeriod": Duration.parse("1m")},
         ['SyncPeriod: Invalid value: "1m0s": must be greater than or equal to KubeProxyConfiguration.MinSyncPeriod']),
        ({"mode": "nftables", "iptables.syncPeriod": NEGATIVE}, []),
        ({"bindAddress": "here"},
         ['BindAddress: Invalid value: "here": not a valid textual representation of an IP address']),
        ({"healthzBindAddress": ""}, []),
        ({"healthzBindAddress": "here", "metricsBindAddress": "here:99999"},
         ['HealthzBindAddress: Invalid value: "here": must be IP:port',
          'MetricsBindAddress: Invalid value: "here": must be a valid IP',
          'MetricsBindAddress: Invalid value: "99999": must be a valid port']),
        ({"metricsBindAddress": "1.2.3.4:0"}, ['MetricsBindAddress: Invalid value: "0": must be a valid port']),
        ({"nodePortAddresses": ("primary",)}, []),
        ({"nodePortAddresses": ("10.0.0.0/8", "fd00::/8")}, []),
        ({"nodePortAddresses": ("primary", "10.0.0.0/8")},
         ["NodePortAddresses[0]: Invalid value: \"primary\": can't use both 'primary' and CIDRs"]),
        ({"nodePortAddresses": ("10.0.0.1", "primary")},
         ['NodePortAddresses[0]: Invalid value: "10.0.0.1": must be a valid CIDR',
          "NodePortAddresses[1]: Invalid value: \"primary\": can't use both 'primary' and CIDRs"]),
        ({"showHiddenMetricsForVersion": "1.35"}, []),
        ({"showHiddenMetricsForVersion": "1.36"},
         ["ShowHiddenMetricsForVersion: Invalid value: \"1.36\": must be omitted or have the value '1.35'; only the "
          "previous minor version is allowed"]),
        ({"detectLocalMode": "Magic"},
         ['DetectLocalMode: Unsupported value: "Magic": supported values: "ClusterCIDR", "NodeCIDR", '
          '"BridgeInterface", "InterfaceNamePrefix", ""']),
        ({"detectLocalMode": "BridgeInterface"},
         ['DetectLocalConfiguration.InterfaceName: Invalid value: "": must not be empty']),
        ({"detectLocalMode": "InterfaceNamePrefix"},
         ['DetectLocalConfiguration.InterfacePrefix: Invalid value: "": must not be empty']),
        ({"detectLocalMode": "NodeCIDR", "clusterCIDR": "nonsense"}, []),
        ({"clusterCIDR": "fd00::/48,10.0.0.0/8"}, []),
        ({"clusterCIDR": "10.0.0.0/8,x"},
         ['DetectLocalConfiguration.ClusterCIDRs[1]: Invalid value: "x": must be a valid CIDR']),
        ({"clusterCIDR": "10.0.0.0/8,11.0.0.0/8"},
         ['DetectLocalConfiguration.ClusterCIDRs: Invalid value: ["10.0.0.0/8","11.0.0.0/8"]: must be a single CIDR, '
          "or two CIDRs of different IP families"]),
        ({"logging.format": "xml"}, ['logging.format: Invalid value: "xml": Unsupported log format']),
        ({"logging.format": "json"}, []),
        ({"logging.format": "json", "featureGates": {"AllBeta": False}},
         ["logging.format: Forbidden: Log format json is disabled, see LoggingBetaOptions feature"]),
        ({"logging.format": "json", "logging.vmodule": ("x",)},
         ["logging.vmodule: Forbidden: Only supported for text log format"]),
        ({"logging.verbosity": 1 << 31}, ["logging.verbosity: Invalid value: 2147483648: Must be <= 2147483647"]),
        ({"logging.options.text.splitStream": True, "logging.options.json.infoBufferSize": "1Ki"},
         ["logging.options.text.splitStream: Forbidden: Feature LoggingAlphaOptions is disabled",
          "logging.options.json.infoBufferSize: Forbidden: Feature LoggingAlphaOptions is disabled"]),
        ({"logging.options.text.splitStream": True, "featureGates": {"LoggingAlphaOptions": True}}, []),
        ({"logging.options.text.infoBufferSize": "0Ki"}, []),
    ],
)  # fmt: skip
def test_violations(settings: dict[str, object], expected: list[str]) -> None:
    found = violations(completed(build(settings)))
    assert found == [f"KubeProxyConfiguration.{message}" for message in expected]


def test_aggregate() -> None:
    assert aggregate(["a"]) == "a"
    assert aggregate(["a", "b", "a"]) == "[a, b]"
    assert aggregate(["a", "a"]) == "a"
