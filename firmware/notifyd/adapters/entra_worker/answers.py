"""Answers of the token endpoint, made sound before MSAL sees them. Pure functions.

MSAL trusts the types in an answer, loses the body of a 5xx and logs a body that is not JSON. So every answer is read
and judged here first, and what MSAL gets is a clean one.
"""

from __future__ import annotations

import email.utils
import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from notifyd.adapters.entra_worker.faults import malformed
from notifyd.core.events import Failure, FailureKind

MAX_TOKEN = 16 * 1024
"""Longest token in bytes; Microsoft's are 1–3 KiB. Three of this size fit a slot of the vault."""

DEFAULT_EXPIRES_S = 600
"""When an answer does not say how long its token lives, or says something impossible (MSAL assumes the same)."""

MIN_EXPIRES_S, MAX_EXPIRES_S = 60, 24 * 3600
"""A policy of Entra's allows 10 minutes to 24 hours; anything outside is a fault or a lie."""

MAX_RETRY_AFTER_S = 24 * 3600.0
MAX_TEXT = 2000
"""Longest piece of Microsoft's text that is passed on."""

TOKENS = ("access_token", "refresh_token", "id_token")
TEXTS = ("scope", "client_info")


def read_json(body: bytes, status: int) -> dict[str, Any]:
    """The JSON object of a body. Raises OperationFailed (malformed) for a captive portal's page and the like."""
    try:
        document = json.loads(body.decode("utf-8-sig"), object_pairs_hook=_unambiguous)
    except _Ambiguous:
        raise malformed("duplicate_member", "the answer holds a member twice", status) from None
    except (ValueError, RecursionError):
        raise malformed("not_json", f"the answer is not JSON ({len(body)} bytes)", status) from None
    if not isinstance(document, dict):
        raise malformed("not_an_object", "the answer is JSON, but not an object", status)
    return document


def clean_tokens(document: Mapping[str, Any], status: int) -> dict[str, Any]:
    """A success answer with only the known fields, each of the right type. Raises OperationFailed (malformed)."""
    clean: dict[str, Any] = {}
    for name in (*TOKENS, *TEXTS):
        value = document.get(name)
        if value is None or value == "":
            continue
        if not isinstance(value, str):
            raise malformed("wrong_type", f"{name} is not a text", status)
        if name in TOKENS and len(value.encode("utf-8", "surrogatepass")) > MAX_TOKEN:
            raise malformed("too_long", f"{name} is longer than {MAX_TOKEN} bytes", status)
        if not _encodable(value):
            raise malformed("not_text", f"{name} cannot be written as UTF-8", status)
        clean[name] = value
    if "access_token" not in clean:
        raise malformed("no_token", "the answer holds no access token", status)
    if str(document.get("token_type", "")).lower() != "bearer":
        raise malformed("not_bearer", "the token is not a bearer token", status)
    clean |= {"token_type": "Bearer"}
    clean["expires_in"] = clamp_expires(document.get("expires_in"))
    refresh_in = _number(document.get("refresh_in"))
    if refresh_in is not None and 0 < refresh_in < clean["expires_in"]:
        clean["refresh_in"] = int(refresh_in)
    return clean


def clamp_expires(value: object) -> int:
    """Seconds that a token will be used for: what the answer says, within bounds that no answer can widen."""
    number = _number(value)
    if number is None or number <= 0:
        return DEFAULT_EXPIRES_S
    return int(min(max(number, MIN_EXPIRES_S), MAX_EXPIRES_S))


def http_failure(status: int, headers: Mapping[str, str], document: Mapping[str, Any], now: float) -> Failure:
    """The failure that an error answer tells of. `now`: wall-clock seconds, for a Retry-After given as a date."""
    return Failure(
        kind=FailureKind.HTTP,
        status=status,
        error=_text(document.get("error")),
        suberror=_text(document.get("suberror")),
        description=_text(document.get("error_description")),
        codes=_codes(document),
        retry_after_s=retry_after(headers.get("retry-after"), headers.get("date"), now),
        trace_id=_text(document.get("trace_id")),
        correlation_id=_text(document.get("correlation_id")),
        claims=_claims(document.get("claims")),
    )


def front_channel_failure(params: Mapping[str, str]) -> Failure:
    """The failure that an error on the redirect tells of (RFC 6749 §4.1.2.1)."""
    return replace(http_failure(0, {}, params, 0.0), status=None)


def retry_after(value: str | None, server_date: str | None, now: float) -> float | None:
    """Seconds of a Retry-After header (RFC 9110 §10.2.3): a number, or a date measured on the server's own clock."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return min(float(value), MAX_RETRY_AFTER_S)
    until = http_date(value)
    if until is None:
        return None
    since = http_date(server_date)
    return min(max(until - (now if since is None else since), 0.0), MAX_RETRY_AFTER_S)


def http_date(value: str | None) -> float | None:
    """Wall-clock seconds of an HTTP date, or None when it is not one."""
    try:
        return email.utils.parsedate_to_datetime(value).timestamp() if value else None
    except (ValueError, OverflowError):
        return None


class _Ambiguous(Exception):
    """Two readers could take different values from the same object."""


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Ambiguous
    return found


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _text(value: object) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def _claims(value: object) -> str:
    """A claims challenge must be passed on unchanged: one that is too long is dropped rather than cut."""
    return value if isinstance(value, str) and len(value) <= MAX_TEXT else ""


def _codes(document: Mapping[str, Any]) -> tuple[int, ...]:
    """`error_codes`, or the number in the description when there are none."""
    listed = document.get("error_codes")
    numbers = [n for n in listed if isinstance(n, int) and not isinstance(n, bool)] if isinstance(listed, list) else []
    if not numbers:
        found = re.match(r"\s*AADSTS(\d{1,9})\b", _text(document.get("error_description")))
        numbers = [int(found[1])] if found else []
    return tuple(numbers[:8])


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
