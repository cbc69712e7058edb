"""A trace as JSON: stable names, described in docs/trace.md. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from kpx.trace.result import Branch, Ending, Hop, Trace

VERSION = 1


def document(trace: Trace) -> dict[str, Any]:
    """What ``kpx trace -o json`` prints."""
    sender = trace.sender
    return {
        "version": VERSION,
        "target": {
            "name": trace.target.name,
            "address": trace.destination,
            "port": trace.target.port,
            "protocol": trace.target.protocol,
        },
        "sender": {
            "kind": sender.kind,
            "address": sender.address,
            "interface": sender.interface,
            "note": sender.note,
        },
        "proxies": list(trace.proxies),
        "certain": trace.certain,
        "affinity": trace.affinity,
        "hops": [_hop(hop) for hop in trace.hops],
        "branches": [_branch(branch) for branch in trace.branches],
        "notes": list(trace.notes),
    }


def _hop(hop: Hop) -> dict[str, Any]:
    return {
        "hook": hop.hook,
        "table": hop.table,
        "chain": hop.chain,
        "rule": hop.rule,
        "packets": hop.packets,
        "result": hop.result.value,
        "note": hop.note,
        "telling": hop.telling,
    }


def _branch(branch: Branch) -> dict[str, Any]:
    return {
        "share": None if branch.share is None else round(branch.share, 9),
        "remembered": branch.remembered,
        "unknown": list(branch.unknown),
        "hops": [_hop(hop) for hop in branch.hops],
        "ending": _ending(branch.ending),
    }


def _ending(ending: Ending) -> dict[str, Any]:
    return {
        "verdict": ending.verdict.value,
        "reason": ending.reason,
        "hook": ending.hook,
        "destination": ending.destination,
        "port": ending.port,
        "translated": ending.translated,
        "source": ending.source,
        "masqueraded": ending.masqueraded,
        "source_port": "random" if ending.random_port else "kept",
        "astray": ending.astray,
        "interface": ending.interface,
    }


def encode(trace: Trace) -> str:
    """The document, indented."""
    # Rules of others hold whatever bytes they like: what is no text is shown as a question mark.
    text = msgspec.json.format(msgspec.json.encode(_printable(document(trace))), indent=2)
    return text.decode()


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {key: _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list) else value
