"""Reports put together: in whatever order they come, and whatever else comes between them."""

from __future__ import annotations

from itertools import permutations

import pytest

from kpx.kernel.conntrack import SEEN_REPLY, Tuple
from kpx.kernel.conntrack import Flow as Entry
from kpx.kernel.conntrack_events import Event, Happening
from kpx.kernel.headers import TCP, UDP, Headers
from kpx.trace.live.assembly import Assembly
from kpx.trace.live.flow import End, Outcome
from kpx.trace.live.met import Met, met_policy, met_rule
from kpx.trace.live.opened import Open, key_of
from kpx.trace.live.telling import told
from kpx.trace.live.virtual import Served
from kpx.trace.outcome import Base, Hook

SYN = Headers(TCP, "10.1.0.1", 40000, "10.96.0.1", 80, sequence=77)
DATAGRAM = Headers(UDP, "10.1.0.1", 40000, "10.96.0.1", 53)
BACKEND = End("10.1.0.9", 8080)
PRE = Base(Hook.PREROUTING, "nat", "PREROUTING", -100, kind="iptables-nft")
FORWARD = Base(Hook.FORWARD, "filter", "FORWARD", 0, kind="iptables-nft")
OLD_PRE = Base(Hook.PREROUTING, "nat", "PREROUTING", -100, kind="iptables-legacy")
OLD_FORWARD = Base(Hook.FORWARD, "filter", "FORWARD", 0, kind="iptables-legacy")
DNAT = met_rule(PRE, "KUBE-SEP-A", "-p tcp -j DNAT --to-destination 10.1.0.9:8080", "accept")
PASSED = met_policy(FORWARD, accepts=True)
PATIENCE = 2.0


def entry(first: Headers = SYN, *, replied: bool = False, number: int = 5) -> Entry:
    original = key_of(first)
    reply = Tuple(first.protocol, *BACKEND, first.source, first.source_port)
    return Entry(original, reply, number, b"", SEEN_REPLY if replied else 0)


def came(first: Headers = SYN, number: int = 5) -> Event:
    return Event(Happening.CAME, entry(first, number=number))


def answered(first: Headers = SYN, number: int = 5) -> Event:
    return Event(Happening.CHANGED, entry(first, replied=True, number=number))


def went(number: int = 5) -> Event:
    return Event(Happening.WENT, entry(number=number))


def assembly(*, wanted: bool = True) -> Assembly:
    return Assembly(lambda _: wanted, PATIENCE)


def mark_and_meet(found: Assembly, number: int = 1, now: float = 0.0, first: Headers = SYN, *met: Met) -> None:
    found.marked(number, first, 3, now)
    for one in met or (DNAT, PASSED):
        found.met(number, 0, None, one)


def the_only(found: Assembly, now: float = 0.0) -> Open:
    (flow,) = found.due(now)
    return flow


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_any_order_of_sockets(order: tuple[int, ...]) -> None:
    found = assembly(wanted=False)
    happen = [
        lambda: mark_and_meet(found),
        lambda: [found.tracked(came(), 0.0), found.tracked(answered(), 0.0)],
        lambda: found.tracked(Event(Happening.CAME, entry(SYN._replace(source_port=1))), 0.0),
    ]
    for at in order:
        happen[at]()

    flow = told(the_only(found), 0.0, 0.1)

    assert flow.outcome is Outcome.ANSWERED
    assert flow.backend == BACKEND
    assert [hop.note for hop in flow.hops] == ["dnat to 10.1.0.9:8080", "policy accept"]


def test_nothing_is_told_before_it_is_known() -> None:
    found = assembly()
    mark_and_meet(found)
    found.tracked(came(), 0.0)

    assert found.due(PATIENCE - 0.1) == []
    assert found.next_due() == PATIENCE
    assert told(the_only(found, PATIENCE), 0.0, PATIENCE).outcome is Outcome.UNANSWERED
    assert len(found) == 0


def test_a_reset_in_answer_to_the_first_segment() -> None:
    found = assembly()
    for event in (came(), went()):
        found.tracked(event, 0.0)
    mark_and_meet(found)

    assert told(the_only(found), 0.0, 0.1).outcome is Outcome.REFUSED


def test_a_repeated_segment_is_counted_and_its_way_is_not_told_again() -> None:
    found = assembly()
    for number, now in ((1, 0.0), (2, 1.0)):
        mark_and_meet(found, number, now)

    flow = told(the_only(found, PATIENCE), 0.0, PATIENCE)

    assert flow.packets == 2
    assert len(flow.hops) == 2
    mark_and_meet(found, 3, 3.0)  # once more, after it has been told
    assert found.due(9.0) == []


def test_another_connection_from_the_same_port() -> None:
    found = assembly()
    mark_and_meet(found)
    found.tracked(came(), 0.0)
    found.tracked(answered(), 0.0)
    assert the_only(found).answered

    again = SYN._replace(sequence=SYN.sequence + 1)
    mark_and_meet(found, 2, 10.0, again)
    found.met(2, 6, None, None)
    found.tracked(went(5), 10.0)  # the former one
    found.tracked(answered(again, number=5), 10.0)

    assert told(the_only(found, 12.0), 0.0, 2.0).outcome is Outcome.LOST


def test_a_number_is_used_again() -> None:
    found = assembly()
    other = SYN._replace(source_port=40001)
    mark_and_meet(found, 1)
    mark_and_meet(found, 1, 0.0, other, PASSED)

    first, second = found.due(PATIENCE)

    assert (first.met, second.met) == ([DNAT, PASSED], [PASSED])


