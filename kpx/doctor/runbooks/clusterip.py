"""Runbook 1: a Service's cluster IP is not reached from a pod."""

from __future__ import annotations

from kpx.doctor.check import Runbook
from kpx.doctor.runbooks import conntrack, endpoints, packets, proxy, rules, settings, source_ip

RUNBOOK = Runbook(
    "clusterip",
    "a Service's cluster IP is not reached from a pod",
    (
        endpoints.exists,
        endpoints.present,
        endpoints.ready,
        proxy.runs,
        proxy.healthy,
        proxy.alone,
        proxy.node_name,
        rules.addresses,
        rules.endpoints,
        rules.on_device,
        proxy.leftovers,
        proxy.left_out,
        packets.led_inside,
        packets.refused_inside,
        packets.astray_inside,
        packets.routed,
        source_ip.hairpin,
        settings.forwarding,
        settings.bridges,
        settings.invalid,
        conntrack.stale,
        endpoints.directly,
        endpoints.through,
        proxy.sync_errors,
    ),
)
