"""The runbooks."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from kpx.cli.application import (
    ALL_NODES,
    BUNDLE,
    KPX_PODS,
    KUBECONFIG,
    MANIFESTS,
    NODE,
    PODS,
    TIMEOUT,
    alone,
    app,
    on_all_nodes,
)


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
    kubeconfig: KUBECONFIG = "",
    manifests: MANIFESTS = "",
    node: NODE = "",
    timeout: TIMEOUT = 10.0,
    bundle: BUNDLE = "",
    all_nodes: ALL_NODES = False,
    kpx_pods: KPX_PODS = PODS,
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

    kpx doctor --all-nodes -o json        every node's findings; fixes are made on a node only

    The status is 0, 3 if something failed, 4 for warnings with --strict, 1 if
    it could not run, 2 for a mistake in the command; with -o npd it is 0, 1
    or 2, as a custom plugin of node-problem-detector has it.
    """
    from kpx.doctor.command import Wish, run
    from kpx.tools.cluster import Options

    chosen = tuple(one.upper() for one in ids or ())
    alone(bundle, kubeconfig=kubeconfig, manifests=manifests, node=node, fix=fix, all_nodes=all_nodes)
    if all_nodes:
        if fix or output not in (DoctorOutput.TEXT, DoctorOutput.JSON):
            raise typer.BadParameter("--all-nodes only tells, as text or JSON: leave out --fix, -o junit and -o npd")
        raise typer.Exit(on_all_nodes("doctor", kubeconfig, kpx_pods, timeout, as_json=output is DoctorOutput.JSON))
    wish = Wish(what, name, namespace, chosen, output.value, fix, yes, dry_run, strict, verbose, seconds)
    if bundle:
        from kpx.bundle import command as bundled

        raise typer.Exit(bundled.doctor(bundle, wish))
    raise typer.Exit(run(wish, Options(kubeconfig, manifests, node, timeout)))
