"""Which tests stay together when pytest's workers share them (`pytest -n`): a file's, and those of a guest."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.uml.guest import TESTS

# It takes as long as all other tests of the guest, and so has a guest, and a worker, of its own.
_ALONE = "test_scenarios.py"


def company(nodeid: str) -> str:
    """What names the tests that stay together with a test.

    A file's share what is dear to make, such as a lab; the guest's share a guest.
    """
    path = PurePosixPath(nodeid.split("::", 1)[0])
    return TESTS if path.is_relative_to(TESTS) and path.name != _ALONE else str(path)


class ByCompany(LoadScopeScheduling):
    """Gives tests that stay together to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return company(nodeid)


@pytest.hookimpl
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByCompany:
    # In the order in which they were found, not the files with most tests first: the guest's, which take longest, are
    # among the first, and the quick ones come last.
    config.option.loadscopereorder = False
    return ByCompany(config, log)
