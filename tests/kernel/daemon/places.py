"""Daemons on the node of a lab."""

from __future__ import annotations

import subprocess
from typing import Any

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
