"""How to reach the API server, and as whom: from a kubeconfig, a pod's service account, or a bare address."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import urllib3
from kubernetes.client.configuration import Configuration
from kubernetes.client.rest import RESTClientObject
from kubernetes.config import load_incluster_config, load_kube_config
from kubernetes.config.config_exception import ConfigException
from kubernetes.utils.keepalive import tcp_keepalive_socket_options

from kpx.cluster.events import ClusterError

# A peer that is gone without a word is found in half a minute, and middle boxes keep an idle watch in mind.
_KEEPALIVE = tcp_keepalive_socket_options(idle=15, interval=5, count=3)


@dataclass(frozen=True)
class Access:
    """An API server's address, connections to it, and the credentials. `origin` names where they are from."""

    url: str
    origin: str
    pool: urllib3.PoolManager
    configuration: Configuration

    @property
    def authenticated(self) -> bool:
        """Whether there are credentials at all (an exec plugin may have given none)."""
        return bool(self.configuration.api_key or self.configuration.cert_file)

    @property
    def identity(self) -> str:
        """As whom we come, for a sentence."""
        given = f"the credentials of {self.origin}"
        return given if self.authenticated else f"a request without credentials ({self.origin} gives none)"

    def authorization(self) -> str | None:
        """The Authorization header; raises `ClusterError`.

        A service account's token file is read again each minute, and an exec plugin runs again when its token expires.
        """
        try:
            header = self.configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        except (ConfigException, OSError, ValueError) as error:
            raise ClusterError(f"the credentials from {self.origin} cannot be renewed: {error}") from error
        return header.strip() if header else None


def load(kubeconfig: str, master: str) -> Access:
    """Read the configuration anew, as kube-proxy does: without a kubeconfig and an address it is the pod's own.

    `master` overrides the kubeconfig's address. Raises `ClusterError`.
    """
    configuration = Configuration()
    configuration.socket_options = _KEEPALIVE
    if kubeconfig:
        origin = f"kubeconfig {kubeconfig}"
        _load_kubeconfig(kubeconfig, configuration)
    elif master:
        origin = "--master"
    else:
        origin = "the pod's service account"
        _load_service_account(configuration)
    url = _checked(_with_scheme(master, configuration) if master else configuration.host, origin)
    configuration.host = url
    if not configuration.verify_ssl:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return Access(url, origin, RESTClientObject(configuration).pool_manager, configuration)


def _load_kubeconfig(path: str, configuration: Configuration) -> None:
    try:
        with Path(path).open():
            pass
        load_kube_config(  # type: ignore[no-untyped-call]
            config_file=path, client_configuration=configuration, persist_config=False
        )
    except OSError as error:
        raise ClusterError(f"kubeconfig {path} cannot be read: {error.strerror}; check --kubeconfig") from error
    except Exception as error:  # the loader raises whatever a malformed file makes it stumble on
        stumbled = isinstance(error, (TypeError, AttributeError))  # whose words are of the loader, not of the file
        reason = "it has not the form of a kubeconfig" if stumbled else _first_line(error)
        raise ClusterError(f"kubeconfig {path} cannot be used: {reason}; check --kubeconfig") from error


def _load_service_account(configuration: Configuration) -> None:
    try:
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except ConfigException as error:
        reason = str(error).rstrip(".")
        if reason.startswith("Service host/port"):
            reason = "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined"
        remedy = "outside a pod, give --kubeconfig or --master"
        raise ClusterError(f"unable to load in-cluster configuration, {reason}; {remedy}") from error


def _with_scheme(address: str, configuration: Configuration) -> str:
    if "://" in address:
        return address
    return f"{'https' if configuration.ssl_ca_cert or configuration.cert_file else 'http'}://{address}"


def _checked(address: str, origin: str) -> str:
    try:
        url = urllib3.util.parse_url(address)
    except urllib3.exceptions.LocationParseError:
        url = urllib3.util.Url()
    if url.scheme not in ("http", "https") or not url.host:
        raise ClusterError(
            f"{address!r} is no address of an API server, which looks like https://HOST:PORT; see {origin}"
        )
    return address.rstrip("/")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(line.strip() for line in lines[:3])
