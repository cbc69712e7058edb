"""The arguments of `kpx ipvs`, and what it says where it cannot read."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from kpx.cli import app
from kpx.kernel.ipvs import connections
from kpx.tables.ipvs import command


def refused(*arguments: str, status: int = 2) -> str:
    done = CliRunner().invoke(app, ["ipvs", *arguments])
    assert done.exit_code == status
    assert done.stdout == ""
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("web",), "'web' is no IP address; names are not looked up"),
        (("--stats", "--rate"), "--stats and --rate are different tables: ask for one of them"),
        (("-c", "--timeout"), "--timeout and --connections are different tables: ask for one of them"),
        (("--limit", "5"), "--limit is for --connections"),
        (("--timeout", "10.96.0.1"), "--timeout is the same for all services: leave the service out"),
        (("-c", "fwmark:5"), "the kernel does not tell the firewall mark of a connection: name an address"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_in_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    assert refused(*arguments) == f"kpx ipvs: {sentence}\n"


@pytest.mark.parametrize("arguments", [("--limit", "0"), ("-w", "0"), ("-o", "xml"), ("a", "b"), ("--no-such",)])
def test_what_is_no_argument_is_refused(arguments: tuple[str, ...]) -> None:
    assert "Usage: " in refused(*arguments)


@pytest.mark.parametrize("arguments", [(), ("-o", "json"), ("--timeout",), ("-w", "1")])
def test_a_kernel_without_ipvs_is_told(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "loaded", lambda: False)
    assert "IPVS at work: the module ip_vs is not loaded. A node whose" in refused(*arguments, status=1)


def test_connections_need_ipvs_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(connections, "_NET", tmp_path)
    for arguments in (("-c",), ("-c", "--limit", "1"), ("-c", "-o", "json")):
        assert "the module ip_vs is not loaded" in refused(*arguments, status=1)


def test_a_fault_of_the_kernel_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> bool:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(command, "loaded", fail)
    assert refused(status=1) == "kpx ipvs: [Errno 5] Input/output error\n"


def test_the_help_teaches_by_examples() -> None:
    done = CliRunner().invoke(app, ["ipvs", "--help"], env={"COLUMNS": "80"})
    assert done.exit_code == 0
    for text in ("kpx ipvs 10.96.0.1:443 --stats", "[fd00::1]:443", "docs/json.md", "--connections"):
        assert text in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
