"""The command line. A command is one thin function; what it does not need is not imported."""

from __future__ import annotations

import sys
from enum import Enum
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A kube-proxy that you can see through: node proxy, tracer and troubleshooting toolkit.",
)
lab = typer.Typer(no_args_is_help=True, help="A small node with pods and clients in network namespaces, to try kpx on.")
app.add_typer(lab, name="lab")


class Output(Enum):
    """How a command prints its answer."""

    TEXT = "text"
    JSON = "json"


class TableOutput(Enum):
    """How a command prints a table."""

    TEXT = "text"
    WIDE = "wide"
    JSON = "json"


_PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


@app.command(context_settings=_PASSED_ON, add_help_option=False, short_help="Run as the node's kube-proxy.")
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


_KUBECONFIG = Annotated[
    str, typer.Option("--kubeconfig", help="Ask the API server of this kubeconfig, and not the daemon.")
]
_MANIFESTS = Annotated[str, typer.Option("--manifests", help="Take the objects from the YAML files in this folder.")]
_NODE = Annotated[str, typer.Option("--node", help="This node's name in the cluster; else as its proxy says.")]
_TIMEOUT = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait for an API server, at most.")]
_KERNEL_ONLY = Annotated[bool, typer.Option("--kernel-only", help="Ask nobody but the kernel.")]
_ALL_NODES = Annotated[bool, typer.Option("--all-nodes", help="Ask every node's kpx pod, through the API server.")]
_KPX_PODS = Annotated[str, typer.Option("--kpx-pods", help="With --all-nodes: which they are, NAMESPACE/LABELS.")]
_PODS = "kube-system/k8s-app=kpx"


def _complete_service(incomplete: str) -> list[str]:
    """For the shell: the Services of the daemon or the API server that a word may be the beginning of."""
    from kpx.tools.completion import services

    return services(incomplete)


_SERVICE_OR_PATTERN = Annotated[
    str,
    typer.Argument(
        help="svc/NAME or NAMESPACE/NAME[:PORT], or a regular expression for NAMESPACE/NAME:PORT.",
        autocompletion=_complete_service,
    ),
]


def _on_all_nodes(command: str, kubeconfig: str, kpx_pods: str, timeout: float, *, as_json: bool) -> int:
    """Run the command that was given here on every node."""
    from kpx.tools.all_nodes import Nodes, run

    return run(command, sys.argv[1:], Nodes(kubeconfig, kpx_pods, timeout), as_json=as_json)


@app.command("services")
def services(
    name: _SERVICE_OR_PATTERN = "",
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="Only this namespace; without it, all.")] = "",
    all_namespaces: Annotated[bool, typer.Option("-A", "--all-namespaces", help="All, as without -n.")] = False,
    ip: Annotated[str, typer.Option("--ip", help="Only those with this address, or with such an endpoint.")] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Only those with this port or node port.")] = 0,
    endpoints: Annotated[bool, typer.Option("--endpoints", help="Show each endpoint and its connections.")] = False,
    seconds: Annotated[
        float | None, typer.Option("-w", "--watch", min=0.1, help="Count for so many seconds; show what came a second.")
    ] = None,
    output: Annotated[TableOutput, typer.Option("-o", "--output", help="How to print it.")] = TableOutput.TEXT,
    kubeconfig: _KUBECONFIG = "",
    manifests: _MANIFESTS = "",
    node: _NODE = "",
    timeout: _TIMEOUT = 10.0,
    kernel_only: _KERNEL_ONLY = False,
    all_nodes: _ALL_NODES = False,
    kpx_pods: _KPX_PODS = _PODS,
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
    if all_nodes:
        raise typer.Exit(
            _on_all_nodes(
                "services", kubeconfig, kpx_pods, timeout + (seconds or 0), as_json=output is TableOutput.JSON
            )
        )
    wish = Wish(name, namespace, ip, port, output.value, endpoints, seconds)
    raise typer.Exit(run(wish, Options(kubeconfig, manifests, node, timeout, kernel_only)))


