"""Daemons on the node of a lab."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from kpx import lab
from kpx.lab import Lab, objects
from kpx.lab.topology import NODE
from tests.kernel.daemon.conftest import Daemons, Node
from tests.kernel.daemon.process import Daemon


def within(place: Lab, *command: str, stdin: str | None = None) -> str:
    """Run a program on the lab's node; what it printed."""
    words = lab.command(place.name, NODE, command)
    return subprocess.run(words, input=stdin, capture_output=True, text=True, check=True).stdout


def launched(daemons: Daemons, place: Lab, node: Node, mode: str, **config: Any) -> Daemon:
    """A daemon in that mode, which has just been started."""
    objects.write_configuration(node.config, objects.configuration(mode, config))
    words = lab.command(place.name, NODE, node.command)
    return daemons.start(*words, namespace=place.namespace(NODE))


def started(daemons: Daemons, place: Lab, node: Node, mode: str, **config: Any) -> Daemon:
    """A daemon in that mode, when it has synced."""
    return launched(daemons, place, node, mode, **config).synced()


@contextmanager
def api_server(place: Lab, node: Node, port: int = 8001) -> Iterator[None]:
    """An API server with the node's manifests, on the node's loopback address."""
    words = [sys.executable, "-m", "tests.apiserver", "--port", str(port), "--manifests", str(node.manifests)]
    with subprocess.Popen(lab.command(place.name, NODE, words), stdout=subprocess.PIPE) as api:
        try:
            assert api.stdout is not None
            api.stdout.readline()  # it says where it listens
            yield
        finally:
            api.terminate()


def write_kubeconfig(path: Path, url: str) -> None:
    named = {
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    }
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "x", **named}))
