"""The HTTP server, through real sockets on loopback."""

from __future__ import annotations

import errno
import http.client
import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kpx.net import Family
from kpx.proxier.http_messages import NOT_FOUND, BadRequest, Request, Response, parse_head
from kpx.proxier.http_server import HTTPServer, ListenError


def echo(request: Request) -> Response:
    if request.path == "/fault":
        raise RuntimeError("planted")
    told = f"{request.method} {request.path} {dict(request.query)} {request.body!r}"
    return Response(told.encode(), headers={"X": "1"})


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    one = HTTPServer(retry_seconds=0.02)
    yield one
    one.close()


@pytest.fixture
def port(server: HTTPServer) -> int:
    return server.listen("127.0.0.1", 0, echo).port


def get(port: int, host: str = "127.0.0.1", path: str = "/") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def say(port: int, request: bytes) -> bytes:
    """Send bytes and read until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(4096), b""))


def ended(connection: socket.socket) -> bool:
    """Whether the server ends the connection, in good order or by a reset, without another word."""
    try:
        return connection.recv(4096) == b""
    except ConnectionResetError:
        return True


def test_many_requests_of_any_method_on_one_connection(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        for method, body in (("GET", None), ("PUT", b"4"), ("DELETE", None), ("BREW", None)):
            connection.request(method, "/a%20b?x=1&y", body)
            answer = connection.getresponse()
            assert answer.read().decode() == f"{method} /a b {{'x': '1', 'y': ''}} {body or b''!r}"
            assert answer.getheader("X-Content-Type-Options") == "nosniff"
            assert answer.getheader("Content-Type") == "text/plain; charset=utf-8"
    finally:
        connection.close()


def test_the_headers_are_in_gos_order(port: int) -> None:
    head = say(port, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").partition(b"\r\n\r\n")[0].decode()
    status, *headers = head.split("\r\n")
    assert status == "HTTP/1.1 200 OK"
    assert [line.partition(":")[0] for line in headers] == [
        "Connection",
        "Content-Type",
        "X",
        "X-Content-Type-Options",
        "Date",
        "Content-Length",
    ]


def test_head_has_the_length_but_no_body(port: int) -> None:
    head, _, body = say(port, b"HEAD / HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")
    assert f"Content-Length: {len('HEAD / {} b' + repr(''))}" in head.decode()
    assert body == b""


def test_http_1_0_closes_unless_asked_not_to(port: int) -> None:
    twice = b"GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n"
    assert say(port, twice).count(b"200 OK") == 2


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET http://[ HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nNo colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nSpace : 1\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
    ],
)
def test_what_is_no_request_is_answered_and_the_connection_closed(port: int, request_: bytes, status: int) -> None:
    assert say(port, request_).startswith(f"HTTP/1.1 {status} ".encode())


def test_a_head_without_end_ends_the_connection_alone(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000)
        assert ended(connection)
    assert get(port)[0] == 200


def test_a_handler_that_fails_is_logged_and_answered(port: int, caplog: pytest.LogCaptureFixture) -> None:
    assert get(port, path="/fault") == (500, b"500 Internal Server Error\n")
    assert "GET /fault failed" in caplog.text
    assert get(port)[0] == 200


def test_hundreds_of_ports_and_silent_connections_take_one_thread(server: HTTPServer) -> None:
    threads = threading.active_count()
    ports = [server.listen("127.0.0.1", 0, lambda _, n=n: Response(str(n).encode())).port for n in range(200)]
    silent = [socket.create_connection(("127.0.0.1", port)) for port in ports[:50]]
    try:
        assert [get(port) for port in ports] == [(200, str(n).encode()) for n in range(200)]
        assert threading.active_count() == threads
    finally:
        for connection in silent:
            connection.close()


def test_a_closed_port_is_free_at_once_and_its_connections_end(server: HTTPServer) -> None:
    listener = server.listen("127.0.0.1", 0, echo)
    with socket.create_connection(("127.0.0.1", listener.port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert connection.recv(4096)
        listener.close()
        assert ended(connection)
    with pytest.raises(ConnectionRefusedError):
        get(listener.port)
    assert server.listen("127.0.0.1", listener.port, lambda _: NOT_FOUND).port == listener.port
    assert get(listener.port) == (404, b"404 page not found\n")


def test_an_unspecified_address_serves_both_families_unless_one_is_named(server: HTTPServer) -> None:
    both = server.listen("0.0.0.0", 0, echo).port
    assert get(both, "127.0.0.1")[0] == get(both, "::1")[0] == 200
    port = server.listen("0.0.0.0", 0, lambda _: Response(b"4"), family=Family.IPV4).port
    server.listen("::", port, lambda _: Response(b"6"), family=Family.IPV6)
    assert (get(port, "127.0.0.1")[1], get(port, "::1")[1]) == (b"4", b"6")


def test_a_port_that_is_taken_is_named(server: HTTPServer, port: int) -> None:
    with pytest.raises(ListenError) as refused:
        server.listen("127.0.0.1", port, echo)
    assert refused.value.errno == errno.EADDRINUSE
    assert str(refused.value) == f"cannot listen on 127.0.0.1:{port}: Address already in use"


def test_a_port_that_becomes_free_is_served(server: HTTPServer, caplog: pytest.LogCaptureFixture) -> None:
    holder = socket.create_server(("127.0.0.1", 0))
    port = holder.getsockname()[1]
    with holder:
        server.keep_trying("127.0.0.1", port, echo, "metrics server")
        assert f"metrics server: cannot listen on 127.0.0.1:{port}: Address already in use; trying" in caplog.text
    deadline = time.monotonic() + 10
    while True:
        try:
            assert get(port)[0] == 200
            break
        except ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_free_port_is_served_at_once(server: HTTPServer, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
    server.keep_trying("127.0.0.1", port, echo, "metrics server")
    assert get(port)[0] == 200
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_closing_ends_attempts_connections_and_the_thread() -> None:
    before = threading.active_count()
    server = HTTPServer()
    port = server.listen("127.0.0.1", 0, echo).port
    server.keep_trying("127.0.0.1", port, echo, "another")
    with socket.create_connection(("127.0.0.1", port)):
        server.close()
    assert threading.active_count() == before


def test_bad_requests_tell_their_status() -> None:
    with pytest.raises(BadRequest, match="Bad Request"):
        parse_head(b"\r\n\r\n")


# Long answers, and the unix socket


def counted(request: Request) -> Response:
    def parts() -> Iterator[bytes]:
        for number in range(3):
            yield b"%d" % number
            yield b""
            if request.path == "/fault":
                raise RuntimeError("planted")

    return Response(b"from ", parts=parts())


def test_a_long_answer_comes_in_parts(server: HTTPServer) -> None:
    port = server.listen("127.0.0.1", 0, counted).port

    assert get(port) == (200, b"from 012")
    assert say(port, b"GET / HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\nfrom 012")
    assert say(port, b"HEAD / HTTP/1.1\r\nConnection: close\r\n\r\n").endswith(b"Transfer-Encoding: chunked\r\n\r\n")


def test_a_fault_in_the_middle_of_an_answer_shows(server: HTTPServer, caplog: pytest.LogCaptureFixture) -> None:
    port = server.listen("127.0.0.1", 0, counted).port

    with pytest.raises(http.client.IncompleteRead):
        get(port, path="/fault")
    assert "GET /fault failed" in caplog.text
    assert get(port) == (200, b"from 012")


def test_a_unix_socket_is_served_as_soon_as_it_can_be(
    server: HTTPServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "kpx.sock"
    path.write_text("in the way")
    server.offer(path, echo, "the tools' socket")
    time.sleep(0.1)
    path.unlink()

    deadline = time.monotonic() + 5
    while not path.is_socket() and time.monotonic() < deadline:
        time.sleep(0.01)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(str(path))
        connection.sendall(b"GET /here HTTP/1.0\r\n\r\n")
        assert b"GET /here" in b"".join(iter(lambda: connection.recv(4096), b""))
    assert caplog.text.count("is there and is no socket") == 1
