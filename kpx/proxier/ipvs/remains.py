"""What ipvs mode, ours or kube-proxy's, has left in one family besides rules: virtual servers, addresses, sets.

The sets tell which virtual servers are a service proxy's: those of others are not touched.
"""

from __future__ import annotations

from collections.abc import Iterator

from kpx.kernel import modules
from kpx.kernel.dummy import Dummy
from kpx.kernel.ipset import Entry, Ipsets
from kpx.kernel.ipvs.table import Change, Ipvs, delete_real, delete_virtual, set_real
from kpx.kernel.ipvs.types import Virtual
from kpx.net import Family
from kpx.proxier.ipvs.names import DEVICE, IpSet

_MODULES = ("ip_vs", "ip_set")
_PORTALS = (
    IpSet.CLUSTER_IP,
    IpSet.EXTERNAL_IP,
    IpSet.EXTERNAL_IP_LOCAL,
    IpSet.LOAD_BALANCER,
    IpSet.NODE_PORT_SCTP,
)
_NODE_PORTS = {"TCP": IpSet.NODE_PORT_TCP, "UDP": IpSet.NODE_PORT_UDP}


def possible() -> bool:
    """Whether the kernel can hold anything of this mode. Looking does not load a module."""
    return all(map(modules.present, _MODULES))


class Remains:
    """What is left in one family, and its removal. The rules that refer to the sets must be gone before."""

    def __init__(self, family: Family) -> None:
        """Raises `IpvsUnavailable` or `IpsetUnavailable`."""
        self._family = family
        self._ipvs = Ipvs()
        self._sets = Ipsets()
        self._device = Dummy(DEVICE, family)

    def close(self) -> None:
        for door in (self._ipvs, self._sets, self._device):
            door.close()

    def __enter__(self) -> Remains:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def virtuals(self) -> list[Virtual]:
        """The virtual servers that a service proxy made."""
        known = {one: self._sets.entries(one.in_family(self._family)) or set() for one in IpSet}
        portals = {entry for one in _PORTALS for entry in known[one]}
        return [virtual for virtual in self._all() if _is_ours(virtual, portals, known)]

    def _all(self) -> Iterator[Virtual]:
        for found in self._ipvs.virtuals():
            if not found.virtual.mark and found.virtual.family is self._family:
                yield found.virtual

    def remove(self) -> None:
        """Remove all of it, with the connections that it serves."""
        self._ipvs.apply([delete_virtual(virtual) for virtual in self.virtuals()])
        self._remove_rest()

    def drain(self) -> int:
        """Remove what no connection needs, and let nothing new in; return how many virtual servers are still needed.

        To be called again until that is none.
        """
        virtuals = self.virtuals()
        needed = [virtual for virtual in virtuals if self._drained(virtual)]
        self._ipvs.apply([delete_virtual(virtual) for virtual in virtuals if virtual not in needed])
        if needed:
            self._device.exists()
            self._device.change((), self._device.addresses() - {virtual.address for virtual in needed})
        else:
            self._remove_rest()
        return len(needed)

    def _drained(self, virtual: Virtual) -> bool:
        """Take the idle real servers away and stop the others; whether any are left."""
        reals = self._ipvs.reals(virtual)
        idle = [one.real for one in reals if one.idle]
        busy = [one for one in reals if not one.idle]
        changes: list[Change] = [delete_real(virtual, real) for real in idle]
        changes += [set_real(virtual, one.real, 0) for one in busy if one.weight]
        self._ipvs.apply(changes)
        return bool(busy)

    def _remove_rest(self) -> None:
        """The addresses, the device when it has none of the other family either, and the sets."""
        try:
            self._remove_device()
        finally:
            for one in IpSet:
                self._sets.destroy(one.in_family(self._family))

    def _remove_device(self) -> None:
        if self._device.exists():
            self._device.change((), self._device.addresses())
            if not self._device.used():
                self._device.delete()


def _is_ours(virtual: Virtual, portals: set[Entry], known: dict[IpSet, set[Entry]]) -> bool:
    if Entry(virtual.address, virtual.protocol.lower(), virtual.port) in portals:
        return True
    ports = _NODE_PORTS.get(virtual.protocol)
    # An address of our device has no node ports.
    on_device = Entry(virtual.address) in known[IpSet.IPVS_IPS]
    return ports is not None and not on_device and Entry(port=virtual.port) in known[ports]
