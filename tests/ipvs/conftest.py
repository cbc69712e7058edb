"""The same fixture as on the host's kernel."""

from tests.kernel.conftest import network_namespace

__all__ = ["network_namespace"]