@app.command("conntrack")
def conntrack(
    service: Annotated[
        str,
        typer.Option(
            "--service",
            help="List the flows of this Service: NAMESPACE/NAME[:PORT].",
            autocompletion=_complete_service,
        ),
    ] = "",
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="The namespace of --service.")] = "",
    stale: Annotated[bool, typer.Option("--stale", help="List the flows to endpoints that are gone.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="With --stale: remove them, after a yes.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --delete: do not ask.")] = False,
    top: Annotated[int, typer.Option("--top", min=1, help="How many Services, clients and backends to name.")] = 10,
    seconds: Annotated[float, typer.Option("-w", "--watch", min=0.1, help="Seconds between the two readings.")] = 1.0,
    output: Annotated[Output, typer.Option("-o", "--output", help="How to print it.")] = Output.TEXT,
    kubeconfig: _KUBECONFIG = "",
    manifests: _MANIFESTS = "",
    node: _NODE = "",
    timeout: _TIMEOUT = 10.0,
    kernel_only: _KERNEL_ONLY = False,
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


class Via(Enum):
    """Which of a Service's addresses are traced."""

    CLUSTER = "cluster"
    EXTERNAL = "external"
    LOAD_BALANCER = "loadbalancer"
    NODE_PORT = "nodeport"
    ALL = "all"


@app.command("diff", short_help="Compare what the cluster wants with the rules that the kernel holds.")
def diff(
    name: _SERVICE_OR_PATTERN = "",
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="Only this namespace; without it, all.")] = "",
    seconds: Annotated[
        float | None, typer.Option("-w", "--watch", min=0.1, show_default=False, help="Again every so many seconds.")
    ] = None,
    output: Annotated[Output, typer.Option("-o", "--output", help="How to print it.")] = Output.TEXT,
    kubeconfig: _KUBECONFIG = "",
    manifests: _MANIFESTS = "",
    node: _NODE = "",
    timeout: _TIMEOUT = 10.0,
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


@app.command(short_help="Show the path of a packet through the rules that the kernel holds.")
def trace(
    target: Annotated[
        str,
        typer.Argument(
            help="svc/NAME, NAMESPACE/NAME\\[:PORT], pod/NAME, ADDRESS:PORT\\[/PROTOCOL] or nodeport/PORT.",
            autocompletion=_complete_service,
        ),
    ],
    sender: Annotated[
        str, typer.Option("--from", help="pod (the default), node, external or an IP address: who sends the packet.")
    ] = "",
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="The namespace of svc/NAME or pod/NAME.")] = "",
    port: Annotated[str, typer.Option("--to-port", help="The port, by name or number; without it, all.")] = "",
    via: Annotated[
        Via | None,
        typer.Option(show_default=False, help="The kind of address; else the cluster IP, from outside the others."),
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
    count: Annotated[int, typer.Option("--count", min=0, help="With --live: so many flows; 0 for no limit.")] = 0,
    rate: Annotated[
        int, typer.Option("--rate", min=1, max=10_000, help="Follow at most so many flows a second.")
    ] = 100,
    http: Annotated[str, typer.Option("--http", metavar="PATH", help="With --probe: ask for this by HTTP.")] = "",
    output: Annotated[Output, typer.Option("-o", "--output", help="How to print it.")] = Output.TEXT,
    kubeconfig: _KUBECONFIG = "",
    manifests: _MANIFESTS = "",
    node: _NODE = "",
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            min=0.0,
            show_default=False,
            help="Seconds to wait for an API server (10), for a probe's answer (5), or to follow (60; 0: endless).",
        ),
    ] = None,
    kernel_only: _KERNEL_ONLY = False,
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
    if live or probe or http:
        if supposed or watch is not None:
            raise typer.BadParameter("--if and -w are for rules, not for packets: leave out --live, --probe and --http")
        from kpx.trace.live import command as following

        options = Options(kubeconfig, manifests, node, kernel_only=kernel_only)
        wanted = following.Wish(asked, live, probe, count, timeout, rate, http, as_json, every_hop)
        raise typer.Exit(following.run(wanted, options))
    from kpx.trace.command import Wish, run

    wish = Wish(asked, as_json, every_hop, watch)
    options = Options(kubeconfig, manifests, node, timeout or 10.0, kernel_only)
    if supposed:
        from kpx.whatif.command import run as suppose

        raise typer.Exit(suppose(wish, options, supposed))
    raise typer.Exit(run(wish, options))


