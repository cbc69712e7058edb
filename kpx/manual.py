"""The manual page kpx(1), made from the commands themselves: ``python -m kpx.manual > kpx.1``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

import typer

from kpx import __version__
from kpx.cli import app
from kpx.config.usage import usage

_FILES = {
    "/run/kpx/kpx.sock": "Where the daemon answers the tools, for root alone; KPX_SOCKET names another path.",
    "/run/xtables.lock": "The lock that all programs take which change rules of iptables.",
}
_STATUSES = {
    "0": "All is well.",
    "1": "It could not run; standard error says why.",
    "2": "A mistake in the command.",
    "3": "It ran, and what it looked at is not as it should be.",
}


def manual() -> str:
    """The page, in roff's man macros."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    group: Any = typer.main.get_command(app)
    yield f'.TH KPX 1 "" "kpx {__version__}" "User Commands"'
    yield from (".SH NAME", rf"kpx \- {_text(group.help).rstrip('.')}", ".SH SYNOPSIS", ".B kpx", ".I COMMAND", "[...]")
    yield ".SH COMMANDS"
    for name, command in _commands(group):
        yield from _command(name, command)
    yield ".SH DAEMON"
    yield from (".nf", _text(usage("kpx daemon")), ".fi")
    yield from _table("EXIT STATUS", _STATUSES)
    yield from _table("FILES", _FILES)


def _commands(group: Any, before: str = "kpx") -> Iterator[tuple[str, Any]]:
    """All commands with their full names, those of groups too."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before} {name}")
        elif not command.hidden:
            yield f"{before} {name}", command


def _command(name: str, command: Any) -> Iterator[str]:
    context = typer.Context(command, info_name=name)
    records = [record for one in command.params if (record := one.get_help_record(context))]
    yield f".SS {_text(name)}"
    for paragraph in re.split(r"\n\s*\n", command.help or ""):
        is_example = paragraph.lstrip().startswith("kpx ")
        text = _text(" ".join(paragraph.split()))
        yield from (".RS 4", ".nf", _text(paragraph.strip()), ".fi", ".RE") if is_example else (".PP", text)
    for names, text in records:
        yield from (".TP", rf"\fB{_text(names)}\fR", _text(text))


def _table(title: str, rows: dict[str, str]) -> Iterator[str]:
    yield f".SH {title}"
    for name, text in rows.items():
        yield from (".TP", rf"\fB{_text(name)}\fR", _text(text))


def _text(text: str) -> str:
    """Text that roff takes as it is. What rich's markup escapes is unescaped."""
    plain = text.replace("\\[", "[").replace("\\", r"\e").replace("-", r"\-")
    return re.sub(r"^([.'])", r"\\&\1", plain, flags=re.M)


if __name__ == "__main__":
    sys.stdout.write(manual())
