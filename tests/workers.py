"""Which tests stay together when pytest's workers share them (`pytest -n`): a file's, and all of the guest's."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

GUESTS = "tests/ipvs"


class ByFile(LoadScopeScheduling):
    """A file's tests share what is dear to make, such as a lab; the guest's tests share the guest."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::", 1)[0]
        return GUESTS if path.startswith(f"{GUESTS}/") else path


@pytest.hookimpl
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    # In the order in which they were found, not the files with most tests first: the guest, which takes longest, is
    # among the first, and the quick ones come last.
    config.option.loadscopereorder = False
    return ByFile(config, log)
