"""What the proxy answers over HTTP on this node: its health, its metrics, health-check node ports."""

from __future__ import annotations

import http.client
import os
from collections.abc import Mapping

from kpx.doctor.facts import Answer, Facts, NotKnown
from kpx.tools import stock

METRICS = "/metrics"
_SECONDS = 2.0
_MOST_BYTES = 32 << 20

Samples = Mapping[str, list[tuple[Mapping[str, str], float]]]


def get(port: int, path: str, address: str = "127.0.0.1") -> Answer:
    """What a server of this node answers."""
    connection = http.client.HTTPConnection(address, port, timeout=_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return Answer(answer.status, answer.read(_MOST_BYTES).decode(errors="replace"))
    except TimeoutError:
        return Answer(0, error=f"no answer within {_SECONDS:g} s")
    except OSError as error:
        return Answer(0, error=os.strerror(error.errno) if error.errno else str(error))
    except http.client.HTTPException as error:
        return Answer(0, error=f"no answer of HTTP: {error}")
    finally:
        connection.close()


def metrics(facts: Facts) -> Samples:
    """The samples of the proxy's metrics, by name. Raises `NotKnown`."""
    address, port = metrics_server(facts)
    return samples(facts.get(port, METRICS, address), address, port)


def metrics_server(facts: Facts) -> tuple[str, int]:
    """Where the proxy serves its metrics."""
    try:
        bound = facts.configuration().metrics_bind_address
    except NotKnown:
        bound = ""
    return stock.reached(bound, stock.PORT)


def samples(answer: Answer, address: str, port: int) -> Samples:
    """The samples of a page /metrics, by name. Raises `NotKnown`."""
    from prometheus_client.parser import text_string_to_metric_families

    if answer.status != http.HTTPStatus.OK:
        why = answer.error or f"status {answer.status}"
        raise NotKnown(f"the proxy's metrics cannot be had from {address}:{port}/metrics: {why}")
    found: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    try:
        for family in text_string_to_metric_families(answer.body):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
    except ValueError as error:
        raise NotKnown(f"{address}:{port}/metrics holds something else: {error}") from error
    return found