@app.command(short_help="Show whether this node can go over to kpx, and how.")
def migrate(
    mode: Annotated[str, typer.Argument(help="iptables, ipvs or nftables; else the mode that the node has.")] = "",
    scheduler: Annotated[str, typer.Option(help="For mode ipvs: its ipvs.scheduler.")] = "rr",
    output: Annotated[Output, typer.Option("-o", "--output", help="How to print it.")] = Output.TEXT,
    all_nodes: _ALL_NODES = False,
    kpx_pods: _KPX_PODS = _PODS,
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
        raise typer.Exit(_on_all_nodes("migrate", kubeconfig, kpx_pods, timeout, as_json=output is Output.JSON))
    from kpx.migrate.command import run

    raise typer.Exit(run(mode, scheduler, as_json=output is Output.JSON))


class DoctorOutput(Enum):
    """How `kpx doctor` prints its findings."""

    TEXT = "text"
    JSON = "json"
    JUNIT = "junit"
    NPD = "npd"


@app.command(short_help="Run the runbooks on this node: what is wrong, why, and what mends it.")
def doctor(
    what: Annotated[
        str,
        typer.Argument(
            metavar="[RUNBOOK|list|explain]",
            help="clusterip, nodeport, sync, source-ip, conntrack or practices; without it, all.",
        ),
    ] = "",
    name: Annotated[str, typer.Argument(help="The Service to look at in depth: NAMESPACE/NAME[:PORT].")] = "",
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="The Service's namespace.")] = "",
    ids: Annotated[list[str] | None, typer.Option("--id", help="Only this check; may be given several times.")] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Make the fixes that can be made on this node.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --fix: do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the fixes: ask for none, make none.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings make the status 4.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Also the evidence of what is well.")] = False,
    seconds: Annotated[float, typer.Option("--check-timeout", min=0.1, help="Seconds that a check may take.")] = 10.0,
    output: Annotated[DoctorOutput, typer.Option("-o", "--output", help="How to print it.")] = DoctorOutput.TEXT,
    kubeconfig: _KUBECONFIG = "",
    manifests: _MANIFESTS = "",
    node: _NODE = "",
    timeout: _TIMEOUT = 10.0,
) -> None:
    """Run the runbooks on this node: what is wrong, the evidence, why it matters, and what mends it.

    It works on nodes of kpx and of a stock kube-proxy, in every mode. Nothing
    is changed without a yes: on a terminal each fix is shown and asked for,
    then looked at again. --fix --yes makes those of this node's own; a fix that
    changes what another program made needs --id with its check besides.

    Connections are tried only for a Service that is named.

    Examples:

    kpx doctor                            all runbooks

    kpx doctor clusterip shop/web         why nobody reaches this Service

    kpx doctor nodeport shop/front --fix --yes --id KPX-FW-002

    kpx doctor explain KPX-CT-001

    The status is 0, 3 if something failed, 4 for warnings with --strict, 1 if
    it could not run, 2 for a mistake in the command; with -o npd it is 0, 1
    or 2, as a custom plugin of node-problem-detector has it.
    """
    from kpx.doctor.command import Wish, run
    from kpx.tools.cluster import Options

    chosen = tuple(one.upper() for one in ids or ())
    wish = Wish(what, name, namespace, chosen, output.value, fix, yes, dry_run, strict, verbose, seconds)
    raise typer.Exit(run(wish, Options(kubeconfig, manifests, node, timeout)))


_NAME = Annotated[str, typer.Option("--name", help="The lab's name: labs of different names do not meet.")]


@lab.command("up")
def lab_up(
    name: _NAME = "kpx",
    mode: Annotated[str, typer.Option(help="The daemon's proxy mode.")] = "iptables",
    services: Annotated[int, typer.Option(min=0, help="This many synthetic Services more.")] = 0,
) -> None:
    """Make a node, pods, a second node and clients, and run the daemon on the node."""
    from kpx.lab import commands

    raise typer.Exit(commands.up(name, mode, services))


@lab.command("down")
def lab_down(name: _NAME = "kpx") -> None:
    """Remove a lab: its processes, its network namespaces, its files."""
    from kpx.lab import commands

    raise typer.Exit(commands.down(name))


@lab.command("status")
def lab_status(
    name: _NAME = "kpx",
    output: Annotated[Output, typer.Option("-o", "--output", help="How to print it.")] = Output.TEXT,
) -> None:
    """Show a lab's places, addresses and processes. The status is 0 if all of it is there and runs, else 3."""
    from kpx.lab import commands

    raise typer.Exit(commands.status(name, as_json=output is Output.JSON))


@lab.command("exec", context_settings=_PASSED_ON | {"help_option_names": ["--help"]})
def lab_exec(
    place: Annotated[str, typer.Argument(help="A place of the lab: node-a, a10, client, ...")],
    command: Annotated[list[str], typer.Argument(help="The program and its arguments.")],
    name: _NAME = "kpx",
) -> None:
    """Run a program in a place of a lab: `kpx lab exec client curl 192.0.2.10:443`."""
    from kpx.lab import commands

    raise typer.Exit(commands.execute(name, place, command))


@lab.command("restart")
def lab_restart(name: _NAME = "kpx") -> None:
    """End the lab's daemon, and start it anew."""
    from kpx.lab import commands

    raise typer.Exit(commands.restart(name))


@lab.command("break")
def lab_break(
    fault: Annotated[str, typer.Argument(help="The fault to plant.")] = "",
    name: _NAME = "kpx",
    list_: Annotated[bool, typer.Option("--list", help="List all faults; those that are planted have a star.")] = False,
) -> None:
    """Plant a fault in the lab, for `kpx doctor` to find: `kpx lab break firewall`."""
    from kpx.lab import commands

    if not fault and not list_:
        raise typer.BadParameter("name a fault, or give --list to see all")
    raise typer.Exit(commands.list_faults(name) if list_ else commands.break_(name, fault))


@lab.command("mend")
def lab_mend(
    fault: Annotated[str, typer.Argument(help="The fault to take back; without it, all.")] = "", name: _NAME = "kpx"
) -> None:
    """Take back a fault that was planted in the lab."""
    from kpx.lab import commands

    raise typer.Exit(commands.mend(name, fault))


@lab.command("demo")
def lab_demo(
    name: _NAME = "kpx",
    mode: Annotated[str, typer.Option(help="The daemon's proxy mode.")] = "iptables",
    check: Annotated[
        bool, typer.Option("--check", help="Remove the lab at the end; fail if an answer is wrong.")
    ] = False,
) -> None:
    """Make a lab, visit its Services from pods, node and outside, and show who answered."""
    from kpx.lab import commands

    raise typer.Exit(commands.demo(name, mode, check=check))
