"""Rules and elements of nftables, kpx's and kube-proxy's, -> facts. Pure.

Rules are read as nft prints them, and sets inside a rule by their elements.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator

from kpx.diff.facts import Aspect
from kpx.kernel.nft.elements import INTERVAL_END, Element
from kpx.kernel.nft.expressions import Verdict, VerdictCode
from kpx.kernel.nft.intervals import merged
from kpx.net import join_port

Found = tuple[Aspect, str, str]
Elements = Callable[[str], Iterable[Element]]

ALL, HERE, EXTERNAL = "all endpoints", "the endpoints of this node", "the external traffic policy"
_LISTS = {"service-": ALL, "local-": HERE, "external-": EXTERNAL}
_SUFFIX = {"service-": "", "local-": " (policy Local)"}
_COMMENT = re.compile(r' comment "[^"]*"$')
_SENDER = re.compile(r'(?:ip6? saddr|iifname) (!= )?"?([^" ]+)"? ')
_FROM_HERE = "fib saddr type local "
_GOTO = re.compile(r"(?:^| )goto (\S+)$")
_MAP = re.compile(r"map @(\S+)$")
_KNOWN_CLIENT = re.compile(r"ip6? saddr @affinity-\S+ goto (\S+)$")
_ENDPOINT = re.compile(r"endpoint-[A-Z2-7]{8}-.*__(.+)/(\d+)")
_TRANSLATED = re.compile(r"meta l4proto \w+ (?:counter (?:packets \d+ bytes \d+ )?)?dnat to (\S+)$")


def plain(rule: str) -> str:
    """A rule's text without its comment."""
    return _COMMENT.sub("", rule)


def leads(chain: str, own: str) -> str:
    """Where a chain of a service port leads; `own` is the name that all chains of the service port share."""
    for prefix, words in _LISTS.items():
        if chain.startswith(prefix):
            return words if chain == prefix + own else f"the chain {chain} of another Service"
    return f"the chain {chain}"


def refusal(data: bytes | Verdict | None) -> str:
    """What an element of the services without endpoints does."""
    return "drop" if isinstance(data, Verdict) and data.code == VerdictCode.DROP else "reject"


def sender(text: str) -> str:
    """Whose packets a rule is for, with a space in front; nothing for all."""
    if text.startswith(_FROM_HERE):
        return " from this node"
    match = _SENDER.match(text)
    if match is None:
        return ""
    if text.startswith("iifname"):
        return f" in by {'others than ' if match[1] else ''}{match[2]}"
    return f" from {'outside ' if match[1] else ''}{match[2]}"


def external(text: str, own: str) -> Found | None:
    """A rule of the chain for external addresses."""
    who = sender(text)
    if "meta mark set" in text:
        return Aspect.MASQUERADE, f"external traffic{who}", "always"
    match = _GOTO.search(text)
    return (Aspect.POLICY, f"external traffic{who}", leads(match[1], own)) if match else None


def choice(chain: str, text: str, elements: Elements, seconds: Callable[[str], int]) -> Iterator[Found | None]:
    """A rule of a chain that chooses among endpoints.

    `elements` reads a set, `seconds` the time that the set of an endpoint's clients keeps them.
    """
    suffix = next((words for prefix, words in _SUFFIX.items() if chain.startswith(prefix)), "")
    if match := _KNOWN_CLIENT.match(text):
        to = endpoint_of(match[1])
        clients = match[1].replace("endpoint-", "affinity-", 1)
        yield Aspect.AFFINITY, f"{to}{suffix}", f"for {seconds(clients)} s"
    elif match := _MAP.search(text):
        for element in elements(match[1]):
            yield Aspect.ENDPOINT, f"{_target(element)}{suffix}", ""
    elif (match := _GOTO.search(text)) and match[1].startswith("endpoint-"):
        yield Aspect.ENDPOINT, f"{endpoint_of(match[1])}{suffix}", ""
    else:
        yield None


def endpoint(chain: str, text: str) -> Found | None:
    """A rule of the chain of an endpoint that remembers its clients."""
    to = endpoint_of(chain)
    if text.startswith("update @affinity-"):
        return Aspect.AFFINITY, f"the clients of {to}", "noted"
    match = _TRANSLATED.match(text)
    return (Aspect.ENDPOINT, f"{to}, by its own chain", match[1]) if match else None


def endpoint_of(chain: str) -> str:
    """``address:port``, which the name of an endpoint's chain ends in."""
    match = _ENDPOINT.fullmatch(chain)
    if match is None:
        return chain
    address = match[1] if match[1].count(".") == 3 and ".." not in match[1] else match[1].replace(".", ":")
    return join_port(address, int(match[2]))


def _target(element: Element) -> str:
    if isinstance(element.data, Verdict):
        return endpoint_of(element.data.chain)
    return destination(element.data or b"")


def destination(data: bytes) -> str:
    """``address:port`` of the data of a slot or map: address, port, padding."""
    length = 4 if len(data) <= 8 else 16
    return join_port(str(ipaddress.ip_address(data[:length])), int.from_bytes(data[length : length + 2], "big"))


def networks(elements: Iterable[Element]) -> list[str]:
    """The networks in a set of intervals, or of single addresses."""
    found: list[str] = []
    begin: bytes | None = None
    for one in sorted(elements, key=lambda one: (one.key, not one.flags & INTERVAL_END)):
        if begin is not None and one.flags & INTERVAL_END:
            found += _range(begin, int.from_bytes(one.key, "big") - 1)
            begin = None
        elif not one.flags & INTERVAL_END:
            begin = one.key
    if begin is not None:
        found += _range(begin, (1 << 8 * len(begin)) - 1)
    return found


def _range(first: bytes, last: int) -> list[str]:
    low = ipaddress.ip_address(first)
    high = type(low)(last)
    return [str(one) for one in ipaddress.summarize_address_range(low, high)]


def allowed(ranges: Iterable[str], own: Iterable[str]) -> str:
    """Source ranges in words. The addresses of the Service itself count as allowed, whether they are or not."""
    asked = list(ranges)
    whole = merged([*asked, *(str(ipaddress.ip_network(one)) for one in own)])
    return ", ".join(f"{first}-{last}" if first != last else str(first) for first, last in whole) or "nobody"
