"""Asks the daemon, on its unix socket."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from kpx.net import Family
from kpx.proxier.frontends import Frontends
from kpx.proxier.published import Listed, Status
from kpx.tools.errors import ToolError

T = TypeVar("T")


class NoDaemon(ToolError):
    """There is no daemon to ask, or it may not be asked; the text says which."""


class Daemon:
    """A daemon that can be asked. All methods raise `NoDaemon`, and `ToolError` for an answer that is none."""

    def __init__(self, path: Path, seconds: float) -> None:
        self._path = path
        self._seconds = seconds

    def status(self) -> Status:
        return self._ask("/v1/status", Status)

    def frontends(
        self, name: str = "", namespace: str = "", address: str = "", port: int = 0
    ) -> list[tuple[Family, Frontends]]:
        """The service ports as the daemon wants them served: all, or those that are so named and that answer there."""
        asked = {"name": name, "namespace": namespace, "address": address, "port": port or ""}
        query = urlencode({key: value for key, value in asked.items() if value})
        return [(one.family, one.read()) for one in self._ask(f"/v1/frontends?{query}", Listed).frontends]

    def syncs(self) -> Listed:
        """The last syncs."""
        return self._ask("/v1/syncs", Listed)

    def drift(self) -> Listed:
        """What others did to the rules lately."""
        return self._ask("/v1/drift", Listed)

    def rejected(self) -> Listed:
        """What is left out, and which addresses older Services have."""
        return self._ask("/v1/rejected", Listed)

    def _ask(self, path: str, kind: type[T]) -> T:
        connection = http.client.HTTPConnection("kpx", timeout=self._seconds)
        try:
            connection.sock = self._connected()
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ToolError(f"the daemon at {self._path} does not answer: {error or type(error).__name__}") from error
        finally:
            connection.close()
        try:
            if answer.status != http.HTTPStatus.OK:
                raise ToolError(f"the daemon at {self._path} answers {answer.status} to {path}: is it of this version?")
            return msgspec.json.decode(body, type=kind)
        except msgspec.MsgspecError as error:
            raise ToolError(f"the answer of the daemon at {self._path} cannot be read: {error}") from error

    def _connected(self) -> socket.socket:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connected.settimeout(self._seconds)
        try:
            connected.connect(str(self._path))
        except PermissionError as error:
            connected.close()
            raise NoDaemon(f"the daemon's socket {self._path} is for root: run it with sudo") from error
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
            connected.close()
            raise NoDaemon(f"no kpx daemon answers at {self._path}") from error
        except OSError:
            connected.close()
            raise
        return connected
