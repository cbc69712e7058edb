from __future__ import annotations

from pathlib import Path

import pytest

from kpx.config.arguments import flag_values, log_flags, notices, parse_arguments
from kpx.config.duration import Duration
from kpx.config.errors import ConfigError
from kpx.config.flags import FLAGS
from kpx.config.schema import leaves
from kpx.config.types import UInt32, VModuleItem
from kpx.config.usage import usage

KUBE_PROXY_FLAGS = """
    config write-config-to cleanup init-only version help feature-gates kubeconfig master kube-api-content-type
    kube-api-qps kube-api-burst hostname-override bind-address healthz-bind-address metrics-bind-address healthz-port
    metrics-port bind-address-hard-fail profiling show-hidden-metrics-for-version proxy-mode iptables-masquerade-bit
    masquerade-all iptables-localhost-nodeports iptables-sync-period iptables-min-sync-period ipvs-sync-period
    ipvs-min-sync-period ipvs-scheduler ipvs-exclude-cidrs ipvs-strict-arp ipvs-tcp-timeout ipvs-tcpfin-timeout
    ipvs-udp-timeout detect-local-mode pod-bridge-interface pod-interface-name-prefix cluster-cidr nodeport-addresses
    oom-score-adj conntrack-max-per-core conntrack-min conntrack-tcp-timeout-established
    conntrack-tcp-timeout-close-wait conntrack-tcp-be-liberal conntrack-udp-timeout conntrack-udp-timeout-stream
    config-sync-period v vmodule logging-format log-flush-frequency log-text-split-stream log-text-info-buffer-size
    log-json-split-stream log-json-info-buffer-size boot-id-file machine-id-file
"""


def test_the_table_is_kube_proxys_and_two_more() -> None:
    assert FLAGS.keys() == {*KUBE_PROXY_FLAGS.split(), "manifests", "take-over"}


