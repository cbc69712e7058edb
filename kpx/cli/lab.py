"""The lab: a node to try kpx on."""

from __future__ import annotations

from typing import Annotated

import typer

from kpx.cli.application import PASSED_ON, Output, app

lab = typer.Typer(no_args_is_help=True, help="A small node with pods and clients in network namespaces, to try kpx on.")
app.add_typer(lab, name="lab")

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


@lab.command("exec", context_settings=PASSED_ON | {"help_option_names": ["--help"]})
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


@lab.command("traffic")
def lab_traffic(
    name: _NAME = "kpx",
    rate: Annotated[float, typer.Option(min=0.1, max=1000, help="Connections a second, about.")] = 20,
) -> None:
    """Make light traffic to a lab's Services from pods, node and outside, until it is interrupted."""
    from kpx.lab import commands

    raise typer.Exit(commands.traffic(name, rate))


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
