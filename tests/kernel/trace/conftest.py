"""The lab of the packet scenarios."""

from tests.kernel.packets.conftest import scenario_lab

__all__ = ["scenario_lab"]