def test_reports_of_others_packets_are_nobodys() -> None:
    found = assembly(wanted=False)
    found.met(9, 4, SYN, DNAT)
    found.logged(SYN, 3, DNAT, 0.0)

    assert not found.expects(9, None)
    assert found.due(9.0) == []


def test_legacy_tables_report_a_packet_as_it_is_there() -> None:
    found = assembly()
    dnat = met_rule(OLD_PRE, "KUBE-SEP-A", "-p tcp -j DNAT --to-destination 10.1.0.9:8080")
    translated = SYN._replace(destination=BACKEND.address, destination_port=BACKEND.port)
    for _ in range(2):  # and once more, as it is repeated
        found.logged(SYN, 3, dnat, 0.0)
        found.logged(translated, 3, met_policy(OLD_FORWARD, accepts=True), 0.0)

    flow = the_only(found, PATIENCE)

    assert [one.base for one in flow.met] == [OLD_PRE, OLD_FORWARD]
    assert flow.packets == 2


def test_both_sorts_of_tables_are_told_in_the_order_of_the_packet() -> None:
    found = assembly()
    found.logged(SYN, 3, met_policy(OLD_PRE, accepts=True), 0.0)
    found.logged(SYN, 3, met_policy(OLD_FORWARD, accepts=True), 0.0)
    mark_and_meet(found)

    hops = told(the_only(found, PATIENCE), 0.0, PATIENCE).hops

    assert [hop.hook for hop in hops] == ["prerouting", "prerouting", "forward", "forward"]


def test_the_way_of_an_answer() -> None:
    found = assembly(wanted=False)
    answer = Headers(TCP, BACKEND.address, BACKEND.port, SYN.source, SYN.source_port, sequence=5)
    mark_and_meet(found)
    found.marked_answer(7, 0, answer)  # nobody's, as long as conntrack has not told whose
    found.met(7, 0, None, PASSED)
    found.tracked(came(), 0.0)
    dropped = met_policy(FORWARD, accepts=False)
    for number in (8, 9):  # and once more, as it is repeated
        found.marked_answer(number, 0, answer)
        found.met(number, 0, None, dropped)

    flow = told(the_only(found), 0.0, 0.1)

    assert flow.outcome is Outcome.ANSWER_LOST
    assert flow.reason.startswith("its answer was dropped: by the policy of table filter")
    assert flow.answer_hops == (dropped.hop,)
    assert flow.backend == BACKEND


def test_an_answer_that_conntrack_has_seen_and_nobody_got() -> None:
    found = assembly()
    mark_and_meet(found)
    found.tracked(came(), 0.0)
    flow = the_only(found, PATIENCE)
    flow.found = entry(replied=True)

    assert told(flow, 0.0, PATIENCE).outcome is Outcome.ANSWER_LOST


def test_an_old_flow_of_which_nothing_is_announced() -> None:
    found = assembly()
    mark_and_meet(found, 1, 0.0, DATAGRAM)
    flow = the_only(found, PATIENCE)
    flow.found = entry(DATAGRAM, replied=True)

    assert told(flow, 0.0, PATIENCE).outcome is Outcome.ANSWERED


def test_the_rule_that_drops_ends_it_at_once() -> None:
    found = assembly()
    mark_and_meet(found, 1, 0.0, SYN, met_rule(FORWARD, "KUBE-SERVICES", "-d 10.96.0.1/32 -j REJECT", "drop"))

    flow = told(the_only(found), 0.0, 0.0)

    assert (flow.outcome, flow.reason, flow.backend) == (Outcome.REJECTED, "the Service has no endpoints", None)


def test_datagrams_of_a_flow_that_was_told_begin_no_other_for_some_time() -> None:
    found = assembly()
    mark_and_meet(found, 1, 0.0, DATAGRAM)
    assert the_only(found, 5.0)
    mark_and_meet(found, 2, 6.0, DATAGRAM)
    assert found.due(9.0) == []
    mark_and_meet(found, 3, 60.0, DATAGRAM)
    assert len(found.due(70.0)) == 1


def test_where_nothing_reports_on_packets_connections_are_flows() -> None:
    found = assembly()
    found.tracked(came(), 0.0, begins=True)
    found.tracked(answered(), 0.0, begins=True)

    assert told(the_only(found), 0.0, 0.1).backend == BACKEND


def test_ipvs_stands_where_it_takes_packets() -> None:
    found = assembly()
    out = Base(Hook.OUTPUT, "filter", "OUTPUT", 0, kind="iptables-legacy")
    inward = Base(Hook.INPUT, "filter", "INPUT", 0, kind="iptables-legacy")
    for base in (OLD_PRE, inward, out):
        found.logged(SYN, 3, met_policy(base, accepts=True), 0.0)

    flow = the_only(found, PATIENCE)
    hops = told(flow, 0.0, PATIENCE, virtual=Served("TCP 10.96.0.1:80 rr", BACKEND)).hops
    nobody = told(flow, 0.0, PATIENCE, virtual=Served("TCP 10.96.0.1:80 rr", None))

    assert [hop.table for hop in hops] == ["nat", "filter", "ipvs", "filter"]
    assert (hops[2].hook, hops[2].note) == ("input", "to 10.1.0.9:8080")
    assert nobody.outcome is Outcome.REJECTED
