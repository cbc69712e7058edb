"""Light traffic in a lab: one of the demo's visits after the other, without end."""

from __future__ import annotations

import random
import threading

from kpx.lab.demo import VISITS, Visit
from kpx.lab.lifecycle import Lab
from kpx.lab.requests import Request, send

# Requests of one visit, which are made at once.
_BURST = 4


def flow(lab: Lab, per_second: float, stop: threading.Event, chosen: random.Random | None = None) -> None:
    """Make about so many connections a second until `stop` is set. What becomes of them does not matter."""
    chance = chosen or random.Random()
    weights = [1 + 3 * (at % 3) for at in range(len(VISITS))]  # not all Services are equally popular
    while not stop.wait(_BURST / per_second):
        (visit,) = chance.choices(VISITS, weights)
        send([_request(lab, visit)] * (_BURST if visit.answers else 1))


def _request(lab: Lab, visit: Visit) -> Request:
    return Request(lab.namespace(visit.place), visit.protocol, visit.address, visit.port)
