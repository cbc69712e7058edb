"""Tests that run elsewhere show as if they had run here. In the guest's place: this kernel, and the same variables."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[3]
# The plugin, with this machine's own kernel in the guest's place.
CONFTEST = """
from pathlib import Path
from tests.uml import guest
pytest_plugins = ["tests.workers", "tests.uml.plugin"]
guest.RUNNER = Path("runner").absolute()
guest.missing = lambda: None
"""
RUNNER = """#!/bin/sh
[ "$1 $2 $3" = "--timeout 0 --env" ] || exit 99
export UML_RUN=1 "$4"
shift 5
exec "$@"
"""
HERE = """
import os

def test_here():
    assert "UML_RUN" not in os.environ
"""
THERE = """
import os
from pathlib import Path

def test_there():
    assert os.environ["UML_RUN"] == "1"
    with open("guests", "a") as guests:
        guests.write(f"{Path(__file__).stem} {os.getpid()}\\n")
"""


@dataclass(frozen=True)
class Project:
    """A folder with tests, and a runner."""

    root: Path

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        quiet = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-ra"]
        return subprocess.Popen(
            # A shell has SIGINT ignored in what it starts in the background, and that is passed on.
            ["env", "--default-signal=INT", sys.executable, "-m", "pytest", *quiet, *arguments],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(self.root / "tmp")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def pytest(self, *arguments: str) -> str:
        """What pytest prints of a run."""
        output, errors = self.start(*arguments).communicate()
        assert not errors, errors
        return output


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    (tmp_path / "tmp").mkdir()
    project.write("pytest.ini", "[pytest]\ntimeout = 60\nfilterwarnings = error\n")
    project.write("conftest.py", CONFTEST)
    project.write("runner", RUNNER)
    project.write("tests/test_z.py", HERE)
    return project


def in_order(output: str, *texts: str) -> None:
    """All these occur, one after the other."""
    rest = output
    for text in texts:
        before, found, rest = rest.partition(text)
        assert found, f"{text!r} is missing in {before!r}; all of it:\n{output}"


def until(happened: Callable[[], bool]) -> None:
    """Wait for something that soon happens."""
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_results_from_the_guest_come_last_and_as_always(project: Project) -> None:
    project.write(
        "tests/ipvs/test_a.py",
        """
import os
import pytest

def test_there():
    print("said there")
    assert os.environ["UML_RUN"] == "2"

def test_left_out():
    pytest.skip("not today")

@pytest.mark.xfail(strict=True)
def test_known():
    raise ValueError

@pytest.fixture
def broken():
    raise RuntimeError("no fixture")

@pytest.mark.parametrize("name", ["a b", "ä::x"])
def test_broken(broken, name):
    pass
""",
    )
    output = project.pytest("-v")

    in_order(output, "test_z.py::test_here PASSED", "test_there FAILED", "test_left_out SKIPPED (not today)")
    in_order(output, "test_known XFAIL", "test_broken[a b] ERROR", "ERRORS", "RuntimeError: no fixture")
    in_order(output, "FAILURES", '>       assert os.environ["UML_RUN"] == "2"', "assert '1' == '2'", "said there")
    in_order(output, "SKIPPED [1] tests/ipvs/test_a.py:", "1 failed, 1 passed, 1 skipped, 1 xfailed, 2 errors")


def test_each_guest_is_one_workers(project: Project) -> None:
    for name in ("test_a", "test_b", "test_scenarios"):
        project.write(f"tests/ipvs/{name}.py", THERE)
        project.write(f"tests/{name}_here.py", HERE)

    in_order(project.pytest("-n", "2"), "7 passed")

    said = dict(line.split() for line in (project.root / "guests").read_text().splitlines())
    assert said.keys() == {"test_a", "test_b", "test_scenarios"}
    assert said["test_a"] == said["test_b"] != said["test_scenarios"]


def test_a_worker_goes_on_with_what_runs_here(project: Project) -> None:
    """The fixtures of what ran before the guest's tests have ended, and those that come after have their own."""
    fixture = """
import pytest

@pytest.fixture(scope="module")
def made():
    yield

def test_it(made):
    pass
"""
    project.write("tests/ipvs/test_a.py", THERE)
    project.write("tests/first/test_first.py", fixture)
    project.write("tests/last/test_last.py", fixture)

    in_order(project.pytest("-n", "1"), "4 passed")


