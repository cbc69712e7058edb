"""The application, and what its commands share: how they print, where they look, on which nodes."""

from __future__ import annotations

import sys
from enum import Enum
from typing import Annotated

import typer

from kpx import __version__

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A kube-proxy that you can see through: node proxy, tracer and troubleshooting toolkit.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kpx {__version__}")
        raise typer.Exit


@app.callback()
def kpx(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


class Output(Enum):
    """How a command prints its answer."""

    TEXT = "text"
    JSON = "json"


class TableOutput(Enum):
    """How a command prints a table."""

    TEXT = "text"
    WIDE = "wide"
    JSON = "json"


PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
KUBECONFIG = Annotated[
    str, typer.Option("--kubeconfig", help="Ask the API server of this kubeconfig, and not the daemon.")
]
MANIFESTS = Annotated[str, typer.Option("--manifests", help="Take the objects from the YAML files in this folder.")]
NODE = Annotated[str, typer.Option("--node", help="This node's name in the cluster; else as its proxy says.")]
TIMEOUT = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait for an API server, at most.")]
KERNEL_ONLY = Annotated[bool, typer.Option("--kernel-only", help="Ask nobody but the kernel.")]
ALL_NODES = Annotated[bool, typer.Option("--all-nodes", help="Ask every node's kpx pod, through the API server.")]
KPX_PODS = Annotated[str, typer.Option("--kpx-pods", help="With --all-nodes: which they are, NAMESPACE/LABELS.")]
PODS = "kube-system/k8s-app=kpx"
BUNDLE = Annotated[
    str, typer.Option("--bundle", metavar="FILE", help="Of the node that `kpx bundle` was run on; needs no root.")
]


def alone(bundle: str, **others: object) -> None:
    """A bundle is asked alone: options that name another source, or that do something, are a mistake beside it."""
    if bundle and (given := [f"--{name.replace('_', '-')}" for name, value in others.items() if value]):
        raise typer.BadParameter(
            f"with --bundle nobody else is asked and nothing is done: leave out {', '.join(given)}"
        )


def complete_service(incomplete: str) -> list[str]:
    """For the shell: the Services of the daemon or the API server that a word may be the beginning of."""
    from kpx.tools.completion import services

    return services(incomplete)


SERVICE_OR_PATTERN = Annotated[
    str,
    typer.Argument(
        help="svc/NAME or NAMESPACE/NAME[:PORT], or a regular expression for NAMESPACE/NAME:PORT.",
        autocompletion=complete_service,
    ),
]


def on_all_nodes(command: str, kubeconfig: str, kpx_pods: str, timeout: float, *, as_json: bool) -> int:
    """Run the command that was given here on every node."""
    from kpx.tools.all_nodes import Nodes, run

    return run(command, sys.argv[1:], Nodes(kubeconfig, kpx_pods, timeout), as_json=as_json)
