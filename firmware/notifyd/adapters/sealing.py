"""Secrets at rest: AES-256-GCM under the device's key, bound to what they belong to.

Only the worker imports this (cryptography costs 3 MiB). A sealed blob opens only as the same kind of record, for the
same account, under the same schema and generation, so that blobs cannot be exchanged between rows, mailboxes, devices
or times.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"nS1"
NONCE_LENGTH = 12
"""96 random bits (NIST SP 800-38D): with some ten sealings a day a repeat is out of sight for the device's life."""

SCHEMA = 1
"""Version of what is inside; an older program refuses a newer one by failing to open it."""


class CannotOpen(Exception):
    """The blob is damaged, was sealed for something else, or by another device."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a blob belongs to; all of it is authenticated, none of it is stored.

    record: which kind of record, such as `grant`. account: whose. generation: of the configuration it was sealed for.
    """

    record: str
    account: str = ""
    generation: int = 0

    def associated_data(self) -> bytes:
        """The context as unambiguous bytes: each part carries its length, so that no two contexts look the same."""
        parts = (self.record.encode(), self.account.encode("utf-8", "surrogatepass"))
        numbers = struct.pack(">IQ", SCHEMA, self.generation)
        return MAGIC + b"".join(struct.pack(">I", len(part)) + part for part in parts) + numbers


def seal(key: bytes, context: Context, content: bytes) -> bytes:
    """Encrypt and authenticate `content` for `context` under a fresh nonce."""
    nonce = os.urandom(NONCE_LENGTH)
    return MAGIC + nonce + AESGCM(key).encrypt(nonce, content, context.associated_data())


def unseal(key: bytes, context: Context, blob: bytes) -> bytes:
    """The content of a blob that was sealed for exactly this context. Raises CannotOpen for anything else."""
    start = len(MAGIC) + NONCE_LENGTH
    if not blob.startswith(MAGIC) or len(blob) < start:
        raise CannotOpen("not a sealed blob")
    try:
        return AESGCM(key).decrypt(blob[len(MAGIC) : start], blob[start:], context.associated_data())
    except InvalidTag:
        raise CannotOpen("the seal does not fit") from None
