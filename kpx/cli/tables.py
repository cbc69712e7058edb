"""What the kernel holds, as tables."""

from __future__ import annotations

from typing import Annotated

import typer

from kpx.cli.application import (
    ALL_NODES,
    BUNDLE,
    KERNEL_ONLY,
    KPX_PODS,
    KUBECONFIG,
    MANIFESTS,
    NODE,
    PODS,
    SERVICE_OR_PATTERN,
    TIMEOUT,
    Output,
    TableOutput,
    alone,
    app,
    complete_service,
    on_all_nodes,
)


@app.command("ipvs", short_help="Show the IPVS tables as ipvsadm does, and as JSON.")
def ipvs(
    service: Annotated[
        str | None,
        typer.Argument(
            show_default=False,
            help="Only this one: `10.96.0.1`, `10.96.0.1:443`, `10.96.0.1:53/udp`, `\\[fd00::1]:443`, `fwmark:5`.",
        ),
    ] = None,
    stats: Annotated[bool, typer.Option("--stats", help="What was counted since the start.")] = False,
    rate: Annotated[bool, typer.Option("--rate", help="What passes a second (BPS: bytes).")] = False,
    thresholds: Annotated[
        bool, typer.Option("--thresholds", help="The limits of connections of the real servers.")
    ] = False,
    persistent: Annotated[
        bool, typer.Option("--persistent-conn", help="Remembered clients; with -c, the persistence engines.")
    ] = False,
    timeout: Annotated[bool, typer.Option("--timeout", help="How long idle connections are remembered.")] = False,
    connections: Annotated[bool, typer.Option("-c", "--connections", help="The connections that are tracked.")] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, show_default=False, help="At most so many connections: a sample.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Large numbers in full, not with K, M, G or T.")] = False,
    watch: Annotated[
        float | None, typer.Option("-w", "--watch", min=0.1, show_default=False, help="Again every so many seconds.")
    ] = None,
    output: Annotated[Output, typer.Option("-o", "--output", help="How to print it.")] = Output.TEXT,
    _list: Annotated[bool, typer.Option("-L", "-l", "-n", "--list", "--numeric", hidden=True)] = False,
) -> None:
    """Show the IPVS tables in the text of `ipvsadm -L -n`, or as JSON. Nothing is changed.

    Examples:

    kpx ipvs                          virtual servers and their real servers

    kpx ipvs 10.96.0.1:443 --stats    what one service has counted

    kpx ipvs --rate -w 2              connections, packets and bytes a second

    kpx ipvs -c 10.96.0.1 --limit 20  some of a service's connections

    kpx ipvs -o json                  everything, for a program: docs/json.md

    An address alone names all its ports and protocols. ipvsadm's -Ln, -Lnc, ... work too.

    Needs root. The exit status is 0, 1 if it could not be read, 2 for wrong arguments.
    """
    from kpx.tables.ipvs.command import Options, run
    from kpx.tables.ipvs.text import View

    views = {View.STATS: stats, View.RATE: rate, View.THRESHOLDS: thresholds, View.PERSISTENT: persistent}
    options = Options(
        service=service,
        views=tuple(view for view, asked in views.items() if asked),
        timeouts=timeout,
        connections=connections,
        exact=exact,
        limit=limit,
        watch=watch,
        as_json=output is Output.JSON,
    )
    raise typer.Exit(run(options))


@app.command("services")
def services(
    name: SERVICE_OR_PATTERN = "",
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="Only this namespace; without it, all.")] = "",
    all_namespaces: Annotated[bool, typer.Option("-A", "--all-namespaces", help="All, as without -n.")] = False,
    ip: Annotated[str, typer.Option("--ip", help="Only those with this address, or with such an endpoint.")] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Only those with this port or node port.")] = 0,
    endpoints: Annotated[bool, typer.Option("--endpoints", help="Show each endpoint and its connections.")] = False,
    seconds: Annotated[
        float | None, typer.Option("-w", "--watch", min=0.1, help="Count for so many seconds; show what came a second.")
    ] = None,
    output: Annotated[TableOutput, typer.Option("-o", "--output", help="How to print it.")] = TableOutput.TEXT,
    kubeconfig: KUBECONFIG = "",
    manifests: MANIFESTS = "",
    node: NODE = "",
    timeout: TIMEOUT = 10.0,
    kernel_only: KERNEL_ONLY = False,
    all_nodes: ALL_NODES = False,
    kpx_pods: KPX_PODS = PODS,
    bundle: BUNDLE = "",
) -> None:
    """List the Services that this node serves: addresses, endpoints, and the new connections that the kernel counted.

    They come from the kpx daemon; else from the API server (--kubeconfig,
    $KUBECONFIG, those of kubeadm and k3s, or the pod's service account);
    else from the kernel's rules alone. Connections are counted in the modes
    iptables and ipvs, those of a stock kube-proxy too, and in kpx's mode
    nftables; a rule that is written anew begins to count anew.

    ENDPOINTS is ready/all. NONE: nobody answers. "none here": the policy is
    Local, and there is no endpoint on this node.

    Examples:

    kpx services -n shop

    kpx services shop/web --endpoints -w 5

    kpx services --ip 10.96.0.10 -o json

    kpx services shop/web --all-nodes

    The status is 0, 1 if it could not run, 2 for a mistake in the command.
    """
    from kpx.tools.cluster import Options
    from kpx.tools.services_command import Wish, run

    if all_namespaces and namespace:
        raise typer.BadParameter("-A and -n exclude each other")
    others = {"kubeconfig": kubeconfig, "manifests": manifests, "node": node, "kernel_only": kernel_only}
    alone(bundle, **others, all_nodes=all_nodes, watch=seconds)
    if all_nodes:
        raise typer.Exit(
            on_all_nodes("services", kubeconfig, kpx_pods, timeout + (seconds or 0), as_json=output is TableOutput.JSON)
        )
    wish = Wish(name, namespace, ip, port, output.value, endpoints, seconds)
    if bundle:
        from kpx.bundle import command as bundled

        raise typer.Exit(bundled.services(bundle, wish))
    raise typer.Exit(run(wish, Options(kubeconfig, manifests, node, timeout, kernel_only)))


