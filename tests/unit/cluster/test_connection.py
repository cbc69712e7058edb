"""Credentials, TLS and errors of the connection to an API server."""

from __future__ import annotations

import base64
import os
import socket
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.config import incluster_config

from kpx.cluster.events import ClusterError
from kpx.cluster.kubernetes import Connection, connection
from kpx.cluster.kubernetes.connection import RateLimit
from kpx.cluster.kubernetes.errors import Refused, Unreachable
from tests.apiserver import ApiServer, Failure
from tests.unit.cluster.conftest import Authority, new_authority, write_kubeconfig
from tests.unit.cluster.objects import service, wait_until

SERVICES = "/api/v1/services"


def data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def connect(kubeconfig: str = "", master: str = "") -> Connection:
    return Connection.from_config(kubeconfig, master, qps=-1)


@pytest.fixture
def tls_server(authority: Authority) -> ApiServer:
    return ApiServer(tls=authority.server_context())


# What the configuration says


def test_a_token_in_a_kubeconfig(server: ApiServer, tmp_path: Path) -> None:
    server.faults.tokens = {"secret"}
    assert b"ServiceList" in connect(write_kubeconfig(tmp_path, server.url, user={"token": "secret"})).get(SERVICES)


def test_a_token_file_is_read_again_when_its_token_no_longer_does(server: ApiServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    server.faults.tokens = {"first"}
    connection = connect(write_kubeconfig(tmp_path, server.url, user={"tokenFile": "token"}))
    connection.get(SERVICES)
    token.write_text("second\n")
    server.faults.tokens = {"second"}
    connection.get(SERVICES)
    assert [request.headers["Authorization"] for request in server.requests] == [
        "Bearer first",
        "Bearer first",
        "Bearer second",
    ]


@pytest.mark.parametrize("content", ["only words\n", "- a\n- list\n"])
def test_a_file_that_is_no_kubeconfig_is_told_without_the_words_of_python(tmp_path: Path, content: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    with pytest.raises(ClusterError, match="cannot be used: it has not the form of a kubeconfig; check --kubeconfig"):
        connect(str(path))


@pytest.mark.parametrize("inline", [False, True])
def test_a_client_certificate_and_a_ca(
    authority: Authority, tls_server: ApiServer, tmp_path: Path, inline: bool
) -> None:
    certificate, client_key = authority.issue("client", "extendedKeyUsage=clientAuth")
    ca = authority.certificate
    user = {"client-certificate": str(certificate), "client-key": str(client_key)}
    cluster = {"certificate-authority": str(ca)}
    if inline:
        user = {"client-certificate-data": data(certificate), "client-key-data": data(client_key)}
        cluster = {"certificate-authority-data": data(ca)}
    tls_server.faults.tokens = set()
    with tls_server:
        connection = connect(write_kubeconfig(tmp_path, tls_server.url, user=user, cluster=cluster))
        assert b"ServiceList" in connection.get(SERVICES)
        with pytest.raises(Refused, match="401"):
            connect(write_kubeconfig(tmp_path, tls_server.url, cluster=cluster)).get(SERVICES)


def test_a_certificate_that_is_renewed_is_used(authority: Authority, tls_server: ApiServer, tmp_path: Path) -> None:
    """Temporary files with the kubeconfig's inline data may be cleaned away under a daemon that runs for weeks."""
    certificate, client_key = authority.issue("renewed", "extendedKeyUsage=clientAuth")
    here = [tmp_path / "client.crt", tmp_path / "client.key"]
    for source, target in zip((certificate, client_key), here, strict=True):
        target.write_bytes(source.read_bytes())
    user = {"client-certificate": str(here[0]), "client-key": str(here[1])}
    cluster = {"certificate-authority": str(authority.certificate)}
    tls_server.faults.tokens = set()
    with tls_server:
        connection = connect(write_kubeconfig(tmp_path, tls_server.url, user=user, cluster=cluster))
        here[0].unlink()
        with pytest.raises(ClusterError, match=r"client\.crt"):
            connection.get(SERVICES)
        here[0].write_bytes(certificate.read_bytes())
        assert b"ServiceList" in connection.get(SERVICES)


def exec_user(tmp_path: Path, script: str) -> dict[str, object]:
    plugin = tmp_path / "plugin"
    plugin.write_text(f"#!/bin/sh\n{script}\n")
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    return {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin), "interactiveMode": "Never"}
    }


GIVE_TOKEN = """
echo run >>"$(dirname "$0")/runs"
token=$(cat "$(dirname "$0")/next") || exit 1
echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"'"$token"'"}}'
"""


