"""Whatever is written, nft can print, as text and as JSON, and load the text again."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from kpx.kernel.nft import datatypes as types
from kpx.kernel.nft.connection import Nft
from kpx.kernel.nft.elements import Element
from kpx.kernel.nft.expressions import Verdict, VerdictCode
from kpx.kernel.nft.objects import Chain, Table
from kpx.kernel.nft.sets import Set, pack
from kpx.kernel.nft.text import rule_text
from kpx.kernel.nft.transaction import Elements, Transaction, add
from kpx.kernel.nft.userdata import printable_comment
from kpx.kernel.nft.wire import NfFamily, TableName
from tests.kernel.nft.skeleton import Skeleton

KUBE_PROXY = Path(__file__).parents[2] / "fixtures" / "kube-proxy-1.36" / "nftables.txt"


def run(*arguments: str, given: str = "") -> str:
    """What nft prints; it must not fail."""
    return subprocess.run(["nft", *arguments], input=given, check=True, capture_output=True, text=True).stdout


def test_the_text_that_nft_prints_loads_again_as_it_is(nft: Nft, skeleton: Skeleton) -> None:
    nft.apply(skeleton.transaction)
    listed = run("list", "ruleset")
    run("flush", "ruleset")
    run("-f", "-", given=listed)
    assert run("list", "ruleset") == listed


def test_a_transactions_own_text_does_the_same_through_nft(nft: Nft, skeleton: Skeleton) -> None:
    nft.apply(skeleton.transaction)
    listed = run("list", "ruleset")
    run("flush", "ruleset")
    run("-f", "-", given=str(skeleton.transaction))
    assert run("list", "ruleset") == listed


def test_nft_prints_it_as_json(nft: Nft, skeleton: Skeleton) -> None:
    nft.apply(skeleton.transaction)
    objects = json.loads(run("-j", "list", "ruleset"))["nftables"]
    assert {each["map"]["name"] for each in objects if "map" in each} == {"service-ips", "endpoints", "node-ports"}
    assert sum("rule" in each for each in objects) == len(skeleton.rules)


def test_the_listing_names_what_each_element_is_for(nft: Nft, skeleton: Skeleton) -> None:
    nft.apply(skeleton.transaction)
    listed = run("list", "map", *map(str, str(skeleton.table).split()), "endpoints")
    destination = "ip6 daddr" if skeleton.family is NfFamily.IP6 else "ip daddr"
    assert (
        f"typeof {destination} . meta l4proto . th dport . numgen random mod 65536 : {destination} . th dport" in listed
    )
    vip, backend = skeleton.addresses.vip, skeleton.addresses.backends[1]
    assert f'{vip} . tcp . 80 . 1 counter packets 0 bytes 0 comment "shop/web:http" : {backend} . 8080' in listed


def test_a_rule_reads_in_our_words_as_in_nfts(nft: Nft, skeleton: Skeleton) -> None:
    nft.apply(skeleton.transaction)
    for chain in skeleton.chains:
        listed = run("list", "chain", *str(skeleton.table).split(), chain.name).splitlines()
        properties = ("table ", "chain ", "type ", "comment ", "}")
        printed = [line.strip() for line in listed if line.strip() and not line.strip().startswith(properties)]
        assert [rule_text(skeleton.family, entry.value) for entry in nft.rules(skeleton.table, chain.name)] == printed


def test_any_comment_that_we_let_through_survives_nft(nft: Nft, ip: Skeleton) -> None:
    texts = ["shop/web:http", "x" * 300, 'quo"te', "tab\tline\n", "back\\slash", "ümläut €", "#; { } $x @y", "\\"]
    comments = [printable_comment(text) for text in texts]
    elements = [ip.service(port, comment=comment) for port, comment in enumerate(comments, 1)]
    nft.apply(Transaction(ip.table, (add(Elements(ip.services, elements)),)))
    listed = run("list", "ruleset")
    json.loads(run("-j", "list", "ruleset"))
    run("flush", "ruleset")
    run("-f", "-", given=listed)
    assert {element.comment for element in nft.elements(ip.table, "service-ips")} == set(comments)


@pytest.mark.parametrize("typeof", [False, True], ids=["type", "typeof"])
def test_verdict_maps_are_printable_in_both_notations(nft: Nft, typeof: bool) -> None:
    # The crash of nft 1.0.6 on verdict maps that a newer one wrote is in their user data: both forms go through it.
    table = TableName(NfFamily.IP, "kpx")
    bare = (types.ipv4_addr, types.inet_proto, types.inet_service)
    services = Set("services", Skeleton(NfFamily.IP).key if typeof else bare, (types.verdict,))
    element = Element(pack(bare, ("10.0.0.1", "tcp", 80)), Verdict(VerdictCode.GOTO, "lb"), "web")
    made = (add(Table()), add(services), add(Chain("lb")), add(Elements(services, (element,))))
    nft.apply(Transaction(table, made))
    notation = "typeof ip daddr . meta l4proto . th dport" if typeof else "type ipv4_addr . inet_proto . inet_service"
    listed = run("list", "ruleset")
    assert f"{notation} : verdict" in listed
    assert '10.0.0.1 . tcp . 80 comment "web" : goto lb' in listed
    assert json.loads(run("-j", "list", "ruleset"))["nftables"]


def test_what_kube_proxy_writes_is_read_whole(nft: Nft) -> None:
    run("-f", "-", given=KUBE_PROXY.read_text())
    tables = [entry.table for entry in nft.tables()]
    assert {str(table) for table in tables} == {"ip kube-proxy", "ip6 kube-proxy"}
    for table in tables:
        listed = run("list", "table", *str(table).split())
        lines = {line.strip() for line in listed.splitlines()}
        chains = {entry.value.name for entry in nft.chains(table)}
        assert chains == {line.split()[1] for line in lines if line.startswith("chain ")}
        # nft writes out the sets inside rules, whose names we read.
        words = {rule_text(table.family, entry.value) for entry in nft.rules(table)}
        named = {text for text in words if "@__" not in text}
        assert len(named) > 10
        assert named <= lines
        for entry in nft.sets(table):
            nft.elements(table, entry.value.name)
