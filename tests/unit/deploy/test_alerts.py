"""Each alert, by Prometheus' own promtool: when it fires, what it then says, and when it does not."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from kpx.proxier.metrics_reference import described
from tests.deployment import DEPLOY, objects

MONITORING = DEPLOY / "components" / "monitoring"
RUNBOOKS = {"clusterip", "nodeport", "sync", "source-ip", "conntrack"}
# Of kube-state-metrics.
FOREIGN = {"kube_daemonset_status_number_ready", "kube_daemonset_status_desired_number_scheduled"}

PROMTOOL = shutil.which("promtool", path=str(Path(sys.executable).parent)) or shutil.which("promtool")

(RULE,) = objects(MONITORING / "alerts.yaml")
ALERTS = {alert["alert"]: alert for group in RULE["spec"]["groups"] for alert in group["rules"]}


@dataclass(frozen=True)
class Case:
    """Series of a value a minute, when the alert fires (with a summary and labels besides `instance`), and not yet."""

    series: Mapping[str, str]
    fires: str
    summary: str
    quiet: str
    labels: Mapping[str, str] = field(default_factory=lambda: {"instance": "n1"})


def slow_syncs(metric: str, seconds: str) -> dict[str, str]:
    """Ten syncs a minute that all take longer than so many seconds, the bound of a bucket, and up to twice that."""
    bounds = {seconds: "0x20", f"{2 * float(seconds):g}": "0+10x20", "+Inf": "0+10x20"}
    return {f'{metric}_bucket{{instance="n1",ip_family="IPv4",le="{le}"}}': values for le, values in bounds.items()}


SYNC, PROGRAMMING = "kubeproxy_sync_proxy_rules_duration_seconds", "kubeproxy_network_programming_duration_seconds"
FAMILY = {"instance": "n1", "ip_family": "IPv4"}
IPV4 = '{instance="n1",ip_family="IPv4"}'

CASES = {
    "KubeProxyRuleSyncLatencyHigh": Case(
        slow_syncs(SYNC, "8.192"), "8m", "Syncs of the rules on n1 take 16.3s (p99)", quiet="5m"
    ),
    "KubeProxyIptablesRestoreFailure": Case(
        {f"kubeproxy_sync_proxy_rules_iptables_restore_failures_total{IPV4}": "_x9 1x20"},
        "10m",
        "The IPv4 rules on n1 could not be written with iptables-restore",
        quiet="20m",
        labels=FAMILY,
    ),
    "KubeProxyNotRunning": Case(
        {
            'kube_daemonset_status_number_ready{daemonset="kpx"}': "3 2x20",
            'kube_daemonset_status_desired_number_scheduled{daemonset="kpx"}': "3x20",
        },
        "7m",
        "The DaemonSet kpx is ready on 2 nodes only",
        quiet="5m",
        labels={"daemonset": "kpx"},
    ),
    "KpxNftablesSyncFailure": Case(
        {f"kubeproxy_sync_proxy_rules_nftables_sync_failures_total{IPV4}": "3x9 5x20"},
        "10m",
        "The IPv4 rules on n1 could not be written with nftables",
        quiet="9m",
        labels=FAMILY,
    ),
    "KpxRulesStale": Case(
        {
            f"kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{IPV4}": "0x4 290x10",
            f"kubeproxy_sync_proxy_rules_last_timestamp_seconds{IPV4}": "1x20",
        },
        "6m",
        "Changes wait on n1, and no IPv4 sync has succeeded for a minute",
        quiet="4m",
        labels=FAMILY,
    ),
    "KpxSyncP99Above5s": Case(
        slow_syncs(SYNC, "4.096"), "8m", "Syncs of the rules on n1 take 8.151s (p99)", quiet="5m"
    ),
    "KpxSyncP99Above1s": Case(
        slow_syncs(SYNC, "1.024"), "18m", "Syncs of the rules on n1 take 2.038s (p99)", quiet="15m"
    ),
    "KpxProgrammingLatencyHigh": Case(
        slow_syncs(PROGRAMMING, "15"),
        "13m",
        "A change of endpoints takes 29.85s (p99) to reach the kernel of n1",
        quiet="10m",
    ),
    "KpxDriftRepaired": Case(
        {f"kpx_drift_found_total{IPV4}": "_x9 1x30"},
        "10m",
        "Somebody changed the IPv4 rules on n1; they are mended",
        quiet="30m",
        labels=FAMILY,
    ),
    "KpxDriftAgainAndAgain": Case(
        {f"kpx_drift_found_total{IPV4}": "0+1x20"},
        "14m",
        "Somebody changes the IPv4 rules on n1 again and again",
        quiet="5m",
        labels=FAMILY,
    ),
    "KpxWatchStale": Case(
        {'kpx_watch_age_seconds{instance="n1",kind="EndpointSlice"}': "0+60x20"}
        | {'kpx_watch_age_seconds{instance="n1",kind="ServiceCIDR"}': "0+60x20"},
        "6m",
        "n1 has not heard of EndpointSlice objects for 6m 0s",
        quiet="5m",
        labels={"instance": "n1", "kind": "EndpointSlice"},
    ),
    "KpxConntrackFillsUp": Case(
        {
            'kpx_conntrack_seconds_to_full{instance="n1"}': "+Inf 600x20",
            'kpx_conntrack_entries{instance="n1"}': "60000x20",
            'kpx_conntrack_entries_limit{instance="n1"}': "100000x20",
        },
        "3m",
        "The conntrack table of n1 is full in 10m 0s at this rate",
        quiet="2m",
    ),
    "KpxConntrackNearlyFull": Case(
        {
            'kpx_conntrack_entries{instance="n1"}': "95000x20",
            'kpx_conntrack_entries_limit{instance="n1"}': "100000x20",
            'kpx_conntrack_entries{instance="without a limit"}': "95000x20",
            'kpx_conntrack_entries_limit{instance="without a limit"}': "0x20",
        },
        "5m",
        "The conntrack table of n1 is 95% full",
        quiet="4m",
    ),
    "KpxNodeTakesNoTraffic": Case(
        {'kubeproxy_proxy_healthz_total{code="503",instance="n1"}': "0+6x20"},
        "11m",
        "Load balancers have been told for 10 minutes to send nothing to n1",
        quiet="9m",
        labels={"instance": "n1", "code": "503"},
    ),
    "KpxObjectRejected": Case(
        {f'kpx_rejected_objects{{instance="{one}",kind="Service",namespace="shop",name="web"}}': "1x9" for one in "ab"},
        "5m",
        "Service shop/web cannot be used and is left out",
        quiet="4m",
        labels={"kind": "Service", "namespace": "shop", "name": "web"},
    ),
    "KpxAddressConflict": Case(
        {f"kpx_address_conflicts_total{IPV4}": "_x9 2x30"},
        "10m",
        "On n1 two Services claim the same IPv4 address and port",
        quiet="30m",
        labels=FAMILY,
    ),
    "KpxNoLocalEndpoint": Case(
        {
            f'kubeproxy_sync_proxy_rules_no_local_endpoints_total{{instance="n1",traffic_policy="{policy}"}}': "2x20"
            for policy in ("internal", "external")
        },
        "10m",
        "2 service ports with internalTrafficPolicy Local have no endpoint on n1",
        quiet="9m",
        labels={"instance": "n1", "traffic_policy": "internal"},
    ),
}


def program() -> str:
    if PROMTOOL is None:
        pytest.skip("there is no promtool: ./dev setup installs it where it can")
    return PROMTOOL


def promtool(folder: Path, tests: list[dict[str, Any]]) -> str:
    """What ``promtool test rules`` says against these tests; nothing if they pass."""
    (folder / "rules.yaml").write_text(yaml.safe_dump(RULE["spec"]))
    (folder / "tests.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": tests}))
    command = [program(), "test", "rules", "tests.yaml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr if done.returncode else ""


def expected(name: str, case: Case) -> dict[str, Any]:
    annotations = {**ALERTS[name]["annotations"], "summary": case.summary}
    for label, value in case.labels.items():
        annotations = {key: re.sub(rf"{{{{ \$labels\.{label} }}}}", value, text) for key, text in annotations.items()}
    return {"exp_labels": {**ALERTS[name]["labels"], **case.labels}, "exp_annotations": annotations}


@pytest.mark.parametrize("name", ALERTS)
def test_it_fires_when_it_should(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    checks = [
        {"eval_time": case.fires, "alertname": name, "exp_alerts": [expected(name, case)]},
        {"eval_time": case.quiet, "alertname": name, "exp_alerts": []},
    ]
    series = [{"series": one, "values": values} for one, values in case.series.items()]
    said = promtool(tmp_path, [{"interval": "1m", "input_series": series, "alert_rule_test": checks}])
    assert not said, said


def names(expression: str) -> set[str]:
    """The metrics that an expression names."""
    return set(re.findall(r"\b(?:kpx|kubeproxy|kube|process|rest_client|kubernetes)_\w+", expression))


def exported() -> set[str]:
    return {series for one in described() for series in one.series}


def test_they_name_metrics_that_there_are_and_a_runbook() -> None:
    for alert in ALERTS.values():
        assert names(alert["expr"]) - FOREIGN <= exported(), alert["alert"]
        kpx, doctor, runbook, *_ = alert["annotations"]["runbook"].split()
        assert (kpx, doctor) == ("kpx", "doctor")
        assert runbook in RUNBOOKS
        assert alert["labels"]["severity"] in ("info", "warning", "critical")


@pytest.fixture
def dashboard() -> Any:
    return json.loads((MONITORING / "dashboard.json").read_text())


def panels_of(dashboard: Any) -> list[Any]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def test_prometheus_reads_the_expressions_of_the_dashboard(dashboard: Any, tmp_path: Path) -> None:
    expressions = [one["expr"].replace("$node", ".*") for panel in panels_of(dashboard) for one in panel["targets"]]
    rules = [{"record": f"expression_{number}", "expr": one} for number, one in enumerate(expressions)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))

    done = subprocess.run(
        [program(), "check", "rules", tmp_path / "rules.yaml"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert f"{len(expressions)} rules found" in done.stdout


def test_the_dashboard_shows_metrics_that_there_are(dashboard: Any) -> None:
    panels = panels_of(dashboard)
    shown = {panel["title"]: names(" ".join(one["expr"] for one in panel["targets"])) for panel in panels}
    assert all(shown.values())
    assert set().union(*shown.values()) <= exported()
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(panel["datasource"] == {"type": "prometheus", "uid": "${source}"} for panel in panels)
