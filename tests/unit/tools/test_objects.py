"""Which API server the tools ask where none is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kpx.tools.objects import default_server

NOBODY = 65534


def test_a_home_that_may_not_be_looked_into_names_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `setpriv --reuid`, or `su` without a dash: HOME is another user's."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    tmp_path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        assert default_server(1.0) is None
    finally:
        os.seteuid(user)
        tmp_path.chmod(0o700)
