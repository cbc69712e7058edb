"""The scripts ``kpx`` and ``kube-proxy``, and ``python -m kpx``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run a command; the daemon without what the command line of the others is made with, which takes as long to load
    as a third of the daemon itself."""
    if sys.argv[1:2] == ["daemon"]:
        from kpx.proxier.main import main as run

        sys.exit(run(sys.argv[2:], "kpx daemon"))
    from kpx.cli import app

    app()


def kube_proxy() -> None:
    """The daemon under the name that existing DaemonSets call."""
    from kpx.proxier.main import main as run

    sys.exit(run(sys.argv[1:], "kube-proxy"))


if __name__ == "__main__":
    main()
