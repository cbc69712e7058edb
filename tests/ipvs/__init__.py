"""Tests that need IPVS, which the kernel at hand may not have: they run in a guest (tests/uml)."""
