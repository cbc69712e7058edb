"""The server's side of ``kubectl exec``: a WebSocket (RFC 6455) whose messages begin with the number of a channel."""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import BinaryIO

import msgspec

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PROTOCOL = "v5.channel.k8s.io"
_STDOUT, _STDERR, _ERROR = 1, 2, 3
_BINARY, _CLOSE = 0x2, 0x8
_LARGEST = 32 * 1024  # as the kubelet's copies


@dataclass(frozen=True)
class Execution:
    """How a command ended; a status of None is a connection that breaks before."""

    status: int | None
    stdout: bytes
    stderr: bytes


def accept(handler: BaseHTTPRequestHandler) -> None:
    """Answer the handshake."""
    key = handler.headers["Sec-WebSocket-Key"] + _GUID
    assert _PROTOCOL in handler.headers["Sec-WebSocket-Protocol"]
    handler.send_response(101)
    handler.send_header("Upgrade", "websocket")
    handler.send_header("Connection", "Upgrade")
    handler.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
    handler.send_header("Sec-WebSocket-Protocol", _PROTOCOL)
    handler.end_headers()
    handler.wfile.flush()


def send(output: BinaryIO, done: Execution) -> None:
    """Send all that a command wrote, and how it ended."""
    for channel, data in ((_STDOUT, done.stdout), (_STDERR, done.stderr)):
        for start in range(0, len(data), _LARGEST):
            output.write(_frame(_BINARY, bytes([channel]) + data[start : start + _LARGEST]))
    if done.status is not None:
        output.write(_frame(_BINARY, bytes([_ERROR]) + msgspec.json.encode(_told(done.status))))
        output.write(_frame(_CLOSE, struct.pack(">H", 1000)))
    output.flush()


def _told(status: int) -> dict[str, object]:
    if status == 0:
        return {"metadata": {}, "status": "Success"}
    cause = {"reason": "ExitCode", "message": str(status)}
    message = f"command terminated with non-zero exit code: exit status {status}"
    return {"status": "Failure", "reason": "NonZeroExitCode", "message": message, "details": {"causes": [cause]}}


def _frame(opcode: int, data: bytes) -> bytes:
    head = bytes([0x80 | opcode])
    if len(data) < 126:
        return head + bytes([len(data)]) + data
    return head + bytes([126]) + struct.pack(">H", len(data)) + data
