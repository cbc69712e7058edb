"""The command line. A command is one thin function; what it does not need is not imported."""

from __future__ import annotations

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


_PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


@app.command(context_settings=_PASSED_ON, add_help_option=False, short_help="Run as the node's kube-proxy.")
def daemon(context: typer.Context) -> None:
    """Run as the node's kube-proxy: the same configuration file and flags. `kpx daemon --help` lists them."""
    from kpx.proxier.main import main as run

    raise typer.Exit(run(context.args, "kpx daemon"))


@app.command()
def cleanup(context: typer.Context) -> None:
    """Remove all rules that kpx or kube-proxy made on this node, and nothing else."""
    from kpx.proxier.main import main as run

    raise typer.Exit(run(["--cleanup", *context.args], "kpx cleanup"))


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