@app.command("conntrack")
def conntrack(
    service: Annotated[
        str,
        typer.Option(
            "--service",
            help="List the flows of this Service: NAMESPACE/NAME[:PORT].",
            autocompletion=complete_service,
        ),
    ] = "",
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="The namespace of --service.")] = "",
    stale: Annotated[bool, typer.Option("--stale", help="List the flows to endpoints that are gone.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="With --stale: remove them, after a yes.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --delete: do not ask.")] = False,
    top: Annotated[int, typer.Option("--top", min=1, help="How many Services, clients and backends to name.")] = 10,
    seconds: Annotated[float, typer.Option("-w", "--watch", min=0.1, help="Seconds between the two readings.")] = 1.0,
    output: Annotated[Output, typer.Option("-o", "--output", help="How to print it.")] = Output.TEXT,
    kubeconfig: KUBECONFIG = "",
    manifests: MANIFESTS = "",
    node: NODE = "",
    timeout: TIMEOUT = 10.0,
    kernel_only: KERNEL_ONLY = False,
) -> None:
    """Show how full the kernel's table of connections is, whose they are, and which lead to endpoints that are gone.

    A full table drops new connections: `entries` tells how near that is, and
    `drop` that it has come to it. A flow is shown as client -> address of the
    Service -> backend (as whom the backend sees the client).

    A UDP flow lives on as long as its client sends, so one to an endpoint that
    is gone stays broken until its entry is removed; so does a TCP connection
    that still waits for its first answer (SYN_SENT). The kpx daemon removes
    such UDP flows itself; --stale finds what another proxy has left.

    Examples:

    kpx conntrack

    kpx conntrack --service shop/web

    kpx conntrack --stale --delete

    The status is 0, 1 if it could not run, 2 for a mistake in the command.
    """
    from kpx.tools.cluster import Options
    from kpx.tools.conntrack_command import Wish, run

    wish = Wish(service, namespace, stale, delete, yes, top, seconds, output is Output.JSON)
    raise typer.Exit(run(wish, Options(kubeconfig, manifests, node, timeout, kernel_only)))


@app.command("diff", short_help="Compare what the cluster wants with the rules that the kernel holds.")
def diff(
    name: SERVICE_OR_PATTERN = "",
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="Only this namespace; without it, all.")] = "",
    seconds: Annotated[
        float | None, typer.Option("-w", "--watch", min=0.1, show_default=False, help="Again every so many seconds.")
    ] = None,
    output: Annotated[Output, typer.Option("-o", "--output", help="How to print it.")] = Output.TEXT,
    kubeconfig: KUBECONFIG = "",
    manifests: MANIFESTS = "",
    node: NODE = "",
    timeout: TIMEOUT = 10.0,
) -> None:
    """Compare what the cluster wants of this node with what its kernel really holds, Service by Service.

    What is wanted comes from the kpx daemon; else from the API server; else
    from --manifests. The rules are kpx's or those of a stock kube-proxy, in
    the modes iptables, nftables and ipvs. Rules of others that translate,
    drop or reject a Service's packets are named too. Nothing is changed.

    Each difference says what it means, then where in the kernel it is:
    - missing, + too much, ~ different, ! a rule of somebody else.

    Examples:

    kpx diff

    kpx diff shop/web

    kpx diff -n shop -o json

    The status is 0 if nothing differs, 1 if something does, 2 for a mistake
    in the command, 4 if it could not run.
    """
    from kpx.diff.command import Wish, run
    from kpx.tools.cluster import Options

    wish = Wish(name, namespace, output is Output.JSON, seconds)
    raise typer.Exit(run(wish, Options(kubeconfig, manifests, node, timeout)))
