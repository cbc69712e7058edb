"""The service proxy itself: to run, to remove, to go over to."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from kpx.cli.application import ALL_NODES, KPX_PODS, PASSED_ON, PODS, Output, app, on_all_nodes


@app.command(context_settings=PASSED_ON, add_help_option=False, short_help="Run as the node's kube-proxy.")
def daemon(context: typer.Context) -> None:
    """Run as the node's kube-proxy: the same configuration file and flags. `kpx daemon --help` lists them."""
    from kpx.proxier.main import main as run

    raise typer.Exit(run(context.args, "kpx daemon"))


class Kept(Enum):
    """The rules that `kpx cleanup --keep` leaves."""

    IPTABLES_NFT = "iptables-nft"
    IPTABLES_LEGACY = "iptables-legacy"
    IPVS = "ipvs"
    KPX = "kpx"
    KUBE_PROXY = "kube-proxy"


@app.command()
def cleanup(
    context: typer.Context,
    keep: Annotated[
        Kept | None,
        typer.Option(help="Leave these: only what other modes have left goes. kpx and kube-proxy are nftables tables."),
    ] = None,
) -> None:
    """Remove all rules that kpx or kube-proxy made on this node, and nothing else."""
    from kpx.proxier.main import clean_others
    from kpx.proxier.main import main as run

    raise typer.Exit(clean_others(keep.value) if keep else run(["--cleanup", *context.args], "kpx cleanup"))


@app.command(short_help="Show whether this node can go over to kpx, and how.")
def migrate(
    mode: Annotated[str, typer.Argument(help="iptables, ipvs or nftables; else the mode that the node has.")] = "",
    scheduler: Annotated[str, typer.Option(help="For mode ipvs: its ipvs.scheduler.")] = "rr",
    output: Annotated[Output, typer.Option("-o", "--output", help="How to print it.")] = Output.TEXT,
    all_nodes: ALL_NODES = False,
    kpx_pods: KPX_PODS = PODS,
    kubeconfig: Annotated[str, typer.Option("--kubeconfig", help="With --all-nodes: of the API server.")] = "",
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="With --all-nodes: seconds for a node.")] = 10.0,
) -> None:
    """Show whether this node is ready to be served by kpx, what that changes, and the commands that do it.

    Looked at are the kernel, modules, the iptables programs, other proxies
    that are alive (Cilium, Calico's eBPF and kube-router too), what other
    modes have left behind, ports, and kernel settings. Nothing is changed.

    Examples:

    kpx migrate                    to kpx, in the mode that the node has

    kpx migrate nftables           to kpx in mode nftables

    kpx migrate nftables -o json   for a program: docs/json.md

    kpx migrate --all-nodes        where kpx waits for kube-proxy to end

    docs/migrate.md goes through a whole move, and back. The status is 0 if
    the node is ready, 3 if something is in the way, 1 if it could not be
    found out, 2 for a mistake in the command.
    """
    if all_nodes:
        raise typer.Exit(on_all_nodes("migrate", kubeconfig, kpx_pods, timeout, as_json=output is Output.JSON))
    from kpx.migrate.command import run

    raise typer.Exit(run(mode, scheduler, as_json=output is Output.JSON))
