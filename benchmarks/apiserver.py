"""``python -m benchmarks.apiserver SERVICES``: an API server with a synthetic cluster, until its input ends.

A process of its own, so that its work is not taken for the client's. Prints its address once it listens.
"""

from __future__ import annotations

import sys

from benchmarks import objects
from tests.apiserver import ApiServer


def main(services: str) -> None:
    server = ApiServer()
    for one in objects.cluster(int(services)):
        server.put(one)
    with server:
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
