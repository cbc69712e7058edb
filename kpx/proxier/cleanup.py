"""Removing what service proxies left in the kernel: of every mode, ours and kube-proxy's alike."""

from __future__ import annotations

import logging

from kpx.kernel.iptables.program import Iptables, installed
from kpx.proxier.backend import BackendError
from kpx.proxier.iptables.backend import IptablesBackend
from kpx.proxier.iptables.settings import Settings

logger = logging.getLogger(__name__)


def cleanup() -> None:
    """Remove the rules of all modes in both families, whatever of them is there.

    Raises `BackendError` at the end if something could not be removed; the rest is removed all the same.
    """
    failures = [failure for iptables in installed() for failure in _clean(iptables)]
    if failures:
        raise BackendError(f"encountered an error while tearing down rules: {'; '.join(failures)}")


def _clean(iptables: Iptables) -> list[str]:
    backend = IptablesBackend(iptables, Settings(iptables.family))
    try:
        backend.cleanup()
    except BackendError as error:
        logger.error("%s", error)
        return [str(error)]
    finally:
        backend.close()
    return []
