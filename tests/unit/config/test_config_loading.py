from __future__ import annotations

import json
from pathlib import Path

import pytest

from kpx.config.decoding import Problem, decode
from kpx.config.duration import Duration
from kpx.config.errors import ConfigError
from kpx.config.loading import load
from kpx.config.schema import build
from kpx.config.types import KubeProxyConfiguration, UInt32, VModuleItem

HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
INT32 = "a whole number from -2147483648 to 2147483647"


def test_every_type_of_field() -> None:
    decoded = decode(
        HEAD
        + """\
mode: ipvs
bindAddressHardFail: yes
clientConnection: {qps: 2, burst: 0x10}
oomScoreAdj: -1000
configSyncPeriod: 1h30m
nodePortAddresses: [10.0.0.0/8, "fd00::/8"]
featureGates:
  ComponentFlagz: false
  AllAlpha: true
logging:
  flushFrequency: 2000000000
  vmodule:
  - filePattern: proxier*
    verbosity: 9
  options:
    json: {infoBufferSize: 64Ki}
"""
    )
    assert (decoded.strict, decoded.fatal) == ([], [])
    config = build(decoded.settings)
    assert config.mode == "ipvs"
    assert config.bind_address_hard_fail is True
    assert config.client_connection.qps == 2.0
    assert config.client_connection.burst == 16
    assert config.oom_score_adj == -1000
    assert config.config_sync_period == Duration.parse("90m")
    assert config.node_port_addresses == ("10.0.0.0/8", "fd00::/8")
    assert config.feature_gates == {"ComponentFlagz": False, "AllAlpha": True}
    assert config.logging.flush_frequency == Duration.parse("2s")
    assert config.logging.vmodule == (VModuleItem(file_pattern="proxier*", verbosity=UInt32(9)),)
    assert config.logging.options.json.info_buffer_size == "64Ki"


def test_null_and_zero_stand_for_the_default() -> None:
    decoded = decode(
        HEAD
        + """\
bindAddress: ""
clientConnection: {acceptContentTypes: "", burst: 0, contentType: "", kubeconfig: /k, qps: 0}
configSyncPeriod: 0s
conntrack: {maxPerCore: null, min: null, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: null}
iptables: {localhostNodePorts: null, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
ipvs: null
logging: {flushFrequency: 0, options: {json: {infoBufferSize: "0"}}, verbosity: 0}
nftables: {masqueradeBit: null, syncPeriod: 0s, minSyncPeriod:}
nodePortAddresses: null
oomScoreAdj: ~
winkernel: {enableDSR: false, networkName: ""}
"""
    )
    assert (decoded.strict, decoded.fatal) == ([], [])
    config = build(decoded.settings)
    assert config.client_connection.kubeconfig == "/k"
    decoded.settings.pop("clientConnection.kubeconfig")
    assert build(decoded.settings) == KubeProxyConfiguration()


def test_zero_counts_where_the_api_has_a_pointer() -> None:
    decoded = decode(
        HEAD
        + """\
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
iptables: {localhostNodePorts: false, masqueradeBit: 0}
nftables: {masqueradeBit: 0}
oomScoreAdj: 0
"""
    )
    config = build(decoded.settings)
    assert (config.conntrack.max_per_core, config.conntrack.min) == (0, 0)
    assert not config.conntrack.tcp_established_timeout
    assert not config.conntrack.tcp_close_wait_timeout
    assert config.iptables.localhost_node_ports is False
    assert (config.iptables.masquerade_bit, config.nftables.masquerade_bit, config.oom_score_adj) == (0, 0, 0)


def test_an_address_that_yaml_takes_for_a_number_stays_an_address() -> None:
    assert decode(HEAD + "bindAddress: 1:2:3:4:5:6:7:8").settings["bindAddress"] == "1:2:3:4:5:6:7:8"


