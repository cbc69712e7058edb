"""A probe as text and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from kpx.net import join_port
from kpx.proxier.published import API_VERSION
from kpx.trace.document import printable
from kpx.trace.live.document import document as flow_document
from kpx.trace.live.flow import Flow
from kpx.trace.live.probe import Probe
from kpx.trace.live.sending import Answer, Got
from kpx.trace.text import Style, hop_lines, wrapped

_COLOURS = {Answer.ANSWERED: "good"}
_LABEL = 12
_NEVER_CAME = (
    "it has not come to this node's rules: it was lost on its way here, in its sender's own network namespace or "
    "behind it"
)


def render(probe: Probe, style: Style) -> str:
    """Each leg of the way in a line, the rules between them."""
    target = probe.target
    name = f" ({target.name})" if target.name else ""
    to = f"{target.protocol} to {join_port(target.address, target.port)}{name}"
    lines = [*_leg("sent", f"{to} from {_sender(probe)}", style)]
    lines += _way(probe.flow, style) if probe.flow else _leg("lost", _NEVER_CAME, style)
    lines += [style.paint(line, _COLOURS.get(probe.got.answer, "bad")) for line in _answer(probe.got, style)]
    return "\n".join(lines)


def _sender(probe: Probe) -> str:
    where = str(probe.flow.client) if probe.flow else f"port {probe.port}"
    return f"{where}, {probe.place.name}"


def _way(flow: Flow, style: Style) -> Iterator[str]:
    if flow.incoming:
        yield from _leg("came in", f"by {flow.incoming}", style)
    yield from hop_lines(flow.hops, style)
    if flow.backend is not None:
        yield from _leg("translated", f"to {flow.backend}" if flow.translated else "by no rule", style)
        masqueraded = " (masqueraded)" if flow.masqueraded else ""
        yield from _leg("sent on", f"as {flow.source}{masqueraded}", style)
    again = f", sent {flow.packets} times" if flow.packets > 1 else ""
    because = f": {flow.reason}" if flow.reason else ""
    yield from _leg("this node", f"{flow.outcome.value}{because}{again}", style)


def _answer(got: Got, style: Style) -> Iterator[str]:
    if got.answer is Answer.TIMEOUT:
        return _leg("sender got", f"{got.detail or 'nothing'}, for {got.seconds:.1f} s", style)
    after = f"{got.answer.value} after {_milliseconds(got.seconds)}"
    asked = f" (HTTP: {_milliseconds(got.request_seconds)} more)" if got.request_seconds is not None else ""
    return _leg("sender got", f"{after}{f': {got.detail}' if got.detail else ''}{asked}", style)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _leg(label: str, text: str, style: Style) -> Iterator[str]:
    return wrapped(text, style, f"{label:<{_LABEL}}", " " * _LABEL)


def document(probes: Sequence[Probe]) -> dict[str, Any]:
    """What ``kpx trace --probe -o json`` prints."""
    return {"apiVersion": API_VERSION, "probes": [_document(one) for one in probes]}


def _document(probe: Probe) -> dict[str, Any]:
    got = probe.got
    return {
        "target": {
            "name": probe.target.name,
            "address": probe.target.address,
            "port": probe.target.port,
            "protocol": probe.target.protocol,
        },
        "sender": {"place": probe.place.name, "port": probe.port},
        "flow": flow_document(probe.flow) if probe.flow else None,
        "answer": {
            "result": got.answer.value,
            "seconds": round(got.seconds, 6),
            "detail": got.detail,
            "request_seconds": None if got.request_seconds is None else round(got.request_seconds, 6),
        },
    }


def encode(probes: Sequence[Probe]) -> str:
    """The document, indented."""
    return msgspec.json.format(msgspec.json.encode(printable(document(probes))), indent=2).decode()