def test_an_exec_plugin_runs_again_when_its_token_no_longer_does(server: ApiServer, tmp_path: Path) -> None:
    (tmp_path / "next").write_text("first")
    server.faults.tokens = {"first"}
    connection = connect(write_kubeconfig(tmp_path, server.url, user=exec_user(tmp_path, GIVE_TOKEN)))
    for _ in range(3):
        connection.get(SERVICES)
    assert (tmp_path / "runs").read_text().count("run") == 1
    (tmp_path / "next").write_text("second")
    server.faults.tokens = {"second"}
    threads = [threading.Thread(target=connection.get, args=(SERVICES,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.requests[-1].headers["Authorization"] == "Bearer second"
    connection.get(SERVICES)
    assert (tmp_path / "runs").read_text().count("run") == 2


@pytest.mark.parametrize("code", [401, 403])
def test_an_exec_plugin_that_failed_runs_again(server: ApiServer, tmp_path: Path, code: int) -> None:
    """Without its token we are anonymous, whom a server may just as well forbid."""
    server.fail(Failure(code, "Ordered", "who are you?"), times=2)
    connection = connect(write_kubeconfig(tmp_path, server.url, user=exec_user(tmp_path, GIVE_TOKEN)))
    with pytest.raises(Refused):
        connection.get(SERVICES)
    (tmp_path / "next").write_text("late")
    server.fail(Failure(code, "Ordered", "who are you?"))
    connection.get(SERVICES)
    assert server.requests[-1].headers["Authorization"] == "Bearer late"


def test_what_is_forbidden_to_somebody_is_not_tried_again(server: ApiServer, tmp_path: Path) -> None:
    server.faults.forbidden.add("services")
    connection = connect(write_kubeconfig(tmp_path, server.url, user={"token": "secret"}))
    with pytest.raises(Refused, match="bind the ClusterRole system:node-proxier"):
        connection.get(SERVICES)
    assert len(server.requests) == 1


def test_a_service_account_is_used_in_a_pod(
    authority: Authority, tls_server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority.certificate))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    tls_server.faults.tokens = {"first"}
    with tls_server:
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(tls_server.port))
        connection = connect()
        connection.get(SERVICES)
        token.write_text("second")
        tls_server.faults.tokens = {"second"}
        connection.get(SERVICES)


def test_the_master_flag_overrides_the_kubeconfigs_address(server: ApiServer, tmp_path: Path) -> None:
    server.faults.tokens = {"secret"}
    kubeconfig = write_kubeconfig(tmp_path, "https://192.0.2.1:6443", user={"token": "secret"})
    connection = connect(kubeconfig, f"{server.url}/")
    assert connection.url == server.url
    connection.get(SERVICES)


def test_the_master_flag_may_be_all_there_is(server: ApiServer) -> None:
    connection = connect(master=f"127.0.0.1:{server.port}")
    assert connection.url == server.url
    connection.get(SERVICES)


def test_certificates_need_not_be_checked(tls_server: ApiServer, tmp_path: Path) -> None:
    with tls_server:
        kubeconfig = write_kubeconfig(tmp_path, tls_server.url, cluster={"insecure-skip-tls-verify": True})
        assert b"ServiceList" in connect(kubeconfig).get(SERVICES)


# What is wrong with it


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        ("", "empty"),
        ("{", "expected"),
        ("a: b", "current-context"),
        ("just text", "cannot be used"),
        ("current-context: x\ncontexts: []\nclusters: []\n", "name x"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ClusterError, match=said) as caught:
        connect(str(path))
    assert str(path) in str(caught.value)
    assert "check --kubeconfig" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_kubeconfig_with_a_ca_that_is_not_there(tmp_path: Path) -> None:
    kubeconfig = write_kubeconfig(tmp_path, "https://127.0.0.1:1", cluster={"certificate-authority": "no-ca.crt"})
    with pytest.raises(ClusterError, match=r"no-ca\.crt"):
        connect(kubeconfig)


def test_outside_a_pod_something_must_say_where_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(
        ClusterError, match="KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined"
    ) as said:
        connect()
    assert "--kubeconfig" in str(said.value)


def test_a_pod_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", "/nowhere/token")
    with pytest.raises(ClusterError, match="token file does not exist"):
        connect()


@pytest.mark.parametrize("address", ["https://", "ftp://10.0.0.1", "http://[::1", "https://:6443"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(ClusterError, match="is no address of an API server"):
        connect(master=address)


# What goes wrong on the way


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("address", "said"),
    [("http://no-such-host.invalid:1", "cannot be resolved"), ("http://127.0.0.1:{port}", "Connection refused")],
)
def test_a_server_that_is_not_there(address: str, said: str) -> None:
    with pytest.raises(Unreachable, match=said):
        connect(master=address.format(port=free_port())).get(SERVICES)


def test_a_server_that_takes_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 0.1)
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        with pytest.raises(Unreachable, match="does not take a connection"):
            connect(master=f"http://127.0.0.1:{listener.getsockname()[1]}").get(SERVICES)


def test_a_server_that_goes_silent(server: ApiServer) -> None:
    server.faults.silent = True
    with pytest.raises(Unreachable, match="has gone silent"), connect(master=server.url).stream(SERVICES, {}, 0.1):
        pass


def test_a_server_of_another_authority(tls_server: ApiServer, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    with tls_server:
        ca = {"certificate-authority": str(new_authority(folder).certificate)}
        with pytest.raises(Unreachable, match=r"TLS to .* fails .*check that the CA"):
            connect(write_kubeconfig(tmp_path, tls_server.url, cluster=ca)).get(SERVICES)


def test_tls_to_a_server_that_speaks_none(server: ApiServer) -> None:
    with pytest.raises(Unreachable, match="TLS to"):
        connect(master=server.url.replace("http:", "https:")).get(SERVICES)


def test_something_that_is_no_api_server(server: ApiServer) -> None:
    with pytest.raises(Refused, match="check that this is the address of a Kubernetes API server"):
        connect(master=server.url).get("/elsewhere")


def test_a_stream_over_tls_can_be_interrupted(authority: Authority, tls_server: ApiServer, tmp_path: Path) -> None:
    ca = {"certificate-authority": str(authority.certificate)}
    with tls_server:
        kubeconfig = write_kubeconfig(tmp_path, tls_server.url, cluster=ca)
        connection = connect(kubeconfig)
        lines: list[bytes] = []
        with connection.stream(SERVICES, {"watch": "true", "resourceVersion": "1"}, 30.0) as stream:

            def follow() -> None:
                try:
                    lines.extend(stream.lines())
                except Unreachable:
                    lines.append(b"broken")

            thread = threading.Thread(target=follow)
            thread.start()
            wait_until(tls_server.store.watchers)
            tls_server.put(service("a"))
            stream.interrupt()
            thread.join(5)
            assert not thread.is_alive()


def test_a_stream_that_is_left_is_closed(server: ApiServer) -> None:
    connection = connect(master=server.url)
    server.put(service("a"))
    streams = []
    for _ in range(5):
        with connection.stream(SERVICES, {"watch": "true"}, 5.0) as stream:
            next(stream.lines())
            streams.append(stream)
        assert not sockets_to(server)


def test_the_kernel_probes_a_connection_that_is_idle(server: ApiServer) -> None:
    with connect(master=server.url).stream(SERVICES, {"watch": "true"}, 5.0):
        wait_until(server.store.watchers)
        ((timer, seconds),) = sockets_to(server)
        assert timer == "02", "the keepalive timer"
        assert seconds <= 15


def sockets_to(server: ApiServer) -> list[tuple[str, float]]:
    """The timers of the connections to a server that are established, by their number and seconds to go."""
    remote = f"0100007F:{server.port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    timers = [fields[5].split(":") for fields in lines if fields[2] == remote and fields[3] == "01"]
    return [(timer, int(ticks, 16) / os.sysconf("SC_CLK_TCK")) for timer, ticks in timers]


# The rate


@given(st.lists(st.floats(0, 2), min_size=1, max_size=50), st.floats(0.5, 50), st.integers(1, 10))
def test_the_rate_is_kept_in_the_long_run(gaps: list[float], qps: float, burst: int) -> None:
    now = 0.0
    limit = RateLimit(qps, burst, clock=lambda: now)
    sent = []
    for gap in gaps:
        now += gap
        sent.append(now + limit.reserve())
    assert sent == sorted(sent)
    for first in range(len(sent)):
        for last in range(first, len(sent)):
            assert last - first + 1 <= burst + qps * (sent[last] - sent[first]) + 1e-6


def test_requests_keep_to_the_rate(server: ApiServer) -> None:
    connection = Connection.from_config(master=server.url, qps=50, burst=1)
    for _ in range(4):
        connection.get(SERVICES)
    assert server.requests[-1].at - server.requests[0].at >= 2 / 50


def test_a_burst_goes_at_once_and_what_follows_waits() -> None:
    limit = RateLimit(5.0, 3, clock=lambda: 0.0)
    assert [round(limit.reserve(), 6) for _ in range(5)] == [0, 0, 0, 0.2, 0.4]
    assert [RateLimit(-1, 1, clock=lambda: 0.0).reserve() for _ in range(5)] == [0] * 5
