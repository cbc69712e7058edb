"""What the messages of IPVS say of the clients that persistence keeps together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from kpx.kernel.genetlink import HEADER
from kpx.kernel.ipvs.coding import decode_virtual, virtual_part
from kpx.kernel.ipvs.types import Flag, Settings, Virtual

IPV4 = Virtual("10.96.0.1", 80, "TCP")
IPV6 = Virtual("fd00::1", 80, "TCP")


def sent_and_read(virtual: Virtual, settings: Settings) -> Settings:
    return decode_virtual(memoryview(bytes(HEADER.size) + virtual_part(virtual, settings))).settings


@given(some.integers(0, 31))
def test_a_prefix_is_a_netmask_of_ipv4(prefix: int) -> None:
    settings = Settings("rr", Flag.PERSISTENT, 60, prefix)
    assert sent_and_read(IPV4, settings) == settings


@given(some.integers(0, 127))
def test_a_prefix_is_a_number_for_ipv6(prefix: int) -> None:
    settings = Settings("rr", Flag.PERSISTENT, 60, prefix)
    assert sent_and_read(IPV6, settings) == settings


def test_the_whole_address_needs_no_prefix() -> None:
    assert sent_and_read(IPV4, Settings(prefix=32)) == Settings()
    assert sent_and_read(IPV6, Settings(prefix=128)) == Settings()


@pytest.mark.parametrize("mask", ["0.0.0.0", "255.0.255.0", "0.0.0.255"])
def test_a_netmask_that_is_no_prefix_is_another_setting(mask: str) -> None:
    settings = Settings("rr", Flag.PERSISTENT, 60, mask=mask)
    assert sent_and_read(IPV4, settings) == settings
    assert not settings.alike(Settings("rr", Flag.PERSISTENT, 60))
