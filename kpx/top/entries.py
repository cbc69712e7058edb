"""The kernel's table of Services as lines: IPVS's as ipvsadm prints it, other modes' rules in that form. Pure.

Made where the table is read: there may be 60,000 lines, and a screen has no time for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kpx.net import join_port
from kpx.proxier.frontends import Frontend, Frontends
from kpx.tables.ipvs import text
from kpx.tables.ipvs.snapshot import Snapshot as IpvsTables
from kpx.tables.ipvs.text import View
from kpx.tools.kernel import Port
from kpx.top.snapshot import Counted, Entry, RulesTable

_TITLES = 3


def of_ipvs(tables: IpvsTables, view: View) -> RulesTable:
    """One of ipvsadm's tables."""
    keys: list[tuple[str, ...]] = []
    for row in tables.rows:
        keys.append((str(row.virtual.virtual),))
        keys += [(str(row.virtual.virtual), str(real.real)) for real in row.reals]
    lines = list(text.table(tables, view))
    entries = tuple(Entry(key, line) for key, line in zip(keys, lines[_TITLES:], strict=True))
    return RulesTable("IPVS", entries, tuple(lines[:_TITLES]))


def of_rules(program: str, ports: Sequence[Port], counted: Counted | None) -> RulesTable:
    """Service ports as the kernel holds them, by name."""
    ordered = sorted((one for _, one in ports), key=lambda one: one.port)
    return RulesTable(program, tuple(entry for one in ordered for entry in _of_port(one, counted)))


def _of_port(one: Frontends, counted: Counted | None) -> Iterator[Entry]:
    """A service port in one family; where its addresses are not counted apart, the first stands for all."""
    counts = counted.counts.get(one.port, {}) if counted else {}
    rates = counted.endpoint_rates.get(one.port, {}) if counted else {}
    ends = [
        Entry(
            (str(one.port), str(endpoint)),
            f"  -> {endpoint}",
            count=counts.get((endpoint.ip, endpoint.port), 0) if counted else None,
            rate=rates.get((endpoint.ip, endpoint.port), 0.0) if counted else None,
            port=one.port,
        )
        for endpoint in one.endpoints
    ]
    for number, frontend in enumerate(one.frontends):
        first = number == 0 and counted is not None
        yield Entry(
            (str(one.port), _virtual(frontend)),
            _virtual(frontend),
            str(one.port) if one.port.name else "",
            frontend.verdict.value,
            sum(end.count or 0 for end in ends) if first else None,
            sum(end.rate or 0.0 for end in ends) if first else None,
            one.port,
        )
    yield from ends


def _virtual(frontend: Frontend) -> str:
    where = join_port(frontend.address, frontend.port) if frontend.address else f"*:{frontend.port}"
    return f"{frontend.protocol:<4} {where}"
