from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kpx.config.arguments import parse_arguments
from kpx.config.decoding import ZERO_COUNTS, decode
from kpx.config.duration import Duration
from kpx.config.effective import completed, effective_configuration
from kpx.config.errors import ConfigError
from kpx.config.schema import Settings, build, leaves
from kpx.config.types import FlushFrequency, Int32, Quantity, StringList, UInt32, VModule, VModuleItem
from kpx.config.writing import configz, to_yaml, write

WITHOUT_FLAGS = """\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 10
  contentType: application/vnd.kubernetes.protobuf
  kubeconfig: ""
  qps: 5
clusterCIDR: ""
configSyncPeriod: 15m0s
conntrack:
  maxPerCore: 32768
  min: 131072
  tcpBeLiberal: false
  tcpCloseWaitTimeout: 1h0m0s
  tcpEstablishedTimeout: 24h0m0s
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ClusterCIDR
enableProfiling: false
healthzBindAddress: 0.0.0.0:10256
hostnameOverride: ""
iptables:
  localhostNodePorts: true
  masqueradeAll: false
  masqueradeBit: 14
  minSyncPeriod: 1s
  syncPeriod: 30s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: ""
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
kind: KubeProxyConfiguration
logging:
  flushFrequency: 5s
  format: text
  options:
    json:
      infoBufferSize: "0"
    text:
      infoBufferSize: "0"
  verbosity: 0
metricsBindAddress: 127.0.0.1:10249
mode: iptables
nftables:
  masqueradeAll: false
  masqueradeBit: 14
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: null
oomScoreAdj: -999
portRange: ""
showHiddenMetricsForVersion: ""
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: ""
  rootHnsEndpointName: ""
  sourceVip: ""
"""


def test_without_flags_it_is_byte_for_byte_what_kube_proxy_writes(tmp_path: Path) -> None:
    config, _ = effective_configuration(parse_arguments(["--write-config-to=out"]))
    write(config, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == WITHOUT_FLAGS.encode()


def test_what_is_only_written_when_it_is_set() -> None:
    words = ["--proxy-mode=nftables", "--feature-gates=B=false,A=true", "--vmodule=a*=3", "--kube-api-qps=2.5"]
    text = to_yaml(effective_configuration(parse_arguments(words))[0])
    assert "featureGates:\n  A: true\n  B: false\n" in text
    assert "  vmodule:\n  - filePattern: a*\n    verbosity: 3\n" in text
    assert "nodePortAddresses:\n- primary\n" in text
    assert "nftables:\n  masqueradeAll: false\n  masqueradeBit: 14\n  minSyncPeriod: 1s\n  syncPeriod: 30s\n" in text
    assert "  qps: 2.5\n" in text


def test_texts_are_quoted_where_yaml_needs_it() -> None:
    config = build({"hostnameOverride": "10", "bindAddress": "::", "healthzBindAddress": "[::]:1", "portRange": "no"})
    text = to_yaml(config)
    assert 'hostnameOverride: "10"\n' in text
    assert "bindAddress: '::'\n" in text
    assert "healthzBindAddress: '[::]:1'\n" in text
    assert 'portRange: "no"\n' in text


def test_configz() -> None:
    config, _ = effective_configuration(parse_arguments(["--proxy-mode=nftables"]))
    page = json.loads(configz(config))["kubeproxy.config.k8s.io"]
    assert (page["apiVersion"], page["kind"]) == ("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration")
    assert page["nodePortAddresses"] == ["primary"]
    assert (page["nftables"]["syncPeriod"], page["iptables"]["syncPeriod"]) == ("30s", "0s")
    assert page["logging"]["options"]["json"] == {"infoBufferSize": "0"}


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^open {tmp_path}: is a directory$"):
        write(build({}), tmp_path)


INT64 = st.integers(min_value=-(1 << 63), max_value=(1 << 63) - 1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
DURATIONS = INT64.map(Duration)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False, width=32),
    Int32: st.integers(min_value=-(1 << 31), max_value=(1 << 31) - 1),
    UInt32: st.integers(min_value=0, max_value=(1 << 32) - 1),
    Duration: DURATIONS,
    FlushFrequency: DURATIONS,
    Quantity: st.from_regex(r"[0-9]{1,4}(Ki|M)?", fullmatch=True),
    StringList: st.lists(TEXT, max_size=3).map(tuple),
    dict[str, bool]: st.dictionaries(TEXT, st.booleans(), max_size=3),
    VModule: st.lists(
        st.builds(VModuleItem, file_pattern=TEXT, verbosity=st.integers(min_value=0, max_value=9)), max_size=2
    ).map(tuple),
}


@st.composite
def settings(draw: st.DrawFn) -> Settings:
    """Some fields with any value of their type; zero only where it can be told from absent."""
    chosen = draw(st.lists(st.sampled_from(sorted(leaves().keys() - {"apiVersion", "kind"})), max_size=8))
    values = {path: draw(VALUES[leaves()[path].type]) for path in chosen}
    return {path: value for path, value in values.items() if value or path in ZERO_COUNTS}


@given(settings())
@example({"bindAddress": "\x85"})
@example({"bindAddress": "a\u2028b"})
def test_what_is_written_reads_back_the_same(some: Settings) -> None:
    config = completed(build(some))
    decoded = decode(to_yaml(config))
    assert (decoded.strict, decoded.fatal) == ([], [])
    assert completed(build(decoded.settings)) == config
