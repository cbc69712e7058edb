"""nftables mode, and its own netlink messages sent bare as the floor."""

from __future__ import annotations

from dataclasses import dataclass

from kpx.kernel.netlink import NETLINK_NETFILTER, NLMSG_ERROR, Socket, messages, raise_error
from kpx.kernel.nft.batch import encode
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.transaction import Transaction
from kpx.proxier.nftables.mode import NftablesMode

_ANSWER_SECONDS = 30.0


class Recorder(Nft):
    """A connection that records what it was to apply."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[bytes] = []

    def apply(self, transaction: Transaction, *, generation: int | None = None) -> None:
        if transaction.operations:
            self.batches.append(encode(transaction, 1, generation=generation).data)


class NftablesRecording:
    """A `Recording` of netlink batches."""

    def __init__(self) -> None:
        self._recorder = Recorder()
        self.mode = NftablesMode(lambda: self._recorder)

    def close(self) -> None:
        """The recorder is closed with what works with it."""

    def take(self) -> list[bytes]:
        taken = list(self._recorder.batches)
        self._recorder.batches.clear()
        return taken

    def send(self, written: bytes) -> None:
        with Socket(NETLINK_NETFILTER) as netlink:
            netlink.send(written)
            answer = netlink.receive(_ANSWER_SECONDS)
        if answer is None:
            raise OSError("the kernel did not answer")
        for reply in messages(answer):
            if reply.type == NLMSG_ERROR:
                raise_error(reply, "send the recorded transaction")


@dataclass(frozen=True, slots=True)
class NftablesSubject:
    """A `Subject`: nftables mode."""

    name: str = "nftables"
    mode: str = "nftables"

    def prepare(self) -> None:
        """Nothing has to be there."""

    def working(self) -> NftablesMode:
        return NftablesMode()

    def recording(self) -> NftablesRecording:
        return NftablesRecording()
