"""Accounting objects, and the metrics that are read from them."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from kpx.kernel import nfacct
from kpx.kernel.nfacct import AccountingUnsupported
from kpx.proxier.kernel_metrics import AccountingMetrics, ConntrackMetrics
from kpx.proxier.metrics import Metrics

FIXTURES = Path(__file__).parents[1] / "fixtures" / "kube-proxy-1.36"


def supported() -> bool:
    try:
        return nfacct.packets("none") is None
    except AccountingUnsupported:
        return False


def count_a_packet(name: str) -> None:
    rule = ["-A", "OUTPUT", "-p", "udp", "-m", "nfacct", "--nfacct-name", name]
    subprocess.run(["iptables", *rule], check=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", ("127.0.0.1", 9))


def test_an_object_counts_and_is_not_reset_by_being_asked_for_again() -> None:
    if not supported():
        with pytest.raises(AccountingUnsupported):
            nfacct.ensure("counted")
        return
    assert nfacct.packets("counted") is None
    nfacct.ensure("counted")
    assert nfacct.packets("counted") == 0
    count_a_packet("counted")
    nfacct.ensure("counted")
    assert nfacct.packets("counted") == 1


def test_a_name_that_is_too_long_is_refused_here() -> None:
    with pytest.raises(ValueError, match="at most 31 bytes"):
        nfacct.ensure("n" * 32)


def test_what_the_kernel_refuses_is_typed() -> None:
    with pytest.raises(AccountingUnsupported, match="create nfacct object"):
        nfacct.ensure("")


def test_kube_proxys_metrics_show_once_the_objects_exist() -> None:
    metrics = Metrics("0")
    metrics.registry.register(AccountingMetrics())
    assert "kubeproxy_iptables" not in metrics.render().decode()
    if not supported():
        return
    for name in ("ct_state_invalid_dropped_pkts", "localhost_nps_accepted_pkts"):
        nfacct.ensure(name)
    theirs = (FIXTURES / "metrics-iptables.txt").read_text().splitlines()
    expected = [line for line in theirs if "kubeproxy_iptables_" in line]
    ours = [line.removesuffix(".0") for line in metrics.render().decode().splitlines() if "kubeproxy_iptables_" in line]
    assert sorted(ours) == sorted(expected)


def test_the_use_of_the_conntrack_table() -> None:
    clock = iter([0.0, 10.0])
    metrics = Metrics("0")
    metrics.registry.register(ConntrackMetrics(lambda: next(clock)))
    assert "kpx_conntrack_seconds_to_full +Inf" in metrics.render().decode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        subprocess.run(["iptables", "-A", "OUTPUT", "-m", "conntrack", "--ctstate", "NEW"], check=True)
        client.sendto(b"x", ("127.0.0.1", 9))
    lines = metrics.render().decode().splitlines()
    values = {name: float(value) for name, value in (line.split(" ") for line in lines if line.startswith("kpx_"))}
    entries, limit = values["kpx_conntrack_entries"], values["kpx_conntrack_entries_limit"]
    assert entries == 1
    assert values["kpx_conntrack_seconds_to_full"] == (limit - 1) * 10
