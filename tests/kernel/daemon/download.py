"""A running download through a Service: one connection that is never idle, every byte of which is checked."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

from kpx.lab import Lab, namespaces
from tests.kernel.daemon.process import DEADLINE_SECONDS

_POD, _CLIENT = "b12", "a11"
_ADDRESS, _PORT, _POD_PORT = "10.96.100.77", 80, 9000
_PERIOD = bytes(range(251))  # no divisor of any block's size: a block out of place does not match
_BLOCK_BYTES = 64 * 1024
_BLOCKS = _PERIOD * (_BLOCK_BYTES // len(_PERIOD) + 2)
_PAUSE_SECONDS = 0.002
_ENOUGH_BYTES = 16 * _BLOCK_BYTES


def download_objects() -> list[dict[str, Any]]:
    """The Service that the download goes through."""
    name = {"namespace": "shop", "name": "download"}
    labels = {"kubernetes.io/service-name": "download"}
    ports = [{"name": "bulk", "protocol": "TCP", "port": _PORT, "targetPort": _POD_PORT}]
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": name, "spec": {"clusterIP": _ADDRESS, "ports": ports}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**name, "labels": labels},
            "addressType": "IPv4",
            "ports": [{"name": "bulk", "protocol": "TCP", "port": _POD_PORT}],
            "endpoints": [{"addresses": ["10.244.22.12"], "nodeName": "node-b", "conditions": {"ready": True}}],
        },
    ]


class Download:
    """How far the download is, and what went wrong."""

    def __init__(self) -> None:
        self.received = 0
        self.broken = ""

    def more(self) -> None:
        """Wait until a megabyte more has come."""
        enough, deadline = self.received + _ENOUGH_BYTES, time.monotonic() + DEADLINE_SECONDS
        while self.received < enough:
            assert not self.broken, self.broken
            assert time.monotonic() < deadline, f"the download hangs after {self.received} bytes"
            time.sleep(_PAUSE_SECONDS)

    def run(self, connection: socket.socket, stop: threading.Event) -> None:
        """Receive, and compare with what was sent, until stopped."""
        try:
            while not stop.is_set():
                data = connection.recv(_BLOCK_BYTES)
                start = self.received % len(_PERIOD)
                if not data or data != _BLOCKS[start : start + len(data)]:
                    raise OSError("it ended" if not data else "bytes are missing or wrong")
                self.received += len(data)
        except OSError as error:
            self.broken = f"the download broke after {self.received} bytes: {error!r}"


def _serve(listener: socket.socket, stop: threading.Event) -> None:
    """Send to the first client for as long as it takes, some megabytes a second. What breaks, the client tells."""
    connection, _ = listener.accept()
    sent = 0
    with closing(connection), suppress(OSError):
        connection.settimeout(DEADLINE_SECONDS)
        while not stop.wait(_PAUSE_SECONDS):
            start = sent % len(_PERIOD)
            connection.sendall(_BLOCKS[start : start + _BLOCK_BYTES])
            sent += _BLOCK_BYTES


@contextmanager
def downloading(lab: Lab) -> Iterator[Download]:
    """A download for as long as the block lasts; at its end it is checked that it never broke."""
    download, stop, done = Download(), threading.Event(), threading.Event()
    with namespaces.entered(lab.namespace(_POD)):
        listener = socket.create_server(("", _POD_PORT))
    with namespaces.entered(lab.namespace(_CLIENT)):
        client = socket.socket()
    with closing(listener), closing(client):
        client.settimeout(DEADLINE_SECONDS)
        client.connect((_ADDRESS, _PORT))
        receiver = threading.Thread(target=download.run, args=(client, stop))
        sender = threading.Thread(target=_serve, args=(listener, done))
        sender.start()
        receiver.start()
        try:
            download.more()
            yield download
            download.more()
        finally:
            stop.set()
            receiver.join()
            done.set()
            client.close()
            sender.join()
    assert not download.broken, download.broken
