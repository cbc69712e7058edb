from __future__ import annotations

import pytest

from kpx.config.gates import KNOWN, LOCKED, OBEYED, enabled, locked, unknown


@pytest.mark.parametrize(
    ("gates", "name", "on"),
    [
        ({}, "ComponentFlagz", True),
        ({"AllBeta": False}, "ComponentFlagz", False),
        ({"AllBeta": False, "ComponentFlagz": True}, "ComponentFlagz", True),
        ({"AllBeta": False}, "AllowServiceExternalIPs", True),
        ({"AllowServiceExternalIPs": False}, "AllowServiceExternalIPs", False),
        ({}, "LoggingAlphaOptions", False),
        ({"AllAlpha": True}, "LoggingAlphaOptions", True),
    ],
)
def test_enabled(gates: dict[str, bool], name: str, on: bool) -> None:
    assert enabled(gates, name) is on


def test_locked_gates_take_only_their_value() -> None:
    assert locked({"PreferSameTrafficDistribution": True, "ComponentFlagz": False}) == []
    assert locked({"WinDSR": False, "WatchFromStorageWithoutResourceVersion": True}) == [
        "cannot set feature gate WatchFromStorageWithoutResourceVersion to true, feature is locked to false",
        "cannot set feature gate WinDSR to false, feature is locked to true",
    ]


def test_known_gates_are_silent() -> None:
    assert unknown(dict.fromkeys(KNOWN, True)) == []
    assert OBEYED.keys() <= KNOWN
    assert not OBEYED.keys() & LOCKED.keys()
    assert unknown({"Nope": False}) == [
        "featureGates: Nope is ignored, Kubernetes 1.36 has no feature gate of that name"
    ]
