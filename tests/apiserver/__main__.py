"""``python -m tests.apiserver --port 8001 --manifests DIR``: serve the objects of a folder until killed.

Objects can be changed with PUT, POST and DELETE.
"""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from typing import Any

import yaml

from tests.apiserver.server import ApiServer
from tests.apiserver.store import BY_KIND


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.apiserver", description="A small Kubernetes API server.")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; by default a free one")
    parser.add_argument("--manifests", type=Path, help="folder of YAML or JSON files with the objects to begin with")
    arguments = parser.parse_args()
    server = ApiServer(port=arguments.port)
    for path in sorted(arguments.manifests.iterdir()) if arguments.manifests else ():
        if path.suffix in (".yaml", ".yml", ".json"):
            for document in yaml.load_all(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
                load(server, document)
    with server:
        print(server.url, flush=True)
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


def load(server: ApiServer, document: Any) -> None:
    """Put an object, or those of a List; other kinds are left out."""
    match document:
        case {"items": list(items)}:
            for item in items:
                load(server, item)
        case {"apiVersion": str(api_version), "kind": str(kind)} if (api_version, kind) in BY_KIND:
            server.put(document)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
