"""Running a command in a pod, as `kubectl exec` does: a WebSocket whose messages begin with the number of a channel."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import msgspec
import websocket
from kubernetes.stream.ws_client import ERROR_CHANNEL, STDERR_CHANNEL, STDOUT_CHANNEL, WSClient

from kpx.cluster.events import ClusterError
from kpx.cluster.kubernetes.credentials import Access
from kpx.cluster.wire import status


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ended: its exit status and what it wrote."""

    status: int
    stdout: bytes
    stderr: bytes


class _Cause(msgspec.Struct):
    reason: str = ""
    message: str = ""


class _Details(msgspec.Struct):
    causes: list[_Cause] = []


class _Ended(msgspec.Struct):
    status: str = ""
    message: str = ""
    details: _Details = msgspec.field(default_factory=_Details)


def execute(
    access: Access,
    authorization: str | None,
    namespace: str,
    pod: str,
    container: str,
    command: list[str],
    seconds: float,
) -> Finished:
    """Run a command and wait for its end, for so many seconds at most. Raises `ClusterError`.

    `authorization` is the header that `access` gives, asked for once for many pods.
    """
    query = [("container", container), ("stdout", "true"), ("stderr", "true"), *(("command", one) for one in command)]
    url = f"{access.url.replace('http', 'ws', 1)}/api/v1/namespaces/{namespace}/pods/{pod}/exec?{urlencode(query)}"
    try:
        client = _talked(access, authorization, url, time.monotonic() + seconds)
    except websocket.WebSocketBadStatusException as error:
        raise ClusterError(_refusal(error)) from error
    except (OSError, websocket.WebSocketException) as error:
        raise ClusterError(f"the connection to {pod} broke: {error or type(error).__name__}") from error
    if client is None:
        raise ClusterError(f"no answer within {seconds:g} s")
    return _finished(client)


def _talked(access: Access, authorization: str | None, url: str, deadline: float) -> Any:
    """The client when all has been said, or None if that was not within the time."""
    # The client has no other way to limit how long a connect may take.
    websocket.setdefaulttimeout(deadline - time.monotonic())
    headers = {"authorization": authorization} if authorization else {}
    client: Any = WSClient(access.configuration, url, headers, capture_all=False, binary=True)  # type: ignore[no-untyped-call]
    try:
        while client.is_open():
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            client.update(timeout=left)
    finally:
        client.sock.shutdown()
    return client


def _finished(client: Any) -> Finished:
    ended = client.read_channel(ERROR_CHANNEL)
    try:
        told = msgspec.json.decode(ended, type=_Ended)
    except msgspec.MsgspecError as error:
        raise ClusterError("the connection ended before the command did") from error
    return Finished(_exit_status(told), client.read_channel(STDOUT_CHANNEL), client.read_channel(STDERR_CHANNEL))


def _exit_status(told: _Ended) -> int:
    if told.status == "Success":
        return 0
    code = next((one.message for one in told.details.causes if one.reason == "ExitCode"), "")
    if not code.isdecimal():
        raise ClusterError(told.message or "the command could not be started")
    return int(code)


def _refusal(error: websocket.WebSocketBadStatusException) -> str:
    said = status(error.resp_body or b"")
    remedy = ": bind the ClusterRole kpx:operator to this account" if error.status_code == 403 else ""
    return f"the API server answers {error.status_code}{f' ({said.message})' if said.message else ''}{remedy}"
