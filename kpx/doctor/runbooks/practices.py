"""What is good practice on any node, whatever is wrong at the moment."""

from __future__ import annotations

from collections.abc import Iterator

from kpx.doctor import fixes
from kpx.doctor.check import Runbook, check
from kpx.doctor.facts import Facts, NotKnown
from kpx.doctor.finding import Evidence, Fix, Result, passed, skipped, told, warned
from kpx.doctor.runbooks import conntrack, nodeport, settings, source_ip, sync
from kpx.doctor.subject import Subject, mode
from kpx.proxier.frontends import Kind

_MODULES = ("ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "nf_conntrack")
_NFTABLES_SINCE = (5, 13)
_ARP = {"net/ipv4/conf/all/arp_ignore": "1", "net/ipv4/conf/all/arp_announce": "2"}


@check(
    "KPX-BP-001",
    "the modules of mode ipvs are there",
    why="Without them, kube-proxy of that mode does not start, or serves in another mode.",
    remedy="Load them, and name them in /etc/modules-load.d.",
)
def ipvs_modules(facts: Facts, _: Subject) -> Iterator[Result]:
    if (used := mode(facts)) != "ipvs":
        yield skipped(f"mode {used} does not need them")
        return
    missing = [name for name in _MODULES if not facts.module(name)]
    if missing:
        keep = (f"printf '%s\\n' {' '.join(missing)} > /etc/modules-load.d/ipvs.conf",)
        fix = Fix("load them", now=(("modprobe", "-a", *missing),), keep=keep)
        yield warned(f"{', '.join(missing)} are not loaded", Evidence(", ".join(missing), "/sys/module"), fix=fix)
    else:
        yield passed("they are", Evidence(", ".join(_MODULES), "/sys/module"))


@check(
    "KPX-BP-002",
    "in mode ipvs, other hosts learn no load-balancer address of this node by ARP",
    why="All addresses of Services are on kube-ipvs0: without strict ARP this node answers for MetalLB's.",
    remedy="ipvs.strictARP: true.",
)
def strict_arp(facts: Facts, _: Subject) -> Iterator[Result]:
    if (used := mode(facts)) != "ipvs":
        yield skipped(f"mode {used} puts no address on an interface")
        return
    balanced = any(f.kind is Kind.LOAD_BALANCER for _, one in facts.cluster().ports for f in one.frontends)
    found = {name: facts.setting(name) for name in _ARP}
    evidence = [Evidence(value, f"/proc/sys/{name}") for name, value in found.items()]
    if found == _ARP or not balanced:
        yield passed("they do not, or there is none", *evidence)
    else:
        edit = ("kubectl", "edit", "configmap", "--namespace", "kube-system", "kube-proxy")
        fix = fixes.by_hand("set ipvs.strictARP: true if MetalLB or kube-vip announces addresses on this network", edit)
        yield told("strictARP is off, and there are load-balancer addresses", *evidence, fix=fix)


@check(
    "KPX-BP-003",
    "hints of topology are complete",
    why="Hints are used only where every ready endpoint has one and the node has a zone: else traffic crosses zones.",
    remedy="Give nodes the label topology.kubernetes.io/zone, and Services enough endpoints in each zone.",
)
def topology(facts: Facts, _: Subject) -> Iterator[Result]:
    partly = []
    for _family, one in facts.cluster().ports:
        hinted = [bool(each.zones or each.nodes) for each in one.endpoints if each.ready]
        if any(hinted) and not all(hinted):
            partly.append(str(one.port))
    if partly:
        listed = ", ".join(sorted(set(partly))[:5])
        yield told(
            f"hints are ignored for {listed}: some endpoints have none", Evidence(listed, facts.cluster().origin)
        )
    else:
        yield passed("they are, or there are none", Evidence("no partly hinted Service", facts.cluster().origin))


@check(
    "KPX-BP-004",
    "a VXLAN device does not spoil checksums",
    why="Old kernels send masqueraded packets over VXLAN with a wrong checksum: connects take 1, 3 or 63 seconds.",
    remedy="ethtool -K DEVICE tx-checksum-ip-generic off, or a kernel of 5.7 or later.",
    links=("https://github.com/kubernetes/kubernetes/issues/88986",),
)
def vxlan(facts: Facts, _: Subject) -> Iterator[Result]:
    release = facts.kernel_release()
    evidence = Evidence(".".join(map(str, release)), "uname -r")
    if release >= (5, 7):
        yield passed("this kernel is of 5.7 or later", evidence)
    else:
        raise NotKnown(f"kernel {release[0]}.{release[1]}: look at `ethtool -k DEVICE | grep tx-checksum-ip-generic`")


@check(
    "KPX-BP-005",
    "the kernel is recent enough for its mode",
    why="Mode nftables needs what Linux has since 5.13; on an older kernel its rules are refused, or slow.",
    remedy="Mode iptables, or a newer kernel.",
)
def kernel(facts: Facts, _: Subject) -> Iterator[Result]:
    release, used = facts.kernel_release(), mode(facts)
    evidence = (Evidence(".".join(map(str, release)), "uname -r"), Evidence(used, "the proxy's configuration"))
    if used == "nftables" and release < _NFTABLES_SINCE:
        edit = ("kubectl", "edit", "configmap", "--namespace", "kube-system", "kube-proxy")
        yield warned("it is too old for mode nftables", *evidence, fix=fixes.by_hand("set mode: iptables", edit))
    else:
        yield passed("it is", *evidence)


RUNBOOK = Runbook(
    "practices",
    "good practice",
    (
        sync.mode,
        sync.pause,
        sync.durations,
        ipvs_modules,
        strict_arp,
        conntrack.sizing,
        conntrack.room,
        nodeport.source_ports,
        source_ip.detection,
        settings.invalid,
        topology,
        vxlan,
        kernel,
    ),
)