def test_json_indented_with_tabs(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    identity = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"}
    file.write_text(json.dumps(identity | {"mode": "ipvs"}, indent="\t"))
    settings, warnings = load(file)
    assert settings["mode"] == "ipvs"
    assert warnings == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Mode: ipvs", Problem(3, 'unknown field "Mode", did you mean "mode"?')),
        (
            "iptables:\n  syncperiod: 1s",
            Problem(4, 'unknown field "iptables.syncperiod", did you mean "iptables.syncPeriod"?'),
        ),
        ("strictARP: true", Problem(3, 'unknown field "strictARP", did you mean "ipvs.strictARP"?')),
        ("udpIdleTimeout: 0s", Problem(3, 'unknown field "udpIdleTimeout"')),
        ("mode: ipvs\nmode: nftables", Problem(4, 'duplicate field "mode", first given on line 3')),
        (
            "ipvs:\n  scheduler: rr\n  scheduler: lc",
            Problem(5, 'duplicate field "ipvs.scheduler", first given on line 4'),
        ),
        ("featureGates: {A: true, A: true}", Problem(3, 'duplicate field "featureGates.A", first given on line 3')),
        ("---\nmode: ipvs", Problem(4, "only the first document is read")),
    ],
)
def test_strict_problems(text: str, problem: Problem) -> None:
    decoded = decode(HEAD + text)
    assert decoded.strict == [problem]
    assert decoded.fatal == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("iptables:\n  masqueradeBit: fourteen",
         Problem(4, f'iptables.masqueradeBit: expected {INT32}, found the text "fourteen"')),
        ("iptables: {masqueradeBit: 2147483648}",
         Problem(3, f"iptables.masqueradeBit: expected {INT32}, found the number 2147483648")),
        ("oomScoreAdj: 1.5",
         Problem(3, f"oomScoreAdj: expected {INT32}, found the number 1.5")),
        ("logging: {verbosity: -1}",
         Problem(3, "logging.verbosity: expected a whole number from 0 to 4294967295, found the number -1")),
        ("mode: 3", Problem(3, "mode: expected a text, found the number 3")),
        ("mode: [ipvs]", Problem(3, "mode: expected a text, found a list")),
        ("enableProfiling: maybe", Problem(3, 'enableProfiling: expected true or false, found the text "maybe"')),
        ("clientConnection: {qps: .inf}", Problem(3, "clientConnection.qps: expected a number, found the number .inf")),
        ("configSyncPeriod: 30",
         Problem(3, 'configSyncPeriod: expected a duration such as "30s" or "1h15m", found the number 30')),
        ("configSyncPeriod: soon",
         Problem(3, 'configSyncPeriod: expected a duration such as "30s" or "1h15m", found the text "soon"')),
        ("nodePortAddresses: primary",
         Problem(3, 'nodePortAddresses: expected a list of texts, found the text "primary"')),
        ("nodePortAddresses:\n- 10.0.0.0/8\n- 3", Problem(5, "nodePortAddresses: expected a text, found the number 3")),
        ("oomScoreAdj: !!int [1]", Problem(3, f"oomScoreAdj: expected {INT32}, found a list")),
        ("oomScoreAdj: 0x_", Problem(3, f"oomScoreAdj: expected {INT32}, found the number 0x_")),
        ("mode: !!str {a: b}", Problem(3, "mode: expected a text, found a mapping")),
        ("enableProfiling: !!bool perhaps", Problem(3, "enableProfiling: expected true or false, found perhaps")),
        ("iptables: true", Problem(3, "iptables: expected a mapping, found true")),
        ("featureGates: {A: on, B: 1}", Problem(3, "featureGates: expected true or false, found the number 1")),
        ("featureGates: [A]",
         Problem(3, "featureGates: expected a mapping of feature gates to true or false, found a list")),
        ("logging: {vmodule: a=1}",
         Problem(3, 'logging.vmodule: expected a list of filePattern and verbosity, found the text "a=1"')),
        ("logging: {vmodule: [{filePattern: a}]}",
         Problem(3, "logging.vmodule: expected filePattern and verbosity, found a mapping")),
        ("logging: {options: {text: {infoBufferSize: big}}}",
         Problem(3, 'logging.options.text.infoBufferSize: expected a quantity such as "64Ki", found the text "big"')),
        ("[a]: b", Problem(3, "a key must be a text, found a list")),
        ("mode: a: b", Problem(3, "mapping values are not allowed here")),
        ("mode: a\x01", Problem(3, "the character 0x01 is not allowed in YAML")),
    ],
)  # fmt: skip
def test_fatal_problems(text: str, problem: Problem) -> None:
    assert decode(HEAD + text).fatal == [problem]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", [Problem(1, "the file is empty, it must hold a KubeProxyConfiguration")]),
        ("# nothing\n---\n", [Problem(1, "the file is empty, it must hold a KubeProxyConfiguration")]),
        ("- a", [Problem(1, "expected a mapping, found a list")]),
        (
            "mode: ipvs",
            [
                Problem(1, 'apiVersion: expected "kubeproxy.config.k8s.io/v1alpha1", found nothing'),
                Problem(1, 'kind: expected "KubeProxyConfiguration", found nothing'),
            ],
        ),
        (
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n\nkind: ConfigMap\ndata: {}",
            [Problem(3, 'kind: expected "KubeProxyConfiguration", found the text "ConfigMap"')],
        ),
    ],
)
def test_what_is_no_configuration(text: str, problems: list[Problem]) -> None:
    assert decode(text).fatal == problems


def test_aliases_may_lead_back() -> None:
    decoded = decode(HEAD + "iptables: &loop {syncPeriod: 7s, more: *loop}")
    assert decoded.settings["iptables.syncPeriod"] == Duration.parse("7s")
    assert decoded.strict == [Problem(3, 'unknown field "iptables.more"')]


def test_a_lenient_reading_says_why_and_keeps_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(HEAD + "mode: iptables\nother: 1\nmode: nftables\n")
    settings, warnings = load(file)
    assert settings["mode"] == "nftables"
    assert warnings == [
        f'Using lenient decoding as strict decoding failed: {file}:4: unknown field "other"; '
        f'{file}:5: duplicate field "mode", first given on line 3'
    ]


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(HEAD + "oomScoreAdj: x\nunknown: 1\nmode: {}\n")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert str(caught.value) == (
        f"failed to decode: {file}:3: oomScoreAdj: expected a whole number from -2147483648 to 2147483647, "
        f'found the text "x"; {file}:4: unknown field "unknown"; {file}:5: mode: expected a text, found a mapping'
    )


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^open {tmp_path}/none: no such file or directory$"):
        load(tmp_path / "none")
    with pytest.raises(ConfigError, match=f"^open {tmp_path}: is a directory$"):
        load(tmp_path)
    binary = tmp_path / "binary"
    binary.write_bytes(b"mode: \xff")
    with pytest.raises(ConfigError, match=r"byte 6 is not UTF-8 text$"):
        load(binary)
