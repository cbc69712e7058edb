"""A connection to nftables in the test's namespace, and the skeleton in each family."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.transaction import Operation, Transaction
from kpx.kernel.nft.wire import NfFamily
from tests.kernel.nft.skeleton import Skeleton

Apply = Callable[..., None]


@pytest.fixture
def nft() -> Iterator[Nft]:
    with Nft() as connection:
        yield connection


@pytest.fixture(params=[NfFamily.IP, NfFamily.IP6], ids=["ip", "ip6"])
def skeleton(request: pytest.FixtureRequest) -> Skeleton:
    return Skeleton(request.param)


@pytest.fixture
def ip(nft: Nft) -> Skeleton:
    """The skeleton's objects in family ip, already made, with nothing in the sets."""
    made = Skeleton(NfFamily.IP)
    nft.apply(Transaction(made.table, made.objects))
    return made


@pytest.fixture
def change(nft: Nft, ip: Skeleton) -> Apply:
    """Apply some operations to the skeleton's table of family ip."""

    def apply(*operations: Operation, generation: int | None = None) -> None:
        nft.apply(Transaction(ip.table, operations), generation=generation)

    return apply
