"""The same fixtures as on the host's kernel."""

from tests.kernel.conftest import network_namespace
from tests.kernel.packets.conftest import scenario_lab

__all__ = ["network_namespace", "scenario_lab"]
