"""ipvs mode, and the requests of a real run of it sent bare as the floor.

Its reads are no part of the floor: what it reads decides what it asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks.iptables import Recorder, restore
from kpx.kernel.iptables.program import find
from kpx.kernel.links import NETLINK_ROUTE
from kpx.kernel.netlink import (
    NETLINK_NETFILTER,
    NLM_F_ACK,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    Message,
    Refusal,
    Request,
    Socket,
    message,
    messages,
    raise_error,
)
from kpx.net import Family
from kpx.proxier.ipvs.mode import IpvsMode
from kpx.proxier.site import Mode

# The requests that make IP sets and the device (IPSET_CMD_CREATE, RTM_NEWLINK); all others outside of pipelines read.
_MAKING = ((NETLINK_NETFILTER, 6 << 8 | 2), (NETLINK_ROUTE, 16))
_AT_A_TIME = 200
_RECEIVE_BYTES = 1 << 20


class Sent(NamedTuple):
    """Requests in one datagram: the netlink protocol, and the number of the last one, which is acknowledged."""

    protocol: int
    data: bytes
    last: int


class IpvsRecording:
    """A `Recording` of datagrams and restore inputs. The datagrams are sent all the same: ipvs mode reads back.

    Sockets are recorded from here to `close`.
    """

    def __init__(self) -> None:
        found = find(Family.IPV4)
        self._rules = Recorder(found.family, found.variant, found.plain)
        self._sent: list[Sent] = []
        self._real = {name: getattr(Socket, name) for name in ("pipeline", "request")}
        recorded = self

        def pipeline(self: Socket, requests: Sequence[Request]) -> dict[int, Refusal]:
            recorded._note(self, requests)
            refused: dict[int, Refusal] = recorded._real["pipeline"](self, requests)
            return refused

        def request(self: Socket, kind: int, flags: int, payload: bytes, what: str) -> list[Message]:
            if (self.protocol, kind) in _MAKING:
                recorded._note(self, [Request(kind, flags, payload)])
            answers: list[Message] = recorded._real["request"](self, kind, flags, payload, what)
            return answers

        self._patch(pipeline=pipeline, request=request)
        self.mode: Mode = IpvsMode(programs=self._rules)

    def close(self) -> None:
        self._patch(**self._real)

    def _patch(self, **methods: Any) -> None:
        for name, method in methods.items():
            setattr(Socket, name, method)

    def _note(self, netlink: Socket, requests: Sequence[Request]) -> None:
        for start in range(0, len(requests), _AT_A_TIME):
            part = requests[start : start + _AT_A_TIME]
            data = [
                message(one.kind, one.flags | NLM_F_REQUEST | (NLM_F_ACK if at == len(part) else 0), at, one.payload)
                for at, one in enumerate(part, 1)
            ]
            self._sent.append(Sent(netlink.protocol, b"".join(data), len(part)))

    def take(self) -> list[Sent | str]:
        taken: list[Sent | str] = [*self._sent, *self._rules.inputs]
        self._sent.clear()
        self._rules.inputs.clear()
        return taken

    def send(self, written: Sent | str) -> None:
        if isinstance(written, str):
            restore(self._rules, written)
            return
        with Socket(written.protocol) as netlink:
            netlink.send(written.data)
            while not _answered(netlink, written.last):
                pass


def _answered(netlink: Socket, last: int) -> bool:
    """Take what has come, and whether the last request is answered. Raises OSError for what is refused."""
    answers = list(messages(netlink.receive() or b""))
    for answer in answers:
        if answer.type == NLMSG_ERROR:
            raise_error(answer, "send the recorded requests")
    return any(answer.sequence == last for answer in answers)


@dataclass(frozen=True, slots=True)
class IpvsSubject:
    """A `Subject`: ipvs mode."""

    name: str = "ipvs"
    mode: str = "ipvs"

    def prepare(self) -> None:
        """Nothing has to be there."""

    def working(self) -> IpvsMode:
        return IpvsMode()

    def recording(self) -> IpvsRecording:
        return IpvsRecording()