def test_only_what_is_selected_runs_there(project: Project) -> None:
    project.write(
        "tests/ipvs/test_a.py",
        "import pathlib\ndef test_a():\n    pathlib.Path('a').touch()\ndef test_b():\n    pathlib.Path('b').touch()\n",
    )
    in_order(project.pytest("-k", "test_b"), "1 passed, 2 deselected")

    assert [(project.root / name).exists() for name in "ab"] == [False, True]


def test_a_failure_here_stops_what_runs_there(project: Project) -> None:
    project.write("tests/test_z.py", "def test_here():\n    assert False\n")
    project.write("tests/ipvs/test_a.py", "import time\ndef test_a():\n    time.sleep(600)\n")

    in_order(project.pytest("-x"), "stopping after 1 failures", "1 failed in")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_runs_on_there_when_pytest_ends_here(project: Project, number: signal.Signals) -> None:
    project.write(
        "tests/ipvs/test_a.py",
        """
import os, pathlib, time

def test_a():
    pathlib.Path("new").write_text(str(os.getpid()))
    pathlib.Path("new").rename("pid")
    time.sleep(600)
""",
    )
    with project.start() as here:
        pid = project.root / "pid"
        until(pid.exists)
        there = psutil.Process(int(pid.read_text()))
        here.send_signal(number)
        until(lambda: not there.is_running() or there.status() == psutil.STATUS_ZOMBIE)
        until(lambda: here.poll() is not None)


@pytest.mark.parametrize(
    ("runner", "told"),
    [
        ("#!/bin/sh\necho no memory >&2\nexit 125\n", "(status 125); the end of what it said:\nno memory"),
        (RUNNER.replace("exec", "true"), "(status 0)"),
    ],
)
def test_a_guest_that_does_not_start_fails_its_tests(project: Project, runner: str, told: str) -> None:
    project.write("runner", runner)
    project.write("tests/ipvs/test_a.py", "def test_a():\n    pass\ndef test_b():\n    pass\n")

    output = project.pytest()
    in_order(output, "test_a", f"the guest ended {told}", "test_b", "see the first test that failed for this")
    in_order(output, "2 failed, 1 passed")


def test_a_guest_that_dies_fails_the_rest(project: Project) -> None:
    project.write(
        "tests/ipvs/test_a.py",
        "import os\ndef test_a():\n    pass\ndef test_b():\n    os.kill(os.getpid(), 9)\ndef test_c():\n    pass\n",
    )
    output = project.pytest("-v")
    in_order(output, "::test_a PASSED", "::test_b FAILED", "::test_c FAILED")
    in_order(output, "the guest ended (status -9) while it ran tests/ipvs/test_a.py::test_b; the end of what it said")


def test_a_file_that_cannot_be_collected_there_fails_its_tests(project: Project) -> None:
    project.write("tests/ipvs/test_a.py", "import os\nassert 'UML_RUN' not in os.environ\ndef test_a(): pass\n")

    output = project.pytest()
    in_order(output, "the guest ended (status 2)", "E   AssertionError", "1 failed, 1 passed")


def test_silence_ends_a_guest(project: Project) -> None:
    project.write("conftest.py", CONFTEST + "guest.SILENCE_SECONDS = 0.5\n")
    project.write("runner", "#!/bin/sh\nexec sleep 600\n")
    project.write("tests/ipvs/test_a.py", "def test_a():\n    pass\n")

    in_order(project.pytest(), "nothing came from the guest for", "1 failed, 1 passed")


def test_without_a_kernel_the_tests_are_skipped_and_said_to_be(project: Project) -> None:
    project.write("conftest.py", CONFTEST.replace("None", "'no kernel'"))
    project.write("tests/ipvs/test_a.py", "def test_a():\n    assert False\n")

    output = project.pytest()
    in_order(output, "1 tests of mode ipvs were SKIPPED: no kernel", "1 passed, 1 skipped")
    in_order(output, "SKIPPED [1] tests/ipvs/test_a.py: no kernel")


def test_fixtures_of_the_tests_here_end_with_the_last_of_these(project: Project) -> None:
    project.write(
        "tests/test_z.py",
        """
import pytest

@pytest.fixture(scope="session")
def shared():
    yield
    raise RuntimeError("cannot end")

def test_here(shared):
    pass
""",
    )
    project.write("tests/ipvs/test_a.py", "def test_a():\n    pass\n")

    output = project.pytest("-v")
    in_order(output, "::test_here PASSED", "::test_here ERROR", "::test_a PASSED", "cannot end")
