from __future__ import annotations

from pathlib import Path

import pytest

from kpx.config.arguments import parse_arguments
from kpx.config.duration import Duration
from kpx.config.effective import effective_configuration
from kpx.config.errors import ConfigError
from kpx.config.types import KubeProxyConfiguration

HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
ZERO, SECOND, HALF_MINUTE = Duration(), Duration.parse("1s"), Duration.parse("30s")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def with_flags(*words: str) -> KubeProxyConfiguration:
    config, warnings = effective_configuration(parse_arguments(words))
    assert warnings == []
    return config


def with_file(file: Path, text: str, *words: str) -> KubeProxyConfiguration:
    file.write_text(HEAD + text)
    config, warnings = effective_configuration(parse_arguments(["--config", str(file), *words]))
    assert warnings == []
    return config


def failure(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        effective_configuration(parse_arguments(words))
    return str(caught.value)


def warnings_of(*words: str) -> list[str]:
    return effective_configuration(parse_arguments(words))[1]


def test_platform_defaults() -> None:
    config = with_flags()
    assert (config.mode, config.detect_local_mode, config.node_port_addresses) == ("iptables", "ClusterCIDR", ())
    assert with_flags("--proxy-mode=nftables").node_port_addresses == ("primary",)
    assert with_flags("--proxy-mode=nftables", "--nodeport-addresses=10.0.0.0/8").node_port_addresses == ("10.0.0.0/8",)


@pytest.mark.parametrize(
    ("words", "sync", "min_sync"),
    [
        ("", "30s", "1s"),
        ("--iptables-sync-period=10s --iptables-min-sync-period=0", "10s", "0s"),
        ("--ipvs-sync-period=10s --ipvs-min-sync-period=2s", "30s", "1s"),
        ("--proxy-mode=nftables --iptables-sync-period=10s --iptables-min-sync-period=0s", "10s", "0s"),
        ("--proxy-mode=ipvs", "30s", "1s"),
        ("--proxy-mode=ipvs --iptables-sync-period=10s --iptables-min-sync-period=2s", "30s", "1s"),
        ("--proxy-mode=ipvs --ipvs-sync-period=10s --ipvs-min-sync-period=0s", "10s", "0s"),
    ],
)
def test_sync_periods_by_flags(words: str, sync: str, min_sync: str) -> None:
    config = with_flags(*words.split())
    assert (config.sync_period, config.min_sync_period) == (Duration.parse(sync), Duration.parse(min_sync))


@pytest.mark.parametrize(("mode", "min_sync"), [("iptables", "1s"), ("ipvs", "0s"), ("nftables", "1s")])
def test_sync_periods_by_file(file: Path, mode: str, min_sync: str) -> None:
    config = with_file(file, f"mode: {mode}\n{mode}: {{minSyncPeriod: 0s, syncPeriod: 0s}}")
    assert (config.sync_period, config.min_sync_period) == (HALF_MINUTE, Duration.parse(min_sync))


def test_idle_sections_are_cleared(file: Path) -> None:
    text = """\
mode: nftables
iptables: {syncPeriod: 5s, minSyncPeriod: 5s, masqueradeAll: true, masqueradeBit: 3}
ipvs: {syncPeriod: 5s, minSyncPeriod: 5s, scheduler: lc}
nftables: {syncPeriod: 7s, minSyncPeriod: 2s, masqueradeAll: true, masqueradeBit: 4}
"""
    config = with_file(file, text)
    assert (config.iptables.sync_period, config.iptables.min_sync_period) == (ZERO, ZERO)
    assert (config.ipvs.sync_period, config.ipvs.min_sync_period, config.ipvs.scheduler) == (ZERO, ZERO, "lc")
    assert (config.sync_period, config.masquerade_all, config.masquerade_bit) == (Duration.parse("7s"), True, 4)
    assert config.iptables.masquerade_all is False
    config = with_file(file, text.replace("mode: nftables", "mode: ipvs"))
    assert (config.sync_period, config.masquerade_all, config.masquerade_bit) == (Duration.parse("5s"), True, 3)
    assert (config.nftables.sync_period, config.nftables.masquerade_all) == (ZERO, False)


@pytest.mark.parametrize("mode", ["iptables", "ipvs", "nftables"])
def test_masquerade_flags(mode: str) -> None:
    config = with_flags(f"--proxy-mode={mode}", "--masquerade-all", "--iptables-masquerade-bit=5")
    assert config.masquerade_all is True
    assert config.masquerade_bit == (14 if mode == "nftables" else 5)


def test_flags_set_their_fields() -> None:
    config = with_flags(
        "--kubeconfig=/k", "--kube-api-qps=7", "--cluster-cidr=10.0.0.0/8,fd00::/8", "--ipvs-tcp-timeout=5s",
        "--conntrack-max-per-core=0", "--bind-address=10.0.0.1", "--pod-bridge-interface=br0", "-v3",
        "--hostname-override= Node-A ",
    )  # fmt: skip
    assert config.client_connection.kubeconfig == "/k"
    assert config.client_connection.qps == 7.0
    assert config.cluster_cidrs == ("10.0.0.0/8", "fd00::/8")
    assert config.ipvs.tcp_timeout == Duration.parse("5s")
    assert config.conntrack.max_per_core == 0
    assert config.bind_address == "10.0.0.1"
    assert config.detect_local.bridge_interface == "br0"
    assert config.logging.verbosity == 3
    assert config.hostname_override == "node-a"


def test_with_a_file_other_flags_are_ignored(file: Path) -> None:
    config = with_file(
        file,
        "mode: ipvs\nhostnameOverride: from-file\nlogging: {verbosity: 2, format: text}\n",
        "--proxy-mode=nftables", "--cluster-cidr=10.0.0.0/8", "--masquerade-all", "--bind-address=::",
        "--hostname-override=FLAG", "-v=5", "--healthz-bind-address=10.0.0.1",
    )  # fmt: skip
    assert (config.mode, config.cluster_cidr, config.masquerade_all) == ("ipvs", "", False)
    assert (config.hostname_override, config.logging.verbosity, config.logging.format) == ("flag", 5, "text")
    assert config.healthz_bind_address == "0.0.0.0:10256"


def test_vmodule_of_the_flag_comes_before_the_files(file: Path) -> None:
    file.write_text(HEAD + "logging: {vmodule: [{filePattern: b, verbosity: 2}]}")
    arguments = parse_arguments(["--config", str(file), "--vmodule=a=1"])
    config, _ = effective_configuration(arguments)
    assert [item.file_pattern for item in config.logging.vmodule] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "healthz", "metrics"),
    [
        ("", "0.0.0.0:10256", "127.0.0.1:10249"),
        ("bindAddress: '::'", "[::]:10256", "[::1]:10249"),
        ("bindAddress: '::'\nhealthzBindAddress: 10.0.0.1", "10.0.0.1:10256", "[::1]:10249"),
        ("healthzBindAddress: fd00::1\nmetricsBindAddress: 0.0.0.0:1", "[fd00::1]:10256", "0.0.0.0:1"),
    ],
)
def test_servers_by_file(file: Path, text: str, healthz: str, metrics: str) -> None:
    config = with_file(file, text)
    assert (config.healthz_bind_address, config.metrics_bind_address) == (healthz, metrics)


