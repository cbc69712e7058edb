"""IPVS messages: values -> the bytes of requests, the bytes of answers -> values.

Pure. Layouts: ``linux/ip_vs.h`` (IPVS_CMD_*, IPVS_SVC_ATTR_*, IPVS_DEST_ATTR_*). Laid out by hand: a node has 50,000
real servers, and general libraries take a millisecond for each.
"""

from __future__ import annotations

import socket
import struct
from enum import IntEnum

from kpx.kernel.genetlink import HEADER
from kpx.kernel.ipvs.types import (
    NOTHING_COUNTED,
    PROTOCOL_NAMES,
    PROTOCOLS,
    Counters,
    Info,
    Real,
    RealServer,
    Settings,
    Timeouts,
    Virtual,
    VirtualServer,
)
from kpx.kernel.netlink import attribute, attributes, nested, string, text
from kpx.net import Family, packed

_VERSION = 1


class Command(IntEnum):
    """The commands that are used here."""

    NEW_SERVICE = 1
    SET_SERVICE = 2
    DEL_SERVICE = 3
    GET_SERVICE = 4
    NEW_DEST = 5
    SET_DEST = 6
    DEL_DEST = 7
    GET_DEST = 8
    SET_CONFIG = 12
    GET_CONFIG = 13
    GET_INFO = 15


_SERVICE, _DEST = 1, 2
_TIMEOUT_TCP, _TIMEOUT_TCP_FIN, _TIMEOUT_UDP = 4, 5, 6

_SVC_AF, _SVC_PROTOCOL, _SVC_ADDR, _SVC_PORT, _SVC_FWMARK = 1, 2, 3, 4, 5
_SVC_SCHED, _SVC_FLAGS, _SVC_TIMEOUT, _SVC_NETMASK, _SVC_STATS, _SVC_ENGINE, _SVC_STATS64 = 6, 7, 8, 9, 10, 11, 12

_DEST_ADDR, _DEST_PORT, _DEST_METHOD, _DEST_WEIGHT, _DEST_UPPER, _DEST_LOWER = 1, 2, 3, 4, 5, 6
_DEST_ACTIVE, _DEST_INACTIVE, _DEST_PERSISTENT, _DEST_STATS, _DEST_AF, _DEST_STATS64 = 7, 8, 9, 10, 11, 12

_INFO_VERSION, _INFO_TABLE_SIZE = 1, 2

_U16 = struct.Struct("=H")
_U32 = struct.Struct("=I")
_BE16 = struct.Struct(">H")
_FLAGS = struct.Struct("=II")  # struct ip_vs_flags: the flags, and which of them are meant
_ALL = 0xFFFFFFFF


def request(command: Command, *parts: bytes) -> bytes:
    """What follows the netlink header of a request."""
    return HEADER.pack(command, _VERSION, 0) + b"".join(parts)


def virtual_part(virtual: Virtual, settings: Settings | None = None) -> bytes:
    """The attribute that names a virtual server, and with `settings` says how it works."""
    family = virtual.family
    identity = [attribute(_SVC_AF, _U16.pack(family.af))]
    if virtual.mark:
        identity.append(attribute(_SVC_FWMARK, _U32.pack(virtual.mark)))
    else:
        number = PROTOCOLS.get(virtual.protocol) or int(virtual.protocol)
        identity.append(attribute(_SVC_PROTOCOL, _U16.pack(number)))
        identity.append(attribute(_SVC_ADDR, packed(virtual.address).ljust(16, b"\0")))
        identity.append(attribute(_SVC_PORT, _BE16.pack(virtual.port)))
    if settings is None:
        return nested(_SERVICE, *identity)
    return nested(_SERVICE, *identity, *_settings_parts(settings, family))


def _settings_parts(settings: Settings, family: Family) -> list[bytes]:
    parts = [
        text(_SVC_SCHED, settings.scheduler),
        attribute(_SVC_FLAGS, _FLAGS.pack(settings.flags, _ALL)),
        attribute(_SVC_TIMEOUT, _U32.pack(settings.timeout)),
        attribute(_SVC_NETMASK, _netmask(settings, family)),
    ]
    if settings.engine:
        parts.append(text(_SVC_ENGINE, settings.engine))
    return parts


def _netmask(settings: Settings, family: Family) -> bytes:
    """The mask itself for IPv4, in network order; the length of the prefix for IPv6."""
    prefix = settings.prefix or family.bits
    if family is Family.IPV6:
        return _U32.pack(prefix)
    return packed(settings.mask) if settings.mask else _mask(prefix)


def _mask(prefix: int) -> bytes:
    return (_ALL << (32 - prefix) & _ALL).to_bytes(4, "big")


def real_part(real: Real, weight: int | None = None) -> bytes:
    """The attribute that names a real server, and with `weight` makes it one that is reached by masquerading."""
    parts = [
        attribute(_DEST_ADDR, packed(real.address).ljust(16, b"\0")),
        attribute(_DEST_PORT, _BE16.pack(real.port)),
        attribute(_DEST_AF, _U16.pack(socket.AF_INET6 if ":" in real.address else socket.AF_INET)),
    ]
    if weight is not None:
        parts += [
            attribute(_DEST_METHOD, _U32.pack(0)),
            attribute(_DEST_WEIGHT, _U32.pack(weight)),
            attribute(_DEST_UPPER, _U32.pack(0)),
            attribute(_DEST_LOWER, _U32.pack(0)),
        ]
    return nested(_DEST, *parts)


