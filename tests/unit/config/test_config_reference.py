from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kpx.config.fields import FIELDS, unused_fields
from kpx.config.reference import reference
from kpx.config.schema import leaves

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_every_field_is_described_in_order() -> None:
    assert list(FIELDS) == list(leaves())


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == reference(), "run: python -m kpx.config.reference > docs/configuration.md"


def test_unused_fields() -> None:
    assert unused_fields({"mode": "ipvs", "portRange": "", "winkernel.enableDSR": False}) == []
    assert unused_fields({"portRange": "1-2", "winkernel.enableDSR": True}) == [
        ("winkernel.enableDSR", "it is for Windows nodes"),
        ("portRange", "that proxy no longer exists"),
    ]


def test_reading_a_command_line_imports_nothing_heavy() -> None:
    script = (
        "import sys, kpx.config.effective, kpx.config.usage;"
        "print(sorted({'typer', 'textual', 'kubernetes', 'asyncio'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
