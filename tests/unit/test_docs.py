"""What the documentation names: commands that parse, files that are there, and a manual with every option."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import typer

from kpx.cli import app
from kpx.config.arguments import parse_arguments
from kpx.manual import manual

ROOT = Path(__file__).resolve().parents[2]
# What the README says is not there yet, and the alerts name.
LATER: set[str] = set()
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
GROUP: Any = typer.main.get_command(app)


def commands(text: str, start: str = r"(?: {4,}|# |\$ )") -> Iterator[list[str]]:
    """The words of every kpx command in a text: in lines of shell, which begin with `start`, and between backticks."""
    block = re.findall(rf"^{start}(?:\S.* -- )?(kpx .*?)(?:  .*|#.*)?$", text, re.M)
    inline = re.findall(r"`(?:[^`\n]* -- )?(kpx [^`\n]*)`", text)
    for found in [*block, *inline]:
        with suppress(ValueError):  # prose with an apostrophe
            words = shlex.split(re.split(r" [|>]|&&| \.\.\.", found)[0])
            if len(words) > 1 and re.match(r"[a-z-]", words[1]):
                yield words[1:]


def examples() -> list[tuple[str, list[str]]]:
    found = [(page.relative_to(ROOT).as_posix(), words) for page in PAGES for words in commands(page.read_text())]
    helped = [
        (f"--help of {name}", words) for name, one in GROUP.commands.items() for words in commands(one.help or "")
    ]
    return found + helped


def parse(words: list[str]) -> None:
    """Have the command line read as it would be, without doing anything."""
    name, *rest = words
    if name == "daemon":
        parse_arguments(rest, "kpx daemon")
        return
    command = GROUP.commands[name]
    if hasattr(command, "commands") and rest:
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context(name, rest)


@pytest.mark.parametrize(("where", "words"), examples(), ids=lambda one: one if isinstance(one, str) else " ".join(one))
def test_every_command_in_the_documentation_is_understood(where: str, words: list[str]) -> None:
    known = {*GROUP.commands, *LATER, *(option for one in GROUP.params for option in one.opts)}
    assert words[0] in known, f"{where}: there is no command {words[0]}"
    if len(words) > 1 and "--help" not in words and words[0] in GROUP.commands:
        parse(words)


def test_a_mistake_in_an_example_is_found() -> None:
    (words,) = commands("see `kpx services --no-such-option`")
    with pytest.raises(Exception, match="no-such-option"):
        parse(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    targets = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", text)
    named = re.findall(r"`((?:docs|deploy|tests|benchmarks)/[\w./-]+)`", text)
    missing = [one for one in targets if not (page.parent / one).exists()]
    missing += [one for one in named if not (ROOT / one).exists()]
    assert missing == []


def test_the_manual_has_every_command_and_option() -> None:
    text = manual().replace(r"\-", "-")
    for command in GROUP.commands.values():
        for parameter in command.params if not hasattr(command, "commands") else ():
            if not parameter.hidden:
                assert all(one in text for one in parameter.opts), parameter.opts
    for name in ("kpx services", "kpx lab up", "kpx migrate", "--iptables-masquerade-bit"):
        assert name in text


def test_the_manual_is_roff_without_a_fault(tmp_path: Path) -> None:
    if shutil.which("groff") is None:
        pytest.skip("there is no groff to read it with")
    page = tmp_path / "kpx.1"
    page.write_text(manual())
    read = subprocess.run(["groff", "-man", "-Tutf8", "-ww", page], capture_output=True, text=True, check=True)
    assert read.stderr == ""
    assert "Run as the node's kube-proxy" in read.stdout
