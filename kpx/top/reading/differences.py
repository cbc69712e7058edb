"""What the kernel holds otherwise than the cluster wants it, looked for again and again."""

from __future__ import annotations

from kpx.diff.comparing import compared
from kpx.diff.difference import Difference
from kpx.proxier.frontends import ServicePortName
from kpx.tools.cluster import Cluster
from kpx.top.snapshot import Differences


class Comparison:
    """Compares all service ports. What differs only once was just being changed."""

    def __init__(self) -> None:
        self._before: frozenset[Difference] = frozenset()
        self.unconfirmed = False

    def read(self, cluster: Cluster) -> Differences:
        """What differs now, and did when it was last looked at. Raises `ToolError` and `OSError`."""
        found = frozenset(compared(cluster, lambda _: True).differences)
        lasting = found & self._before
        self._before, self.unconfirmed = found, found != lasting
        return differences(sorted(lasting, key=lambda one: (one.subject, one.text)))


def differences(found: list[Difference]) -> Differences:
    """Differences by the service port that they hit. Pure."""
    by_port: dict[ServicePortName, tuple[str, ...]] = {}
    for one in found:
        if one.port is not None:
            by_port[one.port] = (*by_port.get(one.port, ()), one.text)
    return Differences(by_port, tuple(dict.fromkeys(one.text for one in found if one.port is None)))
