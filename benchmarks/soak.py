"""Endpoints come and go under new flows: none may be lost, untranslated, or led to an endpoint that is gone.

``python -m benchmarks.soak`` changes the endpoints of some Services of nftables mode many times a second, among
thousands of others, while a sender opens thousands of UDP flows a second to their ClusterIPs. Every flow is one
datagram that says when it was sent; the receiver notes on which endpoint it came in.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import msgspec

from benchmarks.processes import running
from kpx.cluster.objects import EndpointSlice, Service
from kpx.kernel.nft.connection import Nft
from kpx.lab import namespaces
from kpx.net import Family
from kpx.proxier.desired import DesiredState
from kpx.proxier.nftables.backend import NftablesBackend
from kpx.proxier.nftables.settings import Settings
from kpx.proxier.plan import Viewpoint

NAMESPACE = "kpx-bench-soak"
SERVED, MOST_ENDPOINTS, PORT = 8, 9, 5000
SERVICES, PODS, CLIENTS = IPv4Network("10.96.0.0/12"), IPv4Network("10.128.0.0/16"), IPv4Network("10.192.0.0/16")
_HEADER = struct.Struct("!BBHHHBBH4s4sHHHHQI")  # IPv4, UDP, and what is sent: nanoseconds, number
_SENT = struct.Struct("!QI")
_SETTLE_SECONDS = 1.0
_BUFFER = 64 << 20


def virtual_address(service: int) -> str:
    return str(SERVICES[service + 1])


def pod(service: int, number: int) -> str:
    return str(PODS[256 * (service + 1) + number + 1])


# The programs of a run.


def send(rate: int, seconds: float) -> None:
    """Open that many flows a second to the served Services, each from another client.

    Prints how many, and then, in binary, when each had gone through the rules.
    """
    through = array("Q")
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        targets = [socket.inet_aton(virtual_address(service)) for service in range(SERVED)]
        first, clients = int(CLIENTS[1]), CLIENTS.num_addresses - 2
        started = time.monotonic()
        number = refused = 0
        while (elapsed := time.monotonic() - started) < seconds:
            due = int(elapsed * rate)
            while number < due:
                source = (first + number % clients).to_bytes(4, "big")
                target = targets[number % SERVED]
                ports = 1024 + number // clients % 60000
                now = time.monotonic_ns()
                packet = _HEADER.pack(
                    *(0x45, 0, _HEADER.size, 0, 0, 64, socket.IPPROTO_UDP, 0, source, target),
                    *(ports, PORT, _HEADER.size - 20, 0, now, number),
                )
                try:
                    raw.sendto(packet, (virtual_address(number % SERVED), 0))
                except PermissionError:
                    refused += 1
                through.append(time.monotonic_ns())
                number += 1
            time.sleep(0.0005)
    print(json.dumps({"sent": number, "refused": refused}), flush=True)
    sys.stdout.buffer.write(through.tobytes())
    sys.stdout.buffer.flush()


def receive() -> None:
    """Note every datagram until the input ends: number, time of sending, service and endpoint, to the output."""
    with ExitStack() as stack:
        poll = select.epoll()
        names: dict[int, tuple[socket.socket, int, int]] = {}
        places = [(pod(s, n), s, n) for s in range(SERVED) for n in range(MOST_ENDPOINTS)]
        for address, service, number in [*places, *((virtual_address(s), s, -1) for s in range(SERVED))]:
            listening = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            listening.setsockopt(socket.SOL_SOCKET, 33, _BUFFER)  # SO_RCVBUFFORCE
            listening.bind((address, PORT))
            listening.setblocking(False)
            poll.register(listening, select.EPOLLIN)
            names[listening.fileno()] = (listening, service, number)
        poll.register(sys.stdin, select.EPOLLIN)
        print("ready", flush=True)
        output = stack.enter_context(os.fdopen(os.dup(1), "wb", buffering=1 << 20))
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == sys.stdin.fileno():
                    return
                _note(*names[descriptor], output)


_NOTED = struct.Struct("!QIbb")


def _note(listening: socket.socket, service: int, number: int, output: IO[bytes]) -> None:
    try:
        while True:
            sent, flow = _SENT.unpack(listening.recv(64))
            output.write(_NOTED.pack(sent, flow, service, number))
    except BlockingIOError:
        return


# The changes.


@dataclass
class Churn:
    """The endpoints of the served Services, changed one Service at a time; ``gone`` are the times without an endpoint.

    A time without is from when its removal was committed to when its return begins, in monotonic nanoseconds.
    """

    backend: NftablesBackend
    desired: DesiredState
    chance: random.Random
    now: dict[int, set[int]] = field(default_factory=dict)
    since: dict[tuple[int, int], int] = field(default_factory=dict)
    gone: list[tuple[int, int, int, int]] = field(default_factory=list)

    def change(self, service: int, numbers: set[int]) -> None:
        before, self.now[service] = self.now.get(service, set()), numbers
        begun = time.monotonic_ns()
        for number in numbers - before:
            if (service, number) in self.since:
                self.gone.append((service, number, self.since.pop((service, number)), begun))
        self.desired.tracker.apply_slice(_slice(service, [pod(service, number) for number in sorted(numbers)]))
        outcome = self.backend.update(self.desired.take())
        assert not outcome.rejected
        assert not outcome.repaired
        done = time.monotonic_ns()
        self.since |= {(service, number): done for number in before - numbers}

    def run(self, rate: int, seconds: float) -> list[float]:
        """Change that many times a second; the seconds that each took."""
        took: list[float] = []
        started = time.monotonic()
        while (elapsed := time.monotonic() - started) < seconds:
            if len(took) >= elapsed * rate:
                time.sleep(0.001)
                continue
            numbers = self.chance.sample(range(MOST_ENDPOINTS), self.chance.randint(1, MOST_ENDPOINTS))
            before = time.perf_counter()
            self.change(self.chance.randrange(SERVED), set(numbers))
            took.append(time.perf_counter() - before)
        return took

    def misled(self, flows: Sequence[tuple[int, int, int, int]], through: Sequence[int]) -> int:
        """How many flows came to an endpoint that was gone all the time from their sending until they were through."""
        ended = time.monotonic_ns()
        spans: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for service, number, begin, end in (*self.gone, *((*who, begin, ended) for who, begin in self.since.items())):
            spans.setdefault((service, number), []).append((begin, end))
        return sum(
            any(begin < sent and through[flow] < end for begin, end in spans.get((service, number), ()))
            for sent, flow, service, number in flows
        )


def _slice(service: int, addresses: list[str]) -> EndpointSlice:
    name = f"service-{service}"
    return msgspec.convert(
        {
            "kind": "EndpointSlice",
            "metadata": {"namespace": "soak", "name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": "udp", "port": PORT, "protocol": "UDP"}],
            "endpoints": [{"addresses": [address]} for address in addresses],
        },
        EndpointSlice,
    )


def _service(service: int) -> Service:
    ports = [{"name": "udp", "port": PORT, "protocol": "UDP"}]
    return msgspec.convert(
        {
            "kind": "Service",
            "metadata": {"namespace": "soak", "name": f"service-{service}"},
            "spec": {"clusterIP": virtual_address(service), "ports": ports},
        },
        Service,
    )


@contextmanager
def _network() -> Iterator[None]:
    """A namespace in which every address that the run names is local."""
    namespaces.remove(NAMESPACE)
    namespaces.make(NAMESPACE)
    try:
        with namespaces.entered(NAMESPACE):
            words = ["link set lo up", *(f"route add local {one} dev lo" for one in (SERVICES, PODS))]
            for command in words:
                subprocess.run(["ip", *command.split()], check=True)
            for name in ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"):
                Path("/proc/sys/net/netfilter", name).write_text("1")
        yield
    finally:
        namespaces.remove(NAMESPACE)


def _resident() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def soak(services: int, flows: int, changes: int, seconds: float) -> dict[str, float]:
    """One run; what came of it."""
    with TemporaryDirectory() as folder, _network(), namespaces.entered(NAMESPACE):
        desired = DesiredState(Family.IPV4, Viewpoint(node="node", pods_known=False))
        backend = NftablesBackend(Nft(), Settings(Family.IPV4, node_ports=()))
        churn = Churn(backend, desired, random.Random(services))
        try:
            for service in range(services):
                desired.tracker.apply_service(_service(service))
                desired.tracker.apply_slice(_slice(service, [pod(service % 200, number) for number in range(5)]))
                churn.now.setdefault(service, set(range(5)))
            desired.take()
            backend.sync(desired.frontends)
            churn.since = {(service, number): 0 for service in range(SERVED) for number in range(5, MOST_ENDPOINTS)}
            churn.run(changes, _SETTLE_SECONDS)
            before = _resident()
            here = ("-m", "benchmarks.soak")
            with running(NAMESPACE, Path(folder) / "receiver.log", *here, "receive") as receiver:
                receiver.first_line()
                words = ("send", str(flows), str(seconds))
                with running(NAMESPACE, Path(folder) / "sender.log", *here, *words) as sender:
                    took = churn.run(changes, seconds)
                    after = _resident()
                    told = json.loads(sender.first_line())
                    assert sender.process.stdout is not None
                    through = array("Q", sender.process.stdout.read())
                time.sleep(_SETTLE_SECONDS)
                assert receiver.process.stdin is not None
                assert receiver.process.stdout is not None
                receiver.process.stdin.close()
                noted = receiver.process.stdout.read()
            drift = backend.drifted()
            differing = sum(backend.sync(desired.frontends).written.values())
        finally:
            backend.close()
    received = list(_NOTED.iter_unpack(noted))
    took.sort()
    return {
        "flows": told["sent"],
        "refused": told["refused"],
        "lost": told["sent"] - told["refused"] - len({flow for _, flow, _, _ in received}),
        "untranslated": sum(number < 0 for *_, number in received),
        "misled": churn.misled(received, through),
        "changes": len(took),
        "change p50, ms": round(took[len(took) // 2] * 1000, 3),
        "change p99, ms": round(took[len(took) * 99 // 100] * 1000, 3),
        "foreign changes": int(drift is not None),
        "elements that differ from a full sync": differing,
        "memory before, MB": round(before, 1),
        "memory after, MB": round(after, 1),
    }


def main(argv: Sequence[str]) -> int:
    if argv[:1] == ["send"]:
        send(int(argv[1]), float(argv[2]))
        return 0
    if argv[:1] == ["receive"]:
        receive()
        return 0
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--flows", type=int, default=20_000, help="new flows a second")
    parser.add_argument("--changes", type=int, default=100, help="changes of endpoints a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args(argv)
    found = soak(arguments.services, arguments.flows, arguments.changes, arguments.seconds)
    print("\n".join(f"{name}: {value:,}" for name, value in found.items()))
    faults = ("refused", "lost", "untranslated", "misled", "foreign changes", "elements that differ from a full sync")
    return 1 if any(found[name] for name in faults) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
