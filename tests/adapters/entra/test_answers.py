"""Every class of answer the identity provider can give, clean and spoilt (reliability facts §3a)."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import pytest

from notifyd.adapters.entra_worker.answers import http_failure, retry_after
from notifyd.core.events import Failure, FailureKind
from qemu.m365.simulator import ThreadedSimulator
from tests.adapters.entra.conftest import Device

# Status, `error`, number: the sample rows of the answer classes.
ROWS = [
    (400, "invalid_grant", 700082), (400, "invalid_grant", 70043), (400, "invalid_grant", 70008),
    (400, "invalid_grant", 50173), (400, "invalid_grant", 50076), (400, "invalid_grant", 50079),
    (400, "invalid_grant", 50078), (400, "invalid_grant", 53003), (400, "invalid_grant", 53000),
    (400, "invalid_grant", 65001), (400, "invalid_grant", 50057), (400, "invalid_grant", 50053),
    (400, "invalid_grant", 50133), (400, "invalid_grant", 54005), (400, "invalid_grant", 50196),
    (400, "interaction_required", 50076), (400, "interaction_required", 50158), (400, "login_required", 50058),
    (400, "consent_required", 65001), (401, "invalid_client", 7000215), (401, "invalid_client", 7000222),
    (401, "invalid_client", 700027), (400, "unauthorized_client", 700016), (400, "unauthorized_client", 7000112),
    (400, "invalid_request", 90014), (400, "invalid_request", 9002313), (400, "invalid_request", 50011),
    (400, "invalid_scope", 70011), (400, "invalid_resource", 500011), (400, "unsupported_grant_type", 70003),
    (400, "invalid_request", 90002), (400, "invalid_request", 50194), (400, "invalid_grant", 501481),
    (404, "invalid_request", 90002), (400, "temporarily_unavailable", 90033), (503, "temporarily_unavailable", 90055),
    (500, "server_error", 90036), (502, "server_error", 0), (504, "server_error", 0),
    (429, "temporarily_unavailable", 90055),
    (408, "server_error", 0), (425, "server_error", 0), (400, "never_heard_of", 999999), (418, "teapot", 0),
    (400, "invalid_grant", 0),
]  # fmt: skip
SHAPES = ["clean", "truncated", "huge", "charset", "duplicate"]


def _body(error: str, number: int, shape: str) -> str:
    """An error body of Entra's, in one of the shapes that networks and proxies make of it."""
    members = {
        "error": error,
        "error_description": f"AADSTS{number}: Something.\r\nTrace ID: t\r\nCorrelation ID: c",
        "error_codes": [number],
        "trace_id": "t",
        "correlation_id": "c",
    }
    text = json.dumps(members)
    if shape == "truncated":
        return text[: len(text) // 2]
    if shape == "huge":
        return json.dumps({"padding": "x" * (1 << 20), **members})
    if shape == "duplicate":
        return '{"error": "first", ' + text[1:]
    return text


@pytest.mark.parametrize("shape", SHAPES)
def test_every_answer_class_is_a_failure_with_its_meaning(
    sim: ThreadedSimulator, device: Device, signed_in: dict[str, Any], shape: str
) -> None:
    """45 answers in each shape: no crash, no lost number in a clean one, and the next good answer renews the grant."""
    sealed = b64decode(signed_in["sealed"])
    for status, error, number in ROWS:
        body = _body(error, number, shape)
        kind = "application/json; charset=utf-16" if shape == "charset" else "application/json"
        sim.order("token", "http", status=status, body=body, content_type=kind)
        failure = device.refresh(sealed)
        assert isinstance(failure, Failure), (status, error, number)
        assert failure.status in (status, None)
        if shape in ("clean", "charset"):
            assert (failure.kind, failure.error) == (FailureKind.HTTP, error)
            assert failure.codes == (number,)
            assert (failure.trace_id, failure.correlation_id) == ("t", "c")
        elif status >= 500 or status in (408, 425, 429):
            assert failure.kind in (FailureKind.HTTP, FailureKind.MALFORMED)
        else:
            assert failure.kind is FailureKind.MALFORMED
    assert isinstance(device.refresh(sealed), dict)


@pytest.mark.parametrize(
    ("what", "fields"),
    [
        ("captive-portal", {}),
        ("captive-portal", {"status": 403}),
        ("redirect", {}),
        ("truncated", {}),
        ("huge", {}),
        ("charset", {}),
        ("duplicate-keys", {}),
        ("members", {"drop": ["access_token"]}),
        ("members", {"set": {"access_token": ["list"]}}),
        ("members", {"set": {"access_token": ""}}),
        ("members", {"set": {"token_type": "mac"}}),
        ("members", {"drop": ["token_type"]}),
        ("members", {"set": {"scope": {"not": "text"}}}),
        ("members", {"set": {"refresh_token": 17}}),
        ("members", {"set": {"refresh_token": "r" * 20000}}),
        ("http", {"status": 200, "body": "[]", "content_type": "application/json"}),
        ("http", {"status": 200, "body": "", "content_type": "application/json"}),
        ("http", {"status": 200, "body": "[" * 100000, "content_type": "application/json"}),
    ],
)
def test_good_status_with_a_bad_body_is_malformed(
    sim: ThreadedSimulator, device: Device, signed_in: dict[str, Any], what: str, fields: dict[str, Any]
) -> None:
    """A captive portal, a cut or a lie is transient: the grant is as it was, and the page's words are not kept."""
    sealed = b64decode(signed_in["sealed"])
    sim.order("token", what, **fields)
    failure = device.refresh(sealed)
    assert isinstance(failure, Failure)
    assert failure.kind is FailureKind.MALFORMED
    assert "Hotel" not in repr(failure)
    assert isinstance(device.refresh(sealed), dict)


def test_reset_in_the_middle_of_an_answer_is_a_network_failure(
    sim: ThreadedSimulator, device: Device, signed_in: dict[str, Any]
) -> None:
    """The token was rotated, the answer lost: the held token renews the grant all the same."""
    sealed = b64decode(signed_in["sealed"])
    sim.order("token", "reset")
    failure = device.refresh(sealed)
    assert isinstance(failure, Failure)
    assert failure.kind is FailureKind.NETWORK
    assert isinstance(device.refresh(sealed), dict)


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("120", None, 120.0),
        (" 7 ", None, 7.0),
        ("Wed, 25 Nov 2026 10:02:00 GMT", "Wed, 25 Nov 2026 10:00:00 GMT", 120.0),
        ("Wed, 25 Nov 2026 10:02:00 GMT", None, 120.0),
        ("Wed, 25 Nov 2026 09:00:00 GMT", "Wed, 25 Nov 2026 10:00:00 GMT", 0.0),
        ("999999999", None, 86400.0),
        ("soon", None, None),
        ("-5", None, None),
        ("", None, None),
        (None, None, None),
    ],
)
def test_retry_after_is_read_on_the_servers_clock(value: str | None, date: str | None, seconds: float | None) -> None:
    """Seconds or a date; a date counts from the server's own Date, because a gateway's clock may be years off."""
    now = 1795600800.0 if date is None else 0.0
    assert retry_after(value, date, now) == seconds


def test_number_is_found_in_the_text_when_the_list_is_missing() -> None:
    """Redirects carry no error_codes."""
    failure = http_failure(400, {}, {"error": "x", "error_description": "AADSTS65004: declined"}, 0.0)
    assert failure.codes == (65004,)


def test_fields_of_wrong_types_do_not_crash() -> None:
    """An error answer is data from outside."""
    document = {"error": 1, "suberror": [], "error_codes": ["x", True, None, 7], "claims": {}, "trace_id": 3}
    failure = http_failure(400, {"retry-after": "x"}, document, 0.0)
    assert (failure.error, failure.codes, failure.claims) == ("", (7,), "")
