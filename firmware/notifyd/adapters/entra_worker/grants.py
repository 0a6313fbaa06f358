"""What is sealed for a grant. Pure functions over bytes.

Tokens are kept byte for byte behind a JSON head, not inside it: JSON's escapes could make 16 KiB six times as long, and
a slot has a fixed size.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass, replace

from notifyd.adapters.entra_worker.faults import store

LENGTH = struct.Struct(">I")
TOKENS = ("access_token", "refresh_token", "previous_refresh_token")


@dataclass(frozen=True, slots=True)
class Grant:
    """A grant as the worker knows it.

    previous_refresh_token: the one that was used to get `refresh_token`, until that one has worked itself; Microsoft
    does not revoke it. credential: which of the client's credentials was accepted last.
    """

    account: str
    object_id: str
    tenant_id: str
    access_token: str
    refresh_token: str = ""
    previous_refresh_token: str = ""
    credential: str = ""

    def renewed(self, used: str, access_token: str, refresh_token: str, credential: str) -> Grant:
        """The grant after a renewal with the refresh token `used`; an answer without a new one keeps the old."""
        rotated = refresh_token and refresh_token != used
        return replace(
            self,
            access_token=access_token,
            refresh_token=refresh_token or used,
            previous_refresh_token=used if rotated else "",
            credential=credential,
        )

    def candidates(self) -> list[str]:
        """Refresh tokens to try, in this order."""
        return [token for token in dict.fromkeys((self.refresh_token, self.previous_refresh_token)) if token]


def encode(grant: Grant) -> bytes:
    """A grant as bytes: length of the head, head, tokens."""
    head = asdict(grant)
    tokens = [str(head.pop(name)).encode() for name in TOKENS]
    head["lengths"] = [len(token) for token in tokens]
    encoded = json.dumps(head).encode()
    return LENGTH.pack(len(encoded)) + encoded + b"".join(tokens)


def decode(content: bytes) -> Grant:
    """The grant in `content`. Raises OperationFailed (store) when it is not one."""
    try:
        (length,) = LENGTH.unpack_from(content)
        offset = LENGTH.size + length
        head = json.loads(content[LENGTH.size : offset])
        tokens = {}
        for name, size in zip(TOKENS, head.pop("lengths"), strict=True):
            tokens[name] = content[offset : offset + size].decode()
            offset += size
        return Grant(**head, **tokens)
    except (ValueError, TypeError, KeyError, AttributeError, struct.error):
        raise store("grant_unreadable", "what is sealed is not a grant of this version") from None
