"""What an operator will see differ when a node moves from one proxy mode to another. Pure."""

from __future__ import annotations

_TO_NFTABLES = (
    "Node ports answer on the node's primary addresses only, unless nodePortAddresses says otherwise.",
    "`iptables-save` shows no Service any more: `kpx services`, `kpx trace` and `nft list table ip kpx` do.",
    "A firewall's drop is final, whatever the rules of Services accept: what FORWARD drops has to be accepted there.",
)
_FROM_NFTABLES = (
    "Node ports answer on all of the node's addresses, unless nodePortAddresses says otherwise.",
    "The table kpx (or kube-proxy) of nftables goes once the new rules are in.",
)
_TO_IPVS = (
    "Service addresses are the node's own, on the device kube-ipvs0: a program on the node that listens on all "
    "addresses is reached at them on other ports.",
    "With MetalLB or kube-vip in layer 2, ipvs.strictARP has to be true.",
    "Mode ipvs is deprecated in Kubernetes; mode nftables is what takes its place.",
)
_FROM_IPVS = (
    "ipvs.scheduler has no equivalent: new connections are spread at random. For clients that have to stay with an "
    "endpoint (schedulers sh, mh), set sessionAffinity: ClientIP on the Service.",
    "Service addresses are no longer on the device kube-ipvs0: they do not answer to ping.",
    "Connections that IPVS tracks go on: its virtual servers stay until their last connections have ended.",
    "ipvs.strictARP and the IPVS time-outs do nothing any more; `ipvsadm` shows nothing.",
)
_IPTABLES_TO_NFTABLES = (
    "Node ports do not answer on 127.0.0.1.",
    "Packets that conntrack finds invalid are not dropped; conntrack.tcpBeLiberal keeps it from finding so many.",
)
_SAME = ("The rules are kube-proxy's, but for what docs/deviations.md lists.",)


def changes(before: str, after: str) -> tuple[str, ...]:
    """Sentences on a move between two of `MODES`; ``before`` is empty where no mode is in force."""
    if before == after:
        return _SAME
    if not before:
        return ()
    specific = _IPTABLES_TO_NFTABLES if (before, after) == ("iptables", "nftables") else ()
    away = {"ipvs": _FROM_IPVS, "nftables": _FROM_NFTABLES}.get(before, ())
    return (*specific, *away, *{"ipvs": _TO_IPVS, "nftables": _TO_NFTABLES}.get(after, ()))
