"""The node, live."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from kpx.cli.application import KERNEL_ONLY, KUBECONFIG, MANIFESTS, NODE, TIMEOUT, app


class Page(Enum):
    """The pages of `kpx top`."""

    SERVICES = "services"
    TRACE = "trace"
    RULES = "rules"
    CONNTRACK = "conntrack"
    SYNCS = "syncs"
    DOCTOR = "doctor"


@app.command("top")
def top(
    page: Annotated[Page, typer.Argument(help="The page to begin with.")] = Page.SERVICES,
    interval: Annotated[float, typer.Option("-d", "--interval", min=0.2, max=60, help="Seconds between readings.")] = 1,
    iterations: Annotated[int, typer.Option("-n", "--iterations", min=0, help="With --plain: so many, then end.")] = 0,
    once: Annotated[bool, typer.Option("--once", help="Print the page as text, once.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Print lines: all rows, then those that change.")] = False,
    ascii: Annotated[bool, typer.Option("--ascii", help="Draw with ASCII signs only.")] = False,
    mouse: Annotated[bool, typer.Option(help="Let the mouse work; without it the terminal selects text.")] = True,
    kubeconfig: KUBECONFIG = "",
    manifests: MANIFESTS = "",
    node: NODE = "",
    timeout: TIMEOUT = 10.0,
    kernel_only: KERNEL_ONLY = False,
) -> None:
    """Watch this node: its Services and their new connections, the rules, conntrack, and the proxier's syncs.

    It only reads, but for live traces, which put a table of their own into
    the kernel, and fixes that you say yes to. What a page needs is read while
    it is seen, and nothing takes more than a small share of a processor: at
    10,000 Services the counters come every few seconds. ? shows the keys.

    Where standard output is no terminal, or TERM is dumb, it prints lines as
    with --plain. NO_COLOR is honoured.

    The status is 0, 1 if it could not run, 2 for a mistake in the command.
    """
    from kpx.tools.cluster import Options
    from kpx.top.command import run
    from kpx.top.wish import Wish

    wish = Wish(page.value, interval, iterations, once, plain, ascii, mouse)
    raise typer.Exit(run(wish, Options(kubeconfig, manifests, node, timeout, kernel_only)))
