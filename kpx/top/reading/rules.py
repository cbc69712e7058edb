"""The rules of one service port, as each mode's own program prints them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kpx.kernel import links
from kpx.kernel.iptables.program import Iptables, IptablesError, with_table
from kpx.kernel.ipvs.table import Ipvs, loaded
from kpx.kernel.ipvs.types import Virtual
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.expressions import Expression
from kpx.kernel.nft.expressions import Verdict as NftVerdict
from kpx.kernel.nft.objects import Rule
from kpx.kernel.nft.sets import Set
from kpx.kernel.nft.text import element_text, rule_text
from kpx.kernel.nft.wire import TableName
from kpx.net import Family
from kpx.proxier.frontends import Frontends
from kpx.proxier.iptables import names
from kpx.proxier.ipvs.names import DEVICE
from kpx.proxier.nftables.containers import LOCAL_LIST, address_key, slot_key
from kpx.proxier.nftables.settings import NF_FAMILIES
from kpx.tables.ipvs import text
from kpx.tables.ipvs.order import sorted_reals
from kpx.tables.ipvs.snapshot import Row, Snapshot
from kpx.tables.ipvs.text import View
from kpx.tools.kernel import Port

_PROXY_TABLES = ("kpx", "kube-proxy")
_NAT_AND_FILTER = ("nat", "filter")


def rules_of(ports: list[Port]) -> tuple[str, ...]:
    """The rules of one service port, whoever made them; `ports` are it in each family. Raises what reading raises."""
    return (*_in_nftables(ports), *_in_iptables(ports), *_in_ipvs(ports))


# nftables: the elements that have its addresses for keys, and the chains that they lead to.


def _in_nftables(ports: list[Port]) -> Iterator[str]:
    with Nft() as nft:
        there = {entry.table for entry in nft.tables()}
        for family, one in ports:
            for name in _PROXY_TABLES:
                table = TableName(NF_FAMILIES[family], name)
                if table in there:
                    yield from _of_table(nft, table, one)


def _of_table(nft: Nft, table: TableName, one: Frontends) -> Iterator[str]:
    keys = [address_key(frontend.address, frontend.protocol, frontend.port) for frontend in one.frontends]
    chains: dict[str, None] = {}
    for entry in nft.sets(table):
        for line in _elements(nft, table, entry.value, keys, chains):
            yield f"{table} {entry.value.name}: {line}"
    waiting = list(chains)
    while waiting:
        chain = waiting.pop(0)
        for rule in nft.rules(table, chain):
            yield f"{table} {chain}: {rule_text(table.family, rule.value)}"
            for verdict in _verdicts(rule.value):
                if verdict.chain and verdict.chain not in chains:
                    chains[verdict.chain] = None
                    waiting.append(verdict.chain)


def _elements(nft: Nft, table: TableName, held: Set, keys: list[bytes], chains: dict[str, None]) -> Iterator[str]:
    for key in keys:
        if held.key_length == len(key):
            found = nft.element(table, held.name, key)
            if found is not None:
                if isinstance(found.data, NftVerdict) and found.data.chain:
                    chains[found.data.chain] = None
                yield element_text(held, found)
        elif held.key_length == len(slot_key(key, 0)) and held.counter:
            for first in (0, LOCAL_LIST):
                slot = first
                while (found := nft.element(table, held.name, slot_key(key, slot))) is not None:
                    yield element_text(held, found)
                    slot += 1


def _verdicts(rule: Rule) -> Iterator[NftVerdict]:
    for expression in rule.expressions:
        verdict = _verdict(expression)
        if verdict is not None:
            yield verdict


def _verdict(expression: Expression) -> NftVerdict | None:
    data = getattr(expression, "data", None)
    return data if isinstance(data, NftVerdict) else None


# iptables: the lines of its chains, found by their hashes, and those that lead to them.


def _in_iptables(ports: list[Port]) -> Iterator[str]:
    for family in dict.fromkeys(family for family, _ in ports):
        own = _own_lines([one for of, one in ports if of is family])
        for table in _NAT_AND_FILTER:
            for programs in with_table(family, table):
                for line in _saved(programs, table):
                    if own.search(line) and not line.startswith(":"):
                        yield f"{programs.program()} -t {table}  {line}"


def _saved(programs: Iptables, table: str) -> list[str]:
    """A whole table; nothing of a variant that is installed and whose interface the kernel lacks."""
    try:
        return programs.saved(table).splitlines()
    except IptablesError:
        if programs.supported():
            raise
        return []


def _own_lines(found: list[Frontends]) -> re.Pattern[str]:
    """What the lines of these service ports have in them."""
    words = [rf"-{names.port_hash(one.port)}\b" for one in found]
    words += [rf"\b{names.endpoint_chain(one.port, endpoint)}\b" for one in found for endpoint in one.reachable]
    words += [rf'"{re.escape(str(one.port))} [^"]*"' for one in found]
    return re.compile("|".join(words))


# IPVS: its virtual servers.


def _in_ipvs(ports: list[Port]) -> Iterator[str]:
    if not loaded():  # opening would load it
        return
    with Ipvs() as ipvs:
        wanted = [virtual for family, one in ports for virtual in _virtuals(family, one)]
        rows = [Row(found, sorted_reals(ipvs.reals(one))) for one in wanted if (found := ipvs.virtual(one))]
        if rows:
            tables = Snapshot(ipvs.info(), ipvs.timeouts(), rows)
            for view in (View.SERVERS, View.STATS):
                yield from list(text.table(tables, view))[1:]
                yield ""


def _virtuals(family: Family, one: Frontends) -> Iterator[Virtual]:
    node = [each.address for each in links.addresses(family) if each.interface != DEVICE]
    for frontend in one.frontends:
        for address in node if frontend.address is None else (frontend.address,):
            yield Virtual(address, frontend.port, frontend.protocol)
