"""A flow as JSON: stable names, described in docs/trace.md. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from kpx.proxier.published import API_VERSION
from kpx.trace.document import hop_document, printable
from kpx.trace.live.flow import End, Flow


def document(flow: Flow) -> dict[str, Any]:
    """What ``kpx trace --live -o json`` prints in one line."""
    return {
        "apiVersion": API_VERSION,
        "time": datetime.fromtimestamp(flow.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "protocol": flow.protocol,
        "client": _end(flow.client),
        "target": {"name": flow.name, "address": flow.target.address, "port": flow.target.port},
        "backend": _end(flow.backend),
        "source": _end(flow.source),
        "translated": flow.translated,
        "masqueraded": flow.masqueraded,
        "interface": flow.incoming,
        "packets": flow.packets,
        "outcome": flow.outcome.value,
        "reason": flow.reason,
        "hops": [hop_document(hop) for hop in flow.hops],
        "answer_hops": [hop_document(hop) for hop in flow.answer_hops],
    }


def _end(end: End | None) -> dict[str, Any] | None:
    return None if end is None else {"address": end.address, "port": end.port}


def encode(flow: Flow) -> str:
    """The document, in one line."""
    return msgspec.json.encode(printable(document(flow))).decode()
