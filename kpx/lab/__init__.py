"""A small cluster on one machine: a node under test, its pods, a second node and clients, as network namespaces."""

from kpx.lab.lifecycle import Lab, LabError, command, down, exec, status, up

__all__ = ["Lab", "LabError", "command", "down", "exec", "status", "up"]
