"""YAML (or JSON, which is YAML) to settings, with the line and path of everything that is wrong, all at once.

Two grades, as in kube-proxy: unknown and duplicate fields are strict problems, after which the rest still counts; a
value of the wrong type is fatal. ``null`` is the same as leaving the field out, and so is a zero value, save for the
few fields whose zero means something.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import yaml

from kpx.config.nodes import UnexpectedNode, described, is_null, line_of, read
from kpx.config.schema import Settings, fields_of, is_section, leaves
from kpx.config.types import API_VERSION, KIND, KubeProxyConfiguration

ZERO_COUNTS = frozenset(
    {
        "conntrack.maxPerCore",
        "conntrack.min",
        "conntrack.tcpCloseWaitTimeout",
        "conntrack.tcpEstablishedTimeout",
        "iptables.localhostNodePorts",
        "iptables.masqueradeBit",
        "nftables.masqueradeBit",
        "oomScoreAdj",
    }
)
"""The fields that tell zero from absent (pointers in the API); elsewhere a zero value gives the default."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Something wrong at a line (counted from 1)."""

    line: int
    text: str


@dataclass(slots=True)
class Decoded:
    """What a document says: the settings, what a strict reader refuses, and what any reader refuses."""

    settings: Settings = field(default_factory=dict)
    strict: list[Problem] = field(default_factory=list)
    fatal: list[Problem] = field(default_factory=list)


def decode(text: str) -> Decoded:
    """Read a document. A syntax error, or a document that is no mapping, is one fatal problem."""
    decoded = Decoded()
    try:
        documents = _documents(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        decoded.fatal.append(Problem(mark.line + 1 if mark else 1, error.problem or "this is not YAML"))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        decoded.fatal.append(Problem(line, f"the character {error.character:#04x} is not allowed in YAML"))
    else:
        _document(decoded, documents)
    return decoded


def _documents(text: str) -> list[yaml.Node]:
    """The documents of a stream that hold anything."""
    if text.lstrip().startswith("{"):
        text = text.replace("\t", " ")  # JSON may be indented with tabs, YAML may not; JSON texts hold none
    return [node for node in yaml.compose_all(text, Loader=yaml.SafeLoader) if not is_null(node)]


def _document(decoded: Decoded, documents: list[yaml.Node]) -> None:
    if not documents:
        decoded.fatal.append(Problem(1, "the file is empty, it must hold a KubeProxyConfiguration"))
        return
    first, *others = documents
    if not isinstance(first, yaml.MappingNode):
        decoded.fatal.append(Problem(line_of(first), f"expected a mapping, found {described(first)}"))
        return
    decoded.fatal += _identity_problems(first)
    if decoded.fatal:
        return
    _check_keys(decoded, first, "", set())
    _section(decoded, KubeProxyConfiguration, first, "")
    decoded.strict += [Problem(line_of(other), "only the first document is read") for other in others]


def _identity_problems(document: yaml.MappingNode) -> Iterator[Problem]:
    """Whether the document says that it is a KubeProxyConfiguration v1alpha1, which is required."""
    given = {key.value: value for key, value in document.value if isinstance(key, yaml.ScalarNode)}
    for name, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        node = given.get(name)
        if node is None or node.value != wanted:
            line, found = (line_of(node), described(node)) if node else (1, "nothing")
            yield Problem(line, f'{name}: expected "{wanted}", found {found}')


def _check_keys(decoded: Decoded, node: yaml.MappingNode, prefix: str, visited: set[int]) -> None:
    """Report keys that are given twice, or are no text, at any depth. An alias may lead back to a node above it."""
    if id(node) in visited:
        return
    visited.add(id(node))
    lines: dict[str, int] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            decoded.fatal.append(Problem(line_of(key), f"a key must be a text, found {described(key)}"))
            continue
        if key.value in lines:
            text = f'duplicate field "{prefix}{key.value}", first given on line {lines[key.value]}'
            decoded.strict.append(Problem(line_of(key), text))
        lines[key.value] = line_of(key)
        if isinstance(value, yaml.MappingNode):
            _check_keys(decoded, value, f"{prefix}{key.value}.", visited)


def _section(decoded: Decoded, section: type[msgspec.Struct], node: yaml.MappingNode, prefix: str) -> None:
    known = fields_of(section)
    given = {key.value: (key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)}
    for name, (key, value) in given.items():
        path = prefix + name
        if name not in known:
            hint = _suggestion(name, prefix, list(known))
            decoded.strict.append(Problem(line_of(key), f'unknown field "{path}"{hint}'))
        elif is_null(value):
            continue
        elif not is_section(known[name]):
            _leaf(decoded, path, value)
        elif isinstance(value, yaml.MappingNode):
            _section(decoded, known[name].type, value, f"{path}.")
        else:
            decoded.fatal.append(Problem(line_of(value), f"{path}: expected a mapping, found {described(value)}"))


def _leaf(decoded: Decoded, path: str, node: yaml.Node) -> None:
    try:
        value = read(leaves()[path].type, node)
    except UnexpectedNode as wrong:
        text = f"{path}: expected {wrong.expected}, found {described(wrong.node)}"
        decoded.fatal.append(Problem(line_of(wrong.node), text))
    else:
        if value or path in ZERO_COUNTS:
            decoded.settings[path] = value


def _suggestion(name: str, prefix: str, siblings: list[str]) -> str:
    """The field that was probably meant: another spelling of it here, or the same name in another section."""
    folded = {sibling.lower(): sibling for sibling in siblings}
    for near in difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.8):
        return f', did you mean "{prefix}{folded[near]}"?'
    elsewhere = [path for path in leaves() if path.rpartition(".")[2] == name]
    return f', did you mean "{elsewhere[0]}"?' if elsewhere else ""
