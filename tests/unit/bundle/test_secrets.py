"""What looks like a credential is blotted out, and nothing else."""

from __future__ import annotations

import json

import pytest

from kpx.bundle.secrets import blotted


@pytest.mark.parametrize(
    "text",
    [
        "password=hunter22",
        'password="hunter22"',
        "password = hunter22",
        '"password": "hunter22"',
        '"token":"hunter22"',
        r"token=\"hunter22\"",
        "token:hunter22",
        "passwd=hunter22",
        "client_secret=hunter22",
        "api_key: hunter22",
        "Authorization: Basic hunter22",
        "Authorization: Bearer hunter22",
        "https://user:hunter22@example.com/",
        "PASSWORD=hunt,hunter22",
    ],
)
def test_what_is_blotted_out(text: str) -> None:
    data = f"before {text} after".encode()
    told = blotted(data)
    assert b"hunter22" not in told
    assert len(told) == len(data)
    assert told.startswith(b"before ")
    assert told.endswith(b" after")


def test_documents_stay_documents() -> None:
    document = {
        "token": None,
        "password": True,
        "secret": {"a": [1, 2]},
        "token_count": 12345,
        "comment": 'token="hunter22", password=hunter22}',
        "says": "basic configuration of a bearer",
        "url": "https://[fd00::1]:6443/api",
    }
    told = json.loads(blotted(json.dumps(document).encode()))
    assert "hunter22" not in str(told)
    assert {**told, "comment": ""} == {**document, "comment": ""}


def test_binary_data_is_left_alone_beyond_a_text() -> None:
    told = blotted(b"\x18\x00\x01\x00token=hunter22\x00\x00\x0c\x00\x02\x00abcd\x01\x02")
    assert told == b"\x18\x00\x01\x00token=********\x00\x00\x0c\x00\x02\x00abcd\x01\x02"