def test_defaults_are_those_of_the_fields() -> None:
    unlike = {
        flag.name
        for flag in FLAGS.values()
        if flag.path and flag.type.show(leaves()[flag.path].default) != flag.default
    }
    assert unlike == {"ipvs-min-sync-period"}


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--config", "/etc/kp.conf"], "config", "/etc/kp.conf"),
        (["--config=/etc/kp.conf"], "config", "/etc/kp.conf"),
        (["--kubeconfig="], "kubeconfig", ""),
        (["--master", "--odd"], "master", "--odd"),
        (["--hostname_override", "a"], "hostname-override", "a"),
        (["--masquerade-all"], "masquerade-all", True),
        (["--iptables-localhost-nodeports=false"], "iptables-localhost-nodeports", False),
        (["--ipvs-strict-arp=T"], "ipvs-strict-arp", True),
        (["-v", "4"], "v", 4),
        (["-v=4"], "v", 4),
        (["-v4"], "v", 4),
        (["--v=4"], "v", 4),
        (["-v=2", "--v", "7"], "v", 7),
        (["--oom-score-adj=-500"], "oom-score-adj", -500),
        (["--conntrack-min", "0x10"], "conntrack-min", 16),
        (["--conntrack-min", "010"], "conntrack-min", 8),
        (["--conntrack-min", "1_000"], "conntrack-min", 1000),
        (["--kube-api-qps", "0.5"], "kube-api-qps", 0.5),
        (["--iptables-min-sync-period", "0"], "iptables-min-sync-period", Duration()),
        (["--nodeport-addresses=10.0.0.0/8,fd00::/8"], "nodeport-addresses", ("10.0.0.0/8", "fd00::/8")),
        (["--nodeport-addresses=a", "--nodeport-addresses", "b,c"], "nodeport-addresses", ("a", "b", "c")),
        (["--nodeport-addresses="], "nodeport-addresses", ()),
        (["--feature-gates=A=true, B = false", "--feature-gates=B=t"], "feature-gates", {"A": True, "B": True}),
        (["--vmodule=a=1,b*=2"], "vmodule",
         (VModuleItem(file_pattern="a", verbosity=UInt32(1)), VModuleItem(file_pattern="b*", verbosity=UInt32(2)))),
        (["--healthz-bind-address=10.0.0.1"], "healthz-bind-address", "10.0.0.1"),
        (["--metrics-bind-address=[::1]:80"], "metrics-bind-address", "[::1]:80"),
        (["--log-json-info-buffer-size", "1Mi"], "log-json-info-buffer-size", "1Mi"),
        (["--version"], "version", "true"),
        (["--version=raw"], "version", "raw"),
        (["-h"], "help", True),
    ],
)  # fmt: skip
def test_forms(words: list[str], name: str, value: object) -> None:
    assert parse_arguments(words).values == {name: value}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cluster-cdir=a"], "unknown flag: --cluster-cdir, did you mean --cluster-cidr?"),
        (["--xyzzy"], "unknown flag: --xyzzy"),
        (["-config=a"], "unknown shorthand flag: 'c' in -config=a, did you mean --config?"),
        (["-x"], "unknown shorthand flag: 'x' in -x"),
        (["--config"], "flag needs an argument: --config"),
        (["-v"], "flag needs an argument: --v"),
        (["extra"], '"kube-proxy" does not take any arguments, got ["extra"]'),
        (["--masquerade-all", "false", "b"], '"kube-proxy" does not take any arguments, got ["false" "b"]'),
        (["-", "--", "--config"], '"kube-proxy" does not take any arguments, got ["-" "--config"]'),
        (["--cleanup=maybe"], 'invalid argument "maybe" for "--cleanup" flag: it must be true or false'),
        (["--conntrack-min=many"],
         'invalid argument "many" for "--conntrack-min" flag: it must be a whole number of 32 bits'),
        (["--conntrack-min=2147483648"],
         'invalid argument "2147483648" for "--conntrack-min" flag: it must be a whole number of 32 bits'),
        (["--conntrack-min", " 1"],
         'invalid argument " 1" for "--conntrack-min" flag: it must be a whole number of 32 bits'),
        (["-vx"], 'invalid argument "x" for "--v" flag: it must be a whole number of 32 bits, 0 or more'),
        (["--kube-api-qps=inf"], 'invalid argument "inf" for "--kube-api-qps" flag: it must be a number'),
        (["--config-sync-period=15"],
         'invalid argument "15" for "--config-sync-period" flag: it must be a duration such as "30s" or "1h15m"'),
        (["--feature-gates=A"],
         'invalid argument "A" for "--feature-gates" flag: it must be Name=true or Name=false, with commas between'),
        (["--vmodule==1"], 'invalid argument "=1" for "--vmodule" flag: it must be pattern=N, with commas between'),
        (["--log-text-info-buffer-size=1Q"],
         'invalid argument "1Q" for "--log-text-info-buffer-size" flag: it must be a quantity such as "64Ki"'),
        (["--bind-address=foo"], 'invalid argument "foo" for "--bind-address" flag: "foo" is not a valid IP address'),
        (["--healthz-bind-address=foo:1"],
         'invalid argument "foo:1" for "--healthz-bind-address" flag: "foo" is not a valid IP address'),
        (["--healthz-bind-address=foo"],
         'invalid argument "foo" for "--healthz-bind-address" flag: "foo" is neither IP:port nor [IP]:port'),
        (["--metrics-bind-address=1.2.3.4:65536"],
         'invalid argument "1.2.3.4:65536" for "--metrics-bind-address" flag: "65536" is not a valid port'),
        (["--version=latest"], 'invalid argument "latest" for "--version" flag: it must be true or false'),
    ],
)  # fmt: skip
def test_errors(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_arguments(words)
    assert str(caught.value) == message


def test_empty_words_and_help_excuse_arguments() -> None:
    assert parse_arguments([""]).values == {}
    assert parse_arguments(["what", "--help"]).help


def test_special_modes() -> None:
    nothing = parse_arguments([])
    assert (nothing.config, nothing.write_config_to, nothing.manifests) == (None, None, None)
    assert (nothing.cleanup, nothing.init_only, nothing.take_over, nothing.help) == (False,) * 4
    assert (nothing.version, nothing.master) == ("", "")
    words = "--config c --write-config-to w --manifests m --cleanup --init-only --take-over --master u --version=raw"
    everything = parse_arguments(words.split())
    assert (everything.config, everything.write_config_to, everything.manifests) == (Path("c"), Path("w"), Path("m"))
    assert (everything.cleanup, everything.init_only, everything.take_over) == (True,) * 3
    assert (everything.version, everything.master) == ("raw", "u")
    assert parse_arguments(["--version=false"]).version == ""


def test_flags_as_they_are_logged() -> None:
    arguments = parse_arguments(
        ["-v=2", "--feature-gates=B=false,A=true", "--nodeport-addresses=a,b", "--kube-api-qps=2.5", "--cleanup"]
    )
    shown = flag_values(arguments)
    assert list(shown) == sorted(FLAGS)
    assert shown["feature-gates"] == "A=true,B=false"
    assert shown["nodeport-addresses"] == "[a,b]"
    assert shown["kube-api-qps"] == "2.5"
    assert shown["config-sync-period"] == "15m0s"
    lines = log_flags(arguments)
    assert 'FLAG: --v="2"' in lines
    assert 'FLAG: --cleanup="true"' in lines
    assert len(lines) == len(FLAGS)


def test_notices() -> None:
    assert notices(parse_arguments(["--healthz-port=1", "--boot-id-file=/x", "--proxy-mode=ipvs"])) == [
        "--healthz-port is deprecated, use --healthz-bind-address",
        "--boot-id-file is accepted, but not used: kpx does not read it",
    ]


def test_help_names_every_flag_within_80_columns() -> None:
    lines = usage("kpx daemon").splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1] == "  kpx daemon [flags]"
    named = {word.removeprefix("--") for line in lines for word in line.split() if line.strip().startswith("-")}
    assert named >= FLAGS.keys()
