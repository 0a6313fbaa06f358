"""Sealed blobs: what was changed, cut, moved or aged does not open (promise P13)."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyd.adapters.sealing import CannotOpen, Context, seal, unseal

KEY = bytes(range(32))
HERE = Context("grant", "simulated/tenant/client/gateway@contoso.example", 7)
CONTENT = b"refresh token and all"


@given(st.binary(max_size=4096), st.text(max_size=40), st.text(max_size=80), st.integers(0, 2**63))
def test_content_comes_back_as_it_was(content: bytes, record: str, account: str, generation: int) -> None:
    """Any bytes, for any context."""
    context = Context(record.encode("utf-8", "ignore").decode(), account, generation)
    assert unseal(KEY, context, seal(KEY, context, content)) == content


def test_every_flipped_bit_is_noticed() -> None:
    """All bits of a blob, one at a time: 100 % rejected."""
    blob = seal(KEY, HERE, CONTENT)
    for bit in range(len(blob) * 8):
        changed = bytearray(blob)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CannotOpen):
            unseal(KEY, HERE, bytes(changed))


def test_every_truncation_is_noticed() -> None:
    """A blob that was cut anywhere, or has grown, does not open."""
    blob = seal(KEY, HERE, CONTENT)
    for length in range(len(blob)):
        with pytest.raises(CannotOpen):
            unseal(KEY, HERE, blob[:length])
    with pytest.raises(CannotOpen):
        unseal(KEY, HERE, blob + b"\0")


@given(st.binary(max_size=200))
def test_foreign_bytes_do_not_open(blob: bytes) -> None:
    """Whatever lies in the store instead of a blob is refused, never a crash."""
    with pytest.raises(CannotOpen):
        unseal(KEY, HERE, blob)


@pytest.mark.parametrize(
    "other",
    [
        Context("settings-secrets", HERE.account, HERE.generation),
        Context(HERE.record, "simulated/tenant/client/other@contoso.example", HERE.generation),
        Context(HERE.record, HERE.account, HERE.generation - 1),
        Context(HERE.record, HERE.account, HERE.generation + 1),
        Context(HERE.record + HERE.account[:1], HERE.account[1:], HERE.generation),
    ],
    ids=["another record", "another account", "older generation", "newer generation", "shifted boundary"],
)
def test_blob_opens_nowhere_else(other: Context) -> None:
    """A blob that was moved to another row, mailbox or time is refused."""
    with pytest.raises(CannotOpen):
        unseal(KEY, other, seal(KEY, HERE, CONTENT))


def test_another_device_cannot_open() -> None:
    """Each device has its own key."""
    with pytest.raises(CannotOpen):
        unseal(os.urandom(32), HERE, seal(KEY, HERE, CONTENT))


def test_nonces_do_not_repeat() -> None:
    """The same content sealed 10,000 times gives 10,000 blobs."""
    assert len({seal(KEY, HERE, CONTENT) for _ in range(10_000)}) == 10_000
