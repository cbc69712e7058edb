"""The IPVS table of this network namespace: read, and changed in pipelines of requests."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kpx.kernel.genetlink import family_number
from kpx.kernel.ipvs.coding import (
    Command,
    decode_info,
    decode_real,
    decode_timeouts,
    decode_virtual,
    real_part,
    request,
    timeout_parts,
    virtual_part,
)
from kpx.kernel.ipvs.types import Info, Real, RealServer, Settings, Timeouts, Virtual, VirtualServer
from kpx.kernel.netlink import NETLINK_GENERIC, NetlinkError, Refusal, Request, Socket, read_whole

_FAMILY = "IPVS"
_PRESENT = Path("/proc/thread-self/net/ip_vs")


class IpvsUnavailable(Exception):
    """The kernel has no IPVS, and cannot load it."""


def loaded() -> bool:
    """Whether the kernel has IPVS at work. Asking does not load it, as opening an `Ipvs` does."""
    return _PRESENT.exists()


@dataclass(frozen=True, slots=True)
class Change:
    """One request to change the table; ``weight`` is of the real server."""

    command: Command
    virtual: Virtual
    settings: Settings | None = None
    real: Real | None = None
    weight: int | None = None

    def __str__(self) -> str:
        """For errors: ``NEW_DEST TCP 10.96.0.1:443 -> 10.0.0.1:6443``."""
        return f"{self.command.name} {self.virtual}" + (f" -> {self.real}" if self.real else "")


def add_virtual(virtual: Virtual, settings: Settings) -> Change:
    """Make a virtual server; EEXIST if there is one."""
    return Change(Command.NEW_SERVICE, virtual, settings)


def set_virtual(virtual: Virtual, settings: Settings) -> Change:
    """Let a virtual server work in another way; its real servers and connections stay."""
    return Change(Command.SET_SERVICE, virtual, settings)


def delete_virtual(virtual: Virtual) -> Change:
    """Delete a virtual server with its real servers."""
    return Change(Command.DEL_SERVICE, virtual)


def add_real(virtual: Virtual, real: Real, weight: int = 1) -> Change:
    """Give a virtual server a real server, reached by masquerading; EEXIST if it has it."""
    return Change(Command.NEW_DEST, virtual, None, real, weight)


def set_real(virtual: Virtual, real: Real, weight: int) -> Change:
    """Change a real server's weight; with 0 it gets no new connections and keeps those it has."""
    return Change(Command.SET_DEST, virtual, None, real, weight)


def delete_real(virtual: Virtual, real: Real) -> Change:
    """Take a real server away. Its connections end with their next packet (``expire_nodest_conn``)."""
    return Change(Command.DEL_DEST, virtual, None, real)


class Ipvs:
    """A connection to IPVS in the network namespace of the thread that opens it. Not for several threads at once."""

    def __init__(self, *, counted: bool = True) -> None:
        """Loads the kernel's module if need be; raises `IpvsUnavailable` if there is none.

        Where not `counted`, servers are read without their counters, which takes less than half the time.
        """
        self._counted = counted
        self._socket = Socket(NETLINK_GENERIC)
        try:
            self._kind = family_number(self._socket, _FAMILY)
        except NetlinkError as error:
            self._socket.close()
            if error.errno != errno.ENOENT:
                raise
            raise IpvsUnavailable("the kernel has no IPVS (module ip_vs)") from error

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Ipvs:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def virtuals(self) -> list[VirtualServer]:
        """All virtual servers of both families."""
        replies = read_whole(lambda: self._socket.dump(self._kind, request(Command.GET_SERVICE), "list IPVS services"))
        return [decode_virtual(reply.payload, counted=self._counted) for reply in replies]

    def serves(self) -> bool:
        """Whether there is a virtual server at all.

        Only the begin of their list is read: this connection is of no use after that.
        """
        dump = self._socket.dump(self._kind, request(Command.GET_SERVICE), "list IPVS services")
        return any(True for _ in dump)

    def virtual(self, virtual: Virtual) -> VirtualServer | None:
        """One virtual server, or None if there is none."""
        try:
            replies = self._socket.request(
                self._kind, 0, request(Command.GET_SERVICE, virtual_part(virtual)), f"read IPVS service {virtual}"
            )
        except NetlinkError as error:
            if error.errno == errno.ESRCH:
                return None
            raise
        return decode_virtual(replies[0].payload, counted=self._counted) if replies else None

    def reals(self, virtual: Virtual) -> list[RealServer]:
        """The real servers of a virtual server; none if it does not exist."""
        wanted = request(Command.GET_DEST, virtual_part(virtual))
        replies = read_whole(lambda: self._socket.dump(self._kind, wanted, f"list the real servers of {virtual}"))
        return [decode_real(reply.payload, virtual.family, counted=self._counted) for reply in replies]

    def apply(self, changes: Sequence[Change]) -> dict[int, Refusal]:
        """Make changes in order; return those that the kernel refuses, by place. The others are made all the same."""
        return self._socket.pipeline([Request(self._kind, 0, _encoded(change)) for change in changes])

    def timeouts(self) -> Timeouts:
        (reply,) = self._socket.request(self._kind, 0, request(Command.GET_CONFIG), "read the IPVS time-outs")
        return decode_timeouts(reply.payload)

    def set_timeouts(self, timeouts: Timeouts) -> None:
        """Set those that are not 0."""
        self._socket.request(
            self._kind, 0, request(Command.SET_CONFIG, *timeout_parts(timeouts)), f"set the IPVS time-outs {timeouts}"
        )

    def info(self) -> Info:
        (reply,) = self._socket.request(self._kind, 0, request(Command.GET_INFO), "read what IPVS is")
        return decode_info(reply.payload)


def _encoded(change: Change) -> bytes:
    parts = [virtual_part(change.virtual, change.settings)]
    if change.real:
        parts.append(real_part(change.real, change.weight))
    return request(change.command, *parts)
