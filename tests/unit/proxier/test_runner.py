"""When syncs run: a reference that follows kube-proxy's loop word for word, against the schedule."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpx.proxier.runner import SyncSchedule

MINIMUM, RETRY, MAXIMUM = 2, 10, 60


def schedule(retry: float = RETRY) -> SyncSchedule:
    return SyncSchedule(minimum=MINIMUM, retry=retry, maximum=MAXIMUM, now=0)


def run(one: SyncSchedule, start: float, end: float, *, ok: bool = True) -> None:
    assert one.due(start)
    one.started()
    one.finished(end, ok=ok)


def test_nothing_runs_unasked_before_the_longest_time() -> None:
    one = schedule()
    assert one.next_wakeup() == MAXIMUM
    assert not one.due(MAXIMUM - 1)
    assert one.due(MAXIMUM)


def test_a_request_after_a_quiet_time_runs_at_once() -> None:
    one = schedule()
    one.request()
    assert one.next_wakeup() == -math.inf


def test_requests_are_merged_and_wait_for_the_shortest_time_after_the_end_of_a_run() -> None:
    one = schedule()
    one.request()
    run(one, 0, 5)
    one.request()
    one.request()
    assert not one.due(6)
    assert one.next_wakeup() == 5 + MINIMUM
    run(one, 7, 8)
    assert one.next_wakeup() == 8 + MAXIMUM


def test_a_request_during_a_run_is_not_lost() -> None:
    one = schedule()
    one.request()
    one.started()
    one.request()
    one.finished(5, ok=True)
    assert one.next_wakeup() == 5 + MINIMUM


def test_a_failed_run_is_repeated_and_a_good_one_ends_that() -> None:
    one = schedule()
    one.request()
    run(one, 0, 1, ok=False)
    assert one.next_wakeup() == 1 + RETRY
    one.request()
    run(one, 3, 4)
    assert one.next_wakeup() == 4 + MAXIMUM


@pytest.mark.parametrize(("retry", "expected"), [(1, MINIMUM), (RETRY, RETRY), (MAXIMUM + 1, MAXIMUM)])
def test_a_retry_comes_between_the_shortest_and_the_longest_time(retry: float, expected: float) -> None:
    one = schedule(retry)
    one.request()
    run(one, 0, 1, ok=False)
    assert one.next_wakeup() == 1 + expected


def test_a_longest_time_below_the_shortest_is_refused() -> None:
    with pytest.raises(ValueError, match="below the shortest"):
        SyncSchedule(minimum=61, retry=1, maximum=60, now=0)


@given(
    requests=st.lists(st.integers(0, 300), max_size=30),
    lengths=st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=10),
    retry=st.integers(0, 80),
)
def test_runs_start_when_kube_proxys_loop_would_start_them(
    requests: list[int], lengths: list[tuple[int, bool]], retry: int
) -> None:
    ours = list(starts_by_schedule(sorted(requests), lengths, retry))
    assert ours == list(starts_by_loop(sorted(requests), lengths, retry))
    assert all(later - earlier >= MINIMUM for earlier, later in pairwise(ours))


def starts_by_schedule(requests: list[int], lengths: list[tuple[int, bool]], retry: int) -> list[float]:
    """The starts of runs that last as long, and end as well, as `lengths` say in turn."""
    one, starts, pending, now = schedule(retry), [], list(requests), 0.0
    while now < 300:
        while pending and pending[0] <= now:
            pending.pop(0)
            one.request()
        if one.due(now):
            length, ok = lengths[len(starts) % len(lengths)]
            starts.append(now)
            one.started()
            now += length
            one.finished(now, ok=ok)
        else:
            now = min([one.next_wakeup(), *pending[:1]])
    return starts


def starts_by_loop(requests: list[int], lengths: list[tuple[int, bool]], retry: int) -> list[float]:
    """kube-proxy's loop: wait for a token or the timer; run; set the timer; wait `MINIMUM`; repeat."""
    starts: list[float] = []
    timer, now, pending = float(MAXIMUM), 0.0, list(requests)
    while True:
        now = max(now, min([timer, *pending[:1]]))
        if now >= 300:
            return starts
        pending = [one for one in pending if one > now]
        length, ok = lengths[len(starts) % len(lengths)]
        starts.append(now)
        now += length
        timer = now + (MAXIMUM if ok else min(retry, MAXIMUM))
        now += MINIMUM
