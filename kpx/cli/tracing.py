"""The path of a packet."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from kpx.cli.application import (
    BUNDLE,
    KERNEL_ONLY,
    KUBECONFIG,
    MANIFESTS,
    NODE,
    Output,
    alone,
    app,
    complete_service,
)


class Via(Enum):
    """Which of a Service's addresses are traced."""

    CLUSTER = "cluster"
    EXTERNAL = "external"
    LOAD_BALANCER = "loadbalancer"
    NODE_PORT = "nodeport"
    ALL = "all"


@app.command(short_help="Show the path of a packet through the rules that the kernel holds.")
def trace(
    target: Annotated[
        str,
        typer.Argument(
            help="svc/NAME, NAMESPACE/NAME\\[:PORT], pod/NAME, ADDRESS:PORT\\[/PROTOCOL] or nodeport/PORT.",
            autocompletion=complete_service,
        ),
    ],
    sender: Annotated[
        str, typer.Option("--from", help="pod (the default), node, external or an IP address: who sends the packet.")
    ] = "",
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="The namespace of svc/NAME or pod/NAME.")] = "",
    port: Annotated[str, typer.Option("--to-port", help="The port, by name or number; without it, all.")] = "",
    via: Annotated[
        Via | None,
        typer.Option(show_default=False, help="The kind of address; else cluster, with --from external the others."),
    ] = None,
    supposed: Annotated[
        list[str] | None, typer.Option("--if", help="KEY=VALUE: as if this were so; may be repeated. See below.")
    ] = None,
    every_hop: Annotated[bool, typer.Option("--all", help="Also what matched without effect, and every way.")] = False,
    watch: Annotated[
        float | None, typer.Option("-w", "--watch", min=0.1, show_default=False, help="Again every so many seconds.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Follow real packets, of all senders or those of --from.")
    ] = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="Send a packet and follow it: --from node, pod, a pod's address, or a PID.")
    ] = False,
    count: Annotated[
        int | None,
        typer.Option("--count", min=0, show_default=False, help="With --live: so many flows; without, no limit."),
    ] = None,
    rate: Annotated[
        int | None,
        typer.Option(
            "--rate", min=1, max=10_000, show_default=False, help="With --live: at most so many flows a second (100)."
        ),
    ] = None,
    http: Annotated[str, typer.Option("--http", metavar="PATH", help="With --probe: ask for this by HTTP.")] = "",
    output: Annotated[Output, typer.Option("-o", "--output", help="How to print it.")] = Output.TEXT,
    kubeconfig: KUBECONFIG = "",
    manifests: MANIFESTS = "",
    node: NODE = "",
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            min=0.0,
            show_default=False,
            help="Seconds to wait for an API server (10), for a probe's answer (5), or to follow (60; 0: endless).",
        ),
    ] = None,
    kernel_only: KERNEL_ONLY = False,
    bundle: BUNDLE = "",
) -> None:
    """Show the path of a packet to a Service through the rules that this node's kernel really holds.

    Each rule that matters is shown, whoever made it: kpx, kube-proxy, or
    another tool; then the endpoints, the flows in conntrack, and what is not
    as the cluster wants it. Nothing is sent and nothing is changed.

    With --live, real packets are followed: whom each new flow reached, as
    whom, by which rules, and whether it was answered. With --probe, kpx sends
    a packet itself and follows that one: from this node, or from a pod's
    network namespace. For both a table of nftables marks packets, and goes
    with the process.

    Examples:

    kpx trace shop/web                           from a pod of this node

    kpx trace svc/web -n shop --to-port http --from external

    kpx trace 10.96.0.10:53/udp --from 10.244.1.7

    kpx trace nodeport/30080 --from 203.0.113.7

    kpx trace shop/web --live --count 10

    kpx trace shop/web --probe --from 10.244.1.7 --http /healthz

    kpx trace shop/web --if endpoint=10.244.1.5:notready

    With --if the rules are those that kpx would make, and nothing is written:
    mode, externalTrafficPolicy, internalTrafficPolicy, sessionAffinity,
    loadBalancerSourceRanges, masqueradeAll, endpoint=IP:ready|notready|
    terminating|gone.

    The status is 0 if all gets through as the cluster wants it; 3 if a packet
    is refused, lost or led astray on some way; 2 for a mistake in the command;
    1 if it could not run.
    """
    from kpx.tools.cluster import Options
    from kpx.trace.questions import Asked

    asked = Asked(target, namespace, port, sender, via.value if via else "")
    as_json = output is Output.JSON
    others = {"kubeconfig": kubeconfig, "manifests": manifests, "node": node, "kernel_only": kernel_only}
    alone(bundle, **others, live=live, probe=probe, http=http, watch=watch, **{"if": supposed})
    if not live and (count is not None or rate is not None or timeout == 0):
        raise typer.BadParameter("--count, --rate and an endless --timeout are for following: add --live")
    if live or probe or http:
        if supposed or watch is not None:
            raise typer.BadParameter("--if and -w are for rules, not for packets: leave out --live, --probe and --http")
        from kpx.trace.live import command as following

        options = Options(kubeconfig, manifests, node, kernel_only=kernel_only)
        wanted = following.Wish(asked, live, probe, count or 0, timeout, rate or 100, http, as_json, every_hop)
        raise typer.Exit(following.run(wanted, options))
    from kpx.trace.command import Wish, run

    wish = Wish(asked, as_json, every_hop, watch)
    if bundle:
        from kpx.bundle import command as bundled

        raise typer.Exit(bundled.trace(bundle, wish))
    options = Options(kubeconfig, manifests, node, timeout or 10.0, kernel_only)
    if supposed:
        from kpx.whatif.command import run as suppose

        raise typer.Exit(suppose(wish, options, supposed))
    raise typer.Exit(run(wish, options))