def timeout_parts(timeouts: Timeouts) -> list[bytes]:
    """The attributes that set the time-outs; 0 leaves one as it is."""
    kinds = (_TIMEOUT_TCP, _TIMEOUT_TCP_FIN, _TIMEOUT_UDP)
    return [attribute(kind, _U32.pack(seconds)) for kind, seconds in zip(kinds, timeouts, strict=True) if seconds]


def decode_timeouts(message: memoryview) -> Timeouts:
    values = dict(attributes(message[HEADER.size :]))
    return Timeouts(*(_number(values.get(kind)) for kind in (_TIMEOUT_TCP, _TIMEOUT_TCP_FIN, _TIMEOUT_UDP)))


def decode_info(message: memoryview) -> Info:
    values = dict(attributes(message[HEADER.size :]))
    version = _number(values.get(_INFO_VERSION))
    return Info((version >> 16, version >> 8 & 0xFF, version & 0xFF), _number(values.get(_INFO_TABLE_SIZE)))


def decode_virtual(message: memoryview, *, counted: bool = True) -> VirtualServer:
    """The virtual server in an answer to GET_SERVICE; `counted` with its counters, which take most of the time."""
    values = dict(attributes(_inner(message, _SERVICE)))
    family = Family.IPV6 if _number(values[_SVC_AF]) == socket.AF_INET6 else Family.IPV4
    if _SVC_FWMARK in values:
        virtual = Virtual("", 0, "", _number(values[_SVC_FWMARK]), family)
    else:
        number = _number(values[_SVC_PROTOCOL])
        virtual = Virtual(
            _address(values[_SVC_ADDR], family),
            _BE16.unpack(values[_SVC_PORT])[0],
            PROTOCOL_NAMES.get(number, str(number)),
        )
    counters = _counters(values, _SVC_STATS64, _SVC_STATS) if counted else NOTHING_COUNTED
    return VirtualServer(virtual, _decode_settings(values, family), counters)


def _decode_settings(values: dict[int, memoryview], family: Family) -> Settings:
    mask = bytes(values[_SVC_NETMASK])
    if family is Family.IPV6:
        prefix, is_length = _U32.unpack(mask)[0], True
    else:
        prefix = int.from_bytes(mask, "big").bit_count()
        is_length = prefix > 0 and mask == _mask(prefix)
    return Settings(
        scheduler=string(values[_SVC_SCHED]),
        flags=_number(values[_SVC_FLAGS][:4]),
        timeout=_number(values[_SVC_TIMEOUT]),
        prefix=prefix if is_length and prefix != family.bits else 0,
        engine=string(values[_SVC_ENGINE]) if _SVC_ENGINE in values else "",
        mask="" if is_length else socket.inet_ntoa(mask),
    )


def decode_real(message: memoryview, family: Family, *, counted: bool = True) -> RealServer:
    """The real server in an answer to GET_DEST; `family` is the virtual server's, which old kernels leave out."""
    values = dict(attributes(_inner(message, _DEST)))
    af = _number(values[_DEST_AF]) if _DEST_AF in values else family.af
    own = Family.IPV6 if af == socket.AF_INET6 else Family.IPV4
    return RealServer(
        real=Real(_address(values[_DEST_ADDR], own), _BE16.unpack(values[_DEST_PORT])[0]),
        weight=_number(values[_DEST_WEIGHT]),
        method=_number(values[_DEST_METHOD]),
        active=_number(values[_DEST_ACTIVE]),
        inactive=_number(values[_DEST_INACTIVE]),
        persistent=_number(values[_DEST_PERSISTENT]),
        upper=_number(values[_DEST_UPPER]),
        lower=_number(values[_DEST_LOWER]),
        counters=_counters(values, _DEST_STATS64, _DEST_STATS) if counted else NOTHING_COUNTED,
    )


def _inner(message: memoryview, kind: int) -> memoryview:
    return dict(attributes(message[HEADER.size :]))[kind]


def _address(value: memoryview, family: Family) -> str:
    return socket.inet_ntop(family.af, value[: family.bits // 8])


def _number(value: memoryview | None) -> int:
    """A number in the machine's order, of 2, 4 or 8 bytes."""
    if value is None:
        return 0
    return int(struct.unpack({2: "=H", 4: "=I", 8: "=Q"}[len(value)], value)[0])


def _counters(values: dict[int, memoryview], *kinds: int) -> Counters:
    """The counters, 64 bits wide where the kernel (4.1 and later) has them. Their attributes are numbered from 1."""
    for kind in kinds:
        if kind in values:
            counted = dict(attributes(values[kind]))
            return Counters(*(_number(counted.get(number)) for number in range(1, 11)))
    return NOTHING_COUNTED
