"""What `kpx trace` answers as JSON: stable names, described in docs/trace.md. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from kpx.proxier.frontends import Endpoint
from kpx.proxier.published import API_VERSION
from kpx.tools.cluster import Cluster
from kpx.trace.answer import Answer
from kpx.trace.result import Branch, Ending, Hop, Trace


def document(answers: Sequence[Answer], cluster: Cluster | None, notes: Sequence[str]) -> dict[str, Any]:
    """What ``kpx trace -o json`` prints."""
    return {
        "apiVersion": API_VERSION,
        "source": cluster.source if cluster else "none",
        "node": cluster.node if cluster else "",
        "notes": [*notes],
        "traces": [_answer(one) for one in answers],
    }


def _answer(answer: Answer) -> dict[str, Any]:
    wanted, shares = answer.question.wanted, answer.shares
    return {
        **_trace(answer.trace),
        "service": None
        if wanted is None
        else {
            "namespace": wanted.port.port.namespace,
            "name": wanted.port.port.name,
            "port": wanted.port.port.port,
            "kind": wanted.frontend.kind.value,
            "scope": wanted.frontend.scope.value,
            "verdict": wanted.frontend.verdict.value,
            "masquerade": wanted.frontend.masquerade.value,
        },
        "endpoints": [_endpoint(one, shares) for one in answer.endpoints],
        "flows": {
            "count": answer.flows.count,
            "complete": answer.flows.complete,
            "shown": msgspec.to_builtins(answer.flows.shown),
        },
        "differences": None
        if answer.differences is None
        else [{"sort": one.sort.value, "text": one.text} for one in answer.differences],
    }


def _endpoint(one: Endpoint, shares: Mapping[str, float | None]) -> dict[str, Any]:
    share = shares.get(str(one), 0.0)
    return {
        "ip": one.ip,
        "port": one.port,
        "ready": one.ready,
        "serving": one.serving,
        "terminating": one.terminating,
        "local": one.local,
        "reached": str(one) in shares,
        "share": None if share is None else round(share, 9),
    }


def _trace(trace: Trace) -> dict[str, Any]:
    sender = trace.sender
    return {
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
        "hops": [hop_document(hop) for hop in trace.hops],
        "branches": [_branch(branch) for branch in trace.branches],
        "notes": list(trace.notes),
    }


def hop_document(hop: Hop) -> dict[str, Any]:
    """A hop, in whatever document."""
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
        "hops": [hop_document(hop) for hop in branch.hops],
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


def encode(answers: Sequence[Answer], cluster: Cluster | None, notes: Sequence[str], *, indented: bool = True) -> str:
    """The document, indented, or in one line."""
    # Rules of others hold whatever bytes they like: what is no text is shown as a question mark.
    text = msgspec.json.encode(printable(document(answers, cluster, notes)))
    return (msgspec.json.format(text, indent=2) if indented else text).decode()


def printable(value: Any) -> Any:
    """A document with nothing in it that is no text."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {key: printable(item) for key, item in value.items()}
    return [printable(item) for item in value] if isinstance(value, list) else value
