"""A value that must never be printed: redaction by construction."""

from __future__ import annotations

import hmac
from typing import NoReturn

REDACTED = "[secret]"


class Secret:
    """Holds a secret string; every way of printing or pickling it gives a placeholder or fails.

    Only `reveal()` gives the value, so that a search for that word finds each place where a secret leaves its box.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself, to be handed to the one library that needs it."""
        return self._value

    def __repr__(self) -> str:
        return REDACTED

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return REDACTED

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]  # a hashable secret would end up as a dict key in some log

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle a secret")
