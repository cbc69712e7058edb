"""The health-check node ports of Services, through real sockets on loopback."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator

import pytest

from kpx.net import Family
from kpx.proxier.frontends import ServiceName
from kpx.proxier.health import ProxyHealth
from kpx.proxier.health_servers import ServiceHealthServers
from kpx.proxier.http_server import HTTPServer, ListenError

EDGE, API = ServiceName("shop", "edge"), ServiceName("shop", "api")


@pytest.fixture
def http_server() -> Iterator[HTTPServer]:
    server = HTTPServer()
    yield server
    server.close()


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def health(clock: list[float]) -> ProxyHealth:
    return ProxyHealth(30, lambda: clock[0])


@pytest.fixture
def failures() -> list[tuple[ServiceName, int, ListenError]]:
    return []


@pytest.fixture
def servers(
    http_server: HTTPServer, health: ProxyHealth, failures: list[tuple[ServiceName, int, ListenError]]
) -> ServiceHealthServers:
    return ServiceHealthServers(
        Family.IPV4, http_server, health, lambda *failure: failures.append(failure), ["127.0.0.2", "127.0.0.3"]
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.2", 0)) as holder:
        return int(holder.getsockname()[1])


def get(port: int, host: str = "127.0.0.2") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    connection.request("POST", "/any/path")
    answer = connection.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


def is_open(port: int, host: str = "127.0.0.2") -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_load_balancer_learns_the_number_of_local_endpoints(servers: ServiceHealthServers) -> None:
    port = free_port()
    servers.sync({EDGE: port}, {EDGE: 3})
    for host in ("127.0.0.2", "127.0.0.3"):
        answer = get(port, host)
        assert answer.status == 200
        assert answer.getheader("Content-Type") == "application/json"
        assert answer.getheader("X-Load-Balancing-Endpoint-Weight") == "3"
    servers.sync({EDGE: port}, {})
    answer = get(port)
    assert (answer.status, answer.getheader("X-Load-Balancing-Endpoint-Weight")) == (503, "0")
    assert b'"localEndpoints": 0' in answer.body  # type: ignore[attr-defined]


def test_a_proxier_that_lags_behind_gets_no_traffic(
    servers: ServiceHealthServers, health: ProxyHealth, clock: list[float]
) -> None:
    port = free_port()
    servers.sync({EDGE: port}, {EDGE: 1})
    health.updated(Family.IPV4)
    health.queued(Family.IPV4)
    clock[0] = 60
    answer = get(port)
    assert answer.status == 503
    assert b'"serviceProxyHealthy": false' in answer.body  # type: ignore[attr-defined]


def test_ports_come_go_and_move(servers: ServiceHealthServers) -> None:
    first, second, third = free_port(), free_port(), free_port()
    servers.sync({EDGE: first, API: second}, {EDGE: 1, API: 2})
    assert get(second).getheader("X-Load-Balancing-Endpoint-Weight") == "2"
    servers.sync({EDGE: third}, {EDGE: 1})
    assert [is_open(port) for port in (first, second, third)] == [False, False, True]
    servers.sync({EDGE: second, API: third}, {EDGE: 1, API: 2})
    assert get(third).getheader("X-Load-Balancing-Endpoint-Weight") == "2"
    servers.close()
    assert not is_open(second)
    assert not is_open(third)


def test_a_port_taken_on_one_address_is_open_on_none_and_tried_again(
    servers: ServiceHealthServers, failures: list[tuple[ServiceName, int, ListenError]]
) -> None:
    with socket.create_server(("127.0.0.3", 0)) as holder:
        port = holder.getsockname()[1]
        servers.sync({EDGE: port}, {EDGE: 1})
        assert not is_open(port)
        service, tried, error = failures.pop()
        assert (service, tried) == (EDGE, port)
        assert str(error) == f"cannot listen on 127.0.0.3:{port}: Address already in use"
    servers.sync({EDGE: port}, {EDGE: 1})
    assert failures == []
    assert is_open(port)
    assert is_open(port, "127.0.0.3")


def test_without_addresses_to_listen_on_nothing_fails(
    http_server: HTTPServer, health: ProxyHealth, failures: list[tuple[ServiceName, int, ListenError]]
) -> None:
    port = free_port()
    ServiceHealthServers(Family.IPV4, http_server, health, lambda *failure: failures.append(failure), []).sync(
        {EDGE: port}, {EDGE: 1}
    )
    assert failures == []
    assert not is_open(port)


def test_each_family_has_its_own_port_and_count(http_server: HTTPServer, health: ProxyHealth) -> None:
    port = free_port()
    for family, count in ((Family.IPV4, 4), (Family.IPV6, 6)):
        ServiceHealthServers(family, http_server, health, pytest.fail).sync({EDGE: port}, {EDGE: count})
    weights = [get(port, host).getheader("X-Load-Balancing-Endpoint-Weight") for host in ("127.0.0.1", "::1")]
    assert weights == ["4", "6"]
