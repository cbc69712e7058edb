"""docs/configuration.md, made from the tables: ``python -m kpx.config.reference > docs/configuration.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kpx.config.duration import Duration
from kpx.config.fields import FIELDS, Field
from kpx.config.flags import FLAGS, GROUPS, Flag
from kpx.config.gates import OBEYED
from kpx.config.schema import Leaf, leaves
from kpx.config.types import FlushFrequency, Int32, Quantity, StringList, UInt32, VModule

_TYPES: Mapping[Any, str] = {
    str: "text",
    bool: "true or false",
    float: "number",
    Int32: "whole number",
    UInt32: "whole number",
    Duration: "duration",
    FlushFrequency: "duration, or nanoseconds",
    Quantity: "quantity",
    StringList: "list of texts",
    dict[str, bool]: "map of true or false",
    VModule: "list of filePattern, verbosity",
}

_INTRODUCTION = """\
# Configuration

<!-- Made by `python -m kpx.config.reference`; do not edit. -->

`kpx daemon` (and `kube-proxy`, which kpx installs too) takes the configuration file and the flags of kube-proxy 1.36.

- `--config FILE` names a file in YAML or JSON. Of the flags, only those under "General", `--hostname-override` (which
  wins over the file) and the logging flags that are given (which win, too) then count; the others are ignored without
  a word, as kube-proxy does.
- An unknown or repeated field is logged with its line, and the rest of the file counts. A value of the wrong type, a
  wrong or missing `kind` or `apiVersion` and a value that is not allowed end the process; all faults are named at once.
- `null` is the same as leaving a field out, and so is a zero value, save where zero means something: `masqueradeBit`,
  `localhostNodePorts`, `oomScoreAdj` and the first four fields of `conntrack`.
- Durations are written as `30s`, `1h15m` or `24h0m0s`.
- When the file is written or renamed the process ends with an error, for its supervisor to start it again. The swapped
  symlink of a ConfigMap volume does not count: restart the pods for a changed ConfigMap.
- `--write-config-to FILE` writes down what holds in the end.
"""

_FLAGS = """\
## Flags

A flag sets its field, with exceptions that are kube-proxy's: in mode nftables `--masquerade-all` and the two
`--iptables-...sync-period` flags set the fields of nftables, and the `--ipvs-...sync-period` flags count in mode ipvs
only, where minSyncPeriod is 1s if the flag is not given.
"""

_GATES = """\
## Feature gates

Every gate of Kubernetes 1.36 is accepted; one that is locked there cannot be changed. kpx obeys these:
"""

_DIFFERENCES = """\
## Where kpx differs from kube-proxy

- A feature gate that Kubernetes 1.36 does not know is warned about; kube-proxy does not start.
- `null` is accepted for every field.
- An empty value of a flag always stands for its default.
- An empty list is written as `null`.
- A value that does not fit is refused in words that name the file, the line and the field.
"""


def reference() -> str:
    """The whole page."""
    sections = [
        _INTRODUCTION,
        "## Fields\n",
        _table(("Field", "Type", "Default", "Meaning"), (_field(path, leaf) for path, leaf in leaves().items())),
        _FLAGS,
        _table(
            ("Flag", "Default", "Field", "Group"),
            (_flag(flag, group) for group, flags in GROUPS.items() for flag in flags),
        ),
        "Flags without a field:\n",
        "\n".join(f"- `--{flag.name}`: {flag.help}" for flag in FLAGS.values() if not flag.path) + "\n",
        _GATES,
        _table(("Gate", "Default", "Effect"), ((f"`{n}`", _shown(g.default), g.effect) for n, g in OBEYED.items())),
        _DIFFERENCES,
    ]
    return "\n".join(sections)


def _field(path: str, leaf: Leaf) -> Sequence[str]:
    field: Field = FIELDS[path]
    meaning = f"{field.text} *Accepted, not used: {field.unused}.*" if field.unused else field.text
    return f"`{path}`", _TYPES[leaf.type], field.default or _shown(leaf.default), meaning


def _flag(flag: Flag, group: str) -> Sequence[str]:
    name = f"`--{flag.name}`" + (f", `-{flag.short}`" if flag.short else "")
    return name, f"`{flag.default}`" if flag.default else "", f"`{flag.path}`" if flag.path else "", group


def _shown(value: object) -> str:
    if value in ("", (), {}):
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(reference())
