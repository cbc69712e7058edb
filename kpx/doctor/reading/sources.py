"""Where a proxy that does not answer has its objects from."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from kpx.doctor.facts import ProxyProcess
from kpx.tools.cluster import Options


def source_of(process: ProxyProcess, options: Options) -> Options:
    """Where a daemon has its objects from, by its command line."""
    try:
        words = Path(f"/proc/{process.pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return options
    given: dict[str, Any] = {}
    for name in ("manifests", "kubeconfig"):
        for at, word in enumerate(words):
            if word == f"--{name}" and at + 1 < len(words):
                given[name] = words[at + 1]
            elif word.startswith(f"--{name}="):
                given[name] = word.partition("=")[2]
    if not given:
        return options
    with_node = replace(options, node=options.node or _node_of(words))
    return replace(with_node, **{name: value for name, value in list(given.items())[:1]})


def _node_of(words: list[str]) -> str:
    """The node's name in the configuration file, or on the command line, of a daemon."""
    for word in words:
        if word.startswith("--hostname-override="):
            return word.partition("=")[2]
    for at, word in enumerate(words[:-1]):
        if word == "--config":
            found = re.search(r"^hostnameOverride: *['\"]?([\w.-]+)", _read(words[at + 1]), re.MULTILINE)
            return found[1] if found else ""
    return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
