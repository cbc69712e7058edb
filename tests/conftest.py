"""What all tests share."""

import signal

from hypothesis import settings

pytest_plugins = ["tests.workers", "tests.uml.plugin", "tests.packets.fixtures"]

# What a shell runs in the background ignores this signal, and so would all that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
# No test asserts a time: a busy machine is slow.
settings.register_profile("kpx", deadline=None)
settings.load_profile("kpx")
