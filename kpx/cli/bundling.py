"""A node's state in one file."""

from __future__ import annotations

from typing import Annotated

import typer

from kpx.cli.application import KUBECONFIG, MANIFESTS, NODE, TIMEOUT, app


@app.command(short_help="Write this node's state into one file, for somebody elsewhere.")
def bundle(
    file: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="The file; else named by node and time.")
    ] = "",
    seconds: Annotated[float, typer.Option("--part-timeout", min=0.1, help="Seconds that a part may take.")] = 10.0,
    flows: Annotated[int, typer.Option("--flows", min=0, help="At most so many flows of conntrack.")] = 10_000,
    kubeconfig: KUBECONFIG = "",
    manifests: MANIFESTS = "",
    node: NODE = "",
    timeout: TIMEOUT = 10.0,
) -> None:
    """Write this node's state into one file, to look at it elsewhere, without root.

    It holds the rules with their counters, IPVS, IP sets, conntrack, routes,
    settings, the daemon's state, metrics, and the cluster's Services,
    EndpointSlices and this Node: docs/bundle.md. Secrets are not read.
    Nothing is changed.

    Examples:

    kpx bundle -o node-a.tar.gz

    kpx doctor --bundle node-a.tar.gz

    kpx trace shop/web --bundle node-a.tar.gz

    kpx services --bundle node-a.tar.gz

    What could not be read is said, and listed in its manifest.json. The
    status is 0, 1 if it could not run, 2 for a mistake in the command.
    """
    from kpx.bundle.command import Wish, run
    from kpx.tools.cluster import Options

    raise typer.Exit(run(Wish(file, seconds, flows), Options(kubeconfig, manifests, node, timeout)))
