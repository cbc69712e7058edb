"""What must hold for the files of the repository themselves."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]

# Each pattern is written so that it does not match its own line.
NOT_IN_A_FILE = {
    "an address of a package index": r"index[-]url|trusted[-]host|(registry|resolved)\W{0,4}http|[.]org/[s]imple",
    "a path of one machine": r"/[w]ork/|/home/[a-z]+/|[/]Users/",
    "a reference that a reader cannot follow": r"DESIGN[.]md|\b(spec|research)/[\w-]+[.]md|\b[Ii]ssue [#]?\d{1,2}\b",
}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    parts = [re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.+!]+)", line) for line in lines]
    assert all(parts), f"not NAME==VERSION: {[line for line, part in zip(lines, parts, strict=True) if not part]}"
    return {canonicalize_name(part[1]): part[2] for part in parts if part}


def requirements() -> list[Requirement]:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = pyproject["project"]
    extras = [name for names in project["optional-dependencies"].values() for name in names]
    return [Requirement(text) for text in pyproject["build-system"]["requires"] + project["dependencies"] + extras]


def files(folder: Path, ignored: list[str]) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if any(fnmatch(path.name, pattern) for pattern in ignored):
            continue
        if path.is_dir():
            yield from files(path, ignored)
        else:
            yield path


@pytest.mark.parametrize("requirement", requirements(), ids=lambda requirement: requirement.name)
def test_every_requirement_is_pinned_to_a_version_that_it_allows(requirement: Requirement) -> None:
    version = pins().get(canonicalize_name(requirement.name))
    assert version is not None
    assert requirement.specifier.contains(version)


@pytest.mark.parametrize("what", NOT_IN_A_FILE)
def test_no_file_holds(what: str) -> None:
    ignored = [".git", *(line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines())]
    pattern = re.compile(NOT_IN_A_FILE[what])
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files(ROOT, ignored)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, "\n".join(found)
