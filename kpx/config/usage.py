"""The text of ``--help``, made from the table of flags; no line is longer than 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from kpx.config.flags import GROUPS, Flag

_WIDTH = 80


def usage(program: str = "kube-proxy") -> str:
    """The whole help, ready to print."""
    intro = (
        "Makes Services work on this node: writes the rules that send the traffic of their addresses to their "
        f"endpoints. {program} takes kube-proxy's configuration file and flags."
    )
    lines = ["Usage:", f"  {program} [flags]", "", *textwrap.wrap(intro, _WIDTH)]
    for title, flags in GROUPS.items():
        lines += ["", f"{title}:"]
        for flag in flags:
            lines += _described(flag)
    return "\n".join(lines) + "\n"


def _described(flag: Flag) -> Iterator[str]:
    short = f"-{flag.short}, " if flag.short else "    "
    yield f"  {short}--{flag.name} {flag.type.name}".rstrip()
    indent = " " * 10
    yield from textwrap.wrap(flag.help, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
