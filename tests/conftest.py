"""What all tests share."""

from hypothesis import settings

pytest_plugins = ["tests.workers", "tests.uml.plugin", "tests.packets.fixtures"]

# No test asserts a time: a busy machine is slow.
settings.register_profile("kpx", deadline=None)
settings.load_profile("kpx")
