"""What can go wrong between us and an API server, each as one sentence that says what to do."""

from __future__ import annotations

from urllib3 import exceptions

from kpx.cluster.events import ClusterError
from kpx.cluster.wire import Status

_LONGEST_MESSAGE = 300

_REMEDIES = {
    401: " to {identity}: credentials that this cluster accepts are needed",
    403: " to {identity}: bind the ClusterRole system:node-proxier to this account",
    404: ": check that this is the address of a Kubernetes API server",
}

_SENTENCES: list[tuple[type[Exception], str]] = [
    (exceptions.NameResolutionError, "the name in {url} cannot be resolved: check the address and this node's DNS"),
    (exceptions.NewConnectionError, "{url} cannot be connected to ({reason}): check that the API server runs there"),
    (exceptions.ConnectTimeoutError, "{url} does not take a connection: check the address, the route and firewalls"),
    (exceptions.ReadTimeoutError, "{url} has gone silent: check the network and the API server"),
    (exceptions.ProxyError, "the HTTP proxy for {url} does not work ({reason}): check HTTPS_PROXY and NO_PROXY"),
    (exceptions.ProtocolError, "the connection to {url} broke ({reason})"),
    (Exception, "the request to {url} failed ({reason})"),
]


class Unreachable(ClusterError):
    """There was no answer, or not all of it."""


class Untrusted(Unreachable):
    """TLS failed: the other side is not who it should be, or a certificate file cannot be read."""


class Refused(ClusterError):
    """The API server answered with an error: `status` is its word on it, `retry_after` the pause it asks for (s)."""

    def __init__(self, url: str, identity: str, status: Status, retry_after: float = 0.0) -> None:
        said = status.message[:_LONGEST_MESSAGE] or status.reason
        remedy = _REMEDIES.get(status.code, "").format(identity=identity)
        super().__init__(f"{url} answers {status.code}{f' ({said})' if said else ''}{remedy}")
        self.status = status
        self.retry_after = retry_after


def unreachable(url: str, error: Exception) -> Unreachable:
    """Say what an exception of urllib3 means."""
    root = _root(error)
    reason = getattr(root, "verify_message", "") or getattr(root, "strerror", "") or str(root) or type(root).__name__
    if isinstance(root, FileNotFoundError | PermissionError):
        return Untrusted(f"the certificate or key file {root.filename} cannot be read: {reason}")
    if isinstance(error, exceptions.SSLError):
        return Untrusted(f"TLS to {url} fails ({reason}): check that the CA and the certificates are this cluster's")
    sentence = next(text for kind, text in _SENTENCES if isinstance(error, kind))
    return Unreachable(sentence.format(url=url, reason=reason))


def _root(error: BaseException) -> BaseException:
    """The innermost exception: urllib3 carries it as cause or as an argument."""
    inner = error.__cause__ or next((arg for arg in error.args if isinstance(arg, BaseException)), None)
    return _root(inner) if inner else error
