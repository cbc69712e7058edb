"""Service proxies that are neither kube-proxy nor kpx, told by their interfaces and processes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kpx.migrate.facts import Other


def others(interfaces: Iterable[str], processes: Iterable[str]) -> tuple[Other, ...]:
    """The other proxies of a node, by the names of its network interfaces and of its processes."""
    return tuple(_found(frozenset(interfaces), frozenset(processes)))


def _found(interfaces: frozenset[str], processes: frozenset[str]) -> Iterator[Other]:
    if names := sorted(interfaces & {"cilium_host", "cilium_net"}) or sorted(processes & {"cilium-agent"}):
        yield Other(
            "Cilium",
            _there(names),
            "where `cilium-dbg status` in its pod says KubeProxyReplacement: True, set kubeProxyReplacement: false",
            serves=None,
        )
    if names := sorted(name for name in interfaces if name.startswith(("bpfin.cali", "bpfout.cali"))):
        yield Other("Calico in eBPF mode", _there(names), "set bpfEnabled: false in its FelixConfiguration first")
    if names := sorted(interfaces & {"kube-dummy-if"}):
        yield Other("kube-router's service proxy", _there(names), "start it with --run-service-proxy=false")
    elif names := sorted(processes & {"kube-router"}):
        yield Other("kube-router", _there(names), "its service proxy stays off: --run-service-proxy=false", serves=None)
    if names := sorted(interfaces & {"antrea-gw0"}):
        yield Other("Antrea", _there(names), "AntreaProxy's proxyAll has to be false in its configuration", serves=None)
    if names := sorted(interfaces & {"ovn-k8s-mp0"}):
        yield Other("OVN-Kubernetes", _there(names), "it serves Services itself and needs no service proxy")


def _there(names: Iterable[str]) -> str:
    return f"{', '.join(names)} is there"
