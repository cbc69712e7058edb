"""The unix socket: who may use it, and what stands in its place."""

from __future__ import annotations

import os
import re
import socket
import stat
from pathlib import Path

import pytest

from kpx.proxier import unix_socket
from kpx.proxier.unix_socket import SocketTaken


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kpx" / "kpx.sock"


def test_folder_and_socket_are_their_owners_alone(path: Path) -> None:
    with unix_socket.listen(path, 1):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_socket_of_a_dead_process_is_replaced(path: Path) -> None:
    unix_socket.listen(path, 1).close()
    with unix_socket.listen(path, 1) as server, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        server.accept()[0].close()


def test_the_socket_of_a_living_process_is_left_alone(path: Path) -> None:
    with unix_socket.listen(path, 1):
        before = path.stat().st_ino
        with pytest.raises(SocketTaken, match=re.escape(f"another daemon, process {os.getpid()}, serves {path}")):
            unix_socket.listen(path, 1)
        assert path.stat().st_ino == before


def test_a_busy_process_lives(path: Path) -> None:
    with unix_socket.listen(path, 0), socket.socket(socket.AF_UNIX) as first:
        first.connect(str(path))
        with pytest.raises(SocketTaken, match="another daemon serves"):
            unix_socket.listen(path, 0)


def test_a_file_in_its_place_is_not_removed(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("mine")
    with pytest.raises(SocketTaken, match="is no socket: remove it"):
        unix_socket.listen(path, 1)
    assert path.read_text() == "mine"


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KPX_SOCKET", raising=False)
    assert unix_socket.tool_socket() == Path("/run/kpx/kpx.sock")
    monkeypatch.setenv("KPX_SOCKET", "/tmp/other.sock")
    assert unix_socket.tool_socket() == Path("/tmp/other.sock")
