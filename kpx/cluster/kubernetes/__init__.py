"""Objects from a Kubernetes API server, and Events to it.

The ``kubernetes`` package reads kubeconfigs and service accounts, and knows TLS, proxies and exec plugins; urllib3,
which it stands on, carries the bytes. Its model classes are not used: decoding a watch of all endpoints with them takes
forty times as long.
"""

from __future__ import annotations

from kpx.cluster.kubernetes.connection import Connection
from kpx.cluster.kubernetes.errors import Refused
from kpx.cluster.kubernetes.recorder import EventRecorder
from kpx.cluster.kubernetes.source import KubernetesSource, Resource, read_all, resources

__all__ = ["Connection", "EventRecorder", "KubernetesSource", "Refused", "Resource", "read_all", "resources"]
