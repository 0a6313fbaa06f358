"""Secrets and control characters taken out of text."""

from __future__ import annotations

import base64
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyd.core.redact import clean_text, is_secret_name, redact_field, redact_text

JWT = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJodHRwczovL291dGxvb2sifQ.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
REFRESH = "1.AXkAq2Z-abcDEF123_456-xyzXYZ789abcdefghijk.AgABAwEAAADW6jl31mB3T7ugrWTT8pFe"
CODE = "0.AXkAq2Z-abcDEF123456.AgABBAIAAADW6jl31mB3T7ug"
CLIENT_SECRET = "abc8Q~DeFgHiJkLmNoPqRsTuVwXyZ0123456789ab"
XOAUTH2 = base64.b64encode(f"user=gateway@contoso.example\x01auth=Bearer {JWT}\x01\x01".encode()).decode()

PLACES = [
    "{}",
    "before {} after",
    "https://gw/cgi-bin/msoauth2.cgi?code={}&state=x",
    '{{"refresh_token": "{}", "x": 1}}',
    "{{'access_token': '{}'}}",
    r"{{\"id_token\":\"{}\"}}",
    "Authorization: Bearer {}",
    "client_secret={}&grant_type=refresh_token",
    "password: {}",
    "state%3D{}",
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("secret", [JWT, REFRESH, CODE, CLIENT_SECRET, XOAUTH2])
def test_a_secret_is_found_wherever_it_stands(secret: str, place: str) -> None:
    """By its look or by the name before it, no part of 12 characters of a secret stays."""
    shown = redact_text(place.format(secret))
    for start in range(len(secret) - 12):
        assert secret[start : start + 12] not in shown


@pytest.mark.parametrize(
    "text",
    [
        "AADSTS7000222: The provided client secret keys for app '66666666-7777-4888-9999-aaaaaaaaaaaa' are expired.",
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.",
        "Trace ID: 3f8a5bd2-1111-4222-8333-444455556666 Correlation ID: 9f8a5bd2-1111-4222-8333-444455556666",
        "Microsoft 365 token retrieved for gateway@contoso.example (valid until 2026-11-25 02:00:00 UTC)",
        "250 2.0.0 OK <0197a2f0-aaaa-7bbb-8ccc-dddddddddddd@gateway.contoso.example> [Hostname=AM0PR01MB1234]",
        "the state is Valid; state=Valid",
        "code=AADSTS50196",
    ],
)
def test_what_support_needs_stays(text: str) -> None:
    """Codes, replies, trace ids and addresses are no secrets."""
    assert redact_text(text) == text


@pytest.mark.parametrize(
    "name", ["password", "client_secret", "Refresh-Token", "signin_id", "_code_verifier", "Cookie"]
)
def test_a_secret_field_is_hidden_whatever_it_holds(name: str) -> None:
    """By name, also when the value looks harmless; an empty one stays empty."""
    assert is_secret_name(name)
    assert redact_field(name, "hello") == "[secret]"
    assert redact_field(name, "") == ""


@pytest.mark.parametrize("name", ["secret_expires_on", "secret_set", "tokens", "account", "state", "keyboard"])
def test_a_field_that_only_speaks_of_a_secret_stays(name: str) -> None:
    """Dates and flags about secrets are shown."""
    assert redact_field(name, "2026-12-09") == "2026-12-09"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("AADSTS7000222", "AADSTS7000222"),
        ("smtp.535-5.7.139", "smtp.535-5.7.139"),
        ("invalid_grant", "invalid_grant"),
        ("451", "451"),
        ("0.AXabcdefghijklmnop", "[secret]"),
        ("3f8a5bd2c0ffee", "[secret]"),
        ("Zm9vYmFy", "[secret]"),
    ],
)
def test_code_is_a_problems_code_or_a_secret(value: str, shown: str) -> None:
    """The field `code` holds the code of a problem; an authorization code in it is hidden."""
    assert redact_field("code", value) == shown


def test_a_second_line_cannot_be_forged() -> None:
    """Line ends, escape sequences and marks that turn text around become a blank."""
    hostile = "bad\r\n<13>Jan 1 root: all is well\x1b[2J\x1b]0;title\x07\x00\u202egnp\u2028x\x85y"
    shown = clean_text(hostile)
    assert shown == "bad <13>Jan 1 root: all is well gnp x y"


@given(st.text(max_size=500), st.integers(min_value=1, max_value=50))
def test_cleaning_bounds_every_text(text: str, limit: int) -> None:
    """One line, no controls, not longer than asked, and cleaning twice changes nothing."""
    shown = clean_text(text, limit)
    assert len(shown) <= limit
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202e\ud800-\udfff]", shown)
    assert clean_text(shown, limit) == shown
    shown.encode()


@given(st.text(max_size=200))
def test_redaction_is_total_and_settles(text: str) -> None:
    """Any text can be redacted, and a redacted text has nothing more to redact but what was cut together."""
    once = redact_text(text)
    assert redact_text(once).count("[secret]") >= once.count("[secret]")


def test_redaction_of_a_megabyte_is_quick() -> None:
    """No pattern needs more than linear time, whatever the text is made of."""
    hostile = ["a" * 200_000, "code=" * 40_000, "eyJ" * 60_000, "0.A" * 60_000, "aA0" * 60_000, "token: " * 30_000]
    begin = time.process_time()
    for text in hostile:
        redact_text(text)
    assert time.process_time() - begin < 5