def test_servers_by_flags() -> None:
    config = with_flags("--healthz-bind-address=10.0.0.1", "--metrics-bind-address=", "--bind-address=::")
    assert (config.healthz_bind_address, config.metrics_bind_address) == ("10.0.0.1:10256", "127.0.0.1:10249")
    words = ["--healthz-bind-address=::1", "--healthz-port=99", "--metrics-bind-address=::1:5"]
    config, warnings = effective_configuration(parse_arguments(words))
    assert (config.healthz_bind_address, config.metrics_bind_address) == ("[::1]:99", "[::1:5]:10249")
    assert warnings == ["--healthz-port is deprecated, use --healthz-bind-address"]
    assert effective_configuration(parse_arguments(["--healthz-port=0"]))[0].healthz_bind_address == ""
    assert failure("--metrics-port=0") == (
        'failed validate: KubeProxyConfiguration.MetricsBindAddress: Invalid value: "": must be IP:port'
    )


def test_failures(file: Path) -> None:
    assert failure("--hostname-override=  ") == "failed complete: empty hostname-override is invalid"
    assert failure(f"--config={file}") == f"failed complete: open {file}: no such file or directory"
    file.write_text("")
    assert failure(f"--config={file}") == (
        f"failed complete: failed to decode: {file}:1: the file is empty, it must hold a KubeProxyConfiguration"
    )
    assert failure("--feature-gates=MultiCIDRServiceAllocator=false") == (
        "failed complete: cannot set feature gate MultiCIDRServiceAllocator to false, feature is locked to true"
    )
    assert failure("--proxy-mode=userspace", "--oom-score-adj=2000") == (
        "failed validate: [KubeProxyConfiguration.KubeProxyLinuxConfiguration.OOMScoreAdj: Invalid value: 2000: "
        "must be within the range [-1000, 1000], KubeProxyConfiguration.Mode.ProxyMode: Invalid value: "
        '"userspace": must be iptables, ipvs, nftables or blank (blank means the best-available proxy '
        "[currently iptables])]"
    )


def test_what_is_not_used_is_told_once() -> None:
    assert warnings_of(
        "--feature-gates=TopologyAwareHints=true,AllAlpha=false",
        "--kube-api-content-type=application/vnd.kubernetes.protobuf",
        "--config-sync-period=15m",
        "--log-flush-frequency=1s",
    ) == [
        "featureGates: TopologyAwareHints is ignored, Kubernetes 1.36 has no feature gate of that name",
        "clientConnection.contentType is accepted, but not used: kpx reads the API's objects as JSON",
        "logging.flushFrequency is accepted, but not used: kpx writes each log line at once, to standard error",
    ]
    assert warnings_of("--kube-api-content-type=application/json") == []


def test_a_usual_file(file: Path) -> None:
    """The shape that cluster installers write: everything there, most of it null or empty."""
    file.write_text(
        HEAD
        + """\
bindAddress: 0.0.0.0
clientConnection:
  acceptContentTypes: ""
  contentType: application/vnd.kubernetes.protobuf
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 10
  burst: 20
clusterCIDR: 10.244.0.0/16
featureGates:
  TopologyAwareHints: true
ipvs: {scheduler: rr, syncPeriod: 30s, minSyncPeriod: 1s, excludeCIDRs: [], strictARP: true}
mode: ipvs
nodePortAddresses: null
portRange: ""
udpIdleTimeout: 0s
winkernel: {enableDSR: false, networkName: ""}
"""
    )
    config, warnings = effective_configuration(parse_arguments([f"--config={file}"]))
    assert (config.mode, config.ipvs.scheduler, config.ipvs.strict_arp) == ("ipvs", "rr", True)
    assert (config.client_connection.qps, config.client_connection.burst) == (10.0, 20)
    assert warnings == [
        f'Using lenient decoding as strict decoding failed: {file}:17: unknown field "udpIdleTimeout"',
        "featureGates: TopologyAwareHints is ignored, Kubernetes 1.36 has no feature gate of that name",
        "clientConnection.contentType is accepted, but not used: kpx reads the API's objects as JSON",
    ]
