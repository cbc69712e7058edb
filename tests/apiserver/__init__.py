"""A small Kubernetes API server, real enough for a client: HTTP, TLS, lists, watches, and faults to order."""

from __future__ import annotations

from tests.apiserver.faults import Failure, Request
from tests.apiserver.server import ApiServer
from tests.apiserver.store import Cut

__all__ = ["ApiServer", "Cut", "Failure", "Request"]
