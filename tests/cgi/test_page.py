"""What the CGI shows: true, escaped, closed to everything that it does not need."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from types import ModuleType
from typing import Any

import pytest

from tests.cgi import subject

GOOD = subject.query("code=a&state=b")


@pytest.fixture(scope="module")
def cgi() -> ModuleType:
    return subject.load()


def shown(cgi: ModuleType, status: int, **answer: Any) -> subject.Answer:
    complete = {"ok": False, "title": "Title", "detail": "", "remedy": "", "code": ""} | answer
    return subject.request(cgi, GOOD, ask=lambda _run, _message: (status, complete))


def test_success_closes_the_tab(cgi: ModuleType) -> None:
    """Only a success carries a script, and that script closes the tab."""
    answer = shown(cgi, 200, ok=True)
    assert "window.close()" in answer.body
    assert "<title>Signed in</title>" in answer.body


def test_failure_stays_and_says_what_to_do(cgi: ModuleType) -> None:
    """Step, code and remedy are there; nothing closes the page before they are read."""
    said = {
        "title": "Consent was declined",
        "detail": "The server said no.",
        "remedy": "Accept.",
        "code": "AADSTS65004",
    }
    answer = shown(cgi, 403, **said)
    assert answer.status == 403
    for part in (*said.values(), "Sign-in failed"):
        assert part in answer.body
    assert "<script" not in answer.body


def test_text_from_notifyd_is_escaped(cgi: ModuleType) -> None:
    """Microsoft's words pass through notifyd: they are text here, never markup."""
    hostile = "</p><script>alert(1)</script>&\"'"
    answer = shown(cgi, 400, title=hostile, detail=hostile, remedy=hostile, code=hostile)
    assert "<script" not in answer.body
    assert answer.body.count("&lt;/p&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#39;") == 4


@pytest.mark.parametrize(("status", "ok"), [(200, True), (400, False), (503, False)])
def test_headers_allow_nothing_else(cgi: ModuleType, status: int, ok: bool) -> None:
    """Not stored, not framed, not sniffed, no referrer, no source but its own two hashes."""
    headers = shown(cgi, status, ok=ok).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert set(policy) <= {"default-src", "base-uri", "form-action", "frame-ancestors", "style-src", "script-src"}
    assert all(
        re.fullmatch(r"'sha256-[\w+/]{43}='", policy[name]) for name in ("style-src", "script-src") if name in policy
    )
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"


def test_policy_hashes_match_the_page(cgi: ModuleType) -> None:
    """The constants are the hashes of the style and script that are really sent."""
    body = shown(cgi, 200, ok=True).body
    for tag, constant in (("style", cgi.STYLE_HASH), ("script", cgi.SCRIPT_HASH)):
        [content] = re.findall(f"<{tag}>(.*?)</{tag}>", body, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert constant == f"sha256-{digest}"


@pytest.mark.parametrize(
    "value", [{}, {"a": True}, {"params": {"x": 'quote " \\ \r\n \x7f é \u2028 \U0001f600'}, "https": False}]
)
def test_json_writer_agrees_with_the_library(cgi: ModuleType, value: dict[str, Any]) -> None:
    """What is sent to notifyd is what any JSON reader reads."""
    assert json.loads(cgi.to_json(value)) == value


NONSENSE = {
    "nothing": b"",
    "no HTTP": b"hello\r\n\r\n{}",
    "no body": b"HTTP/1.1 200 OK\r\n\r\n",
    "no JSON": b"HTTP/1.1 200 OK\r\n\r\n<html>",
    "cut JSON": b'HTTP/1.1 200 OK\r\n\r\n{"ok": true, "title": "x',
    "a list": b"HTTP/1.1 200 OK\r\n\r\n[]",
    "no title": b'HTTP/1.1 200 OK\r\n\r\n{"ok": true}',
    "title of a wrong type": b'HTTP/1.1 200 OK\r\n\r\n{"ok": true, "title": {"a": 1}}',
    "bad UTF-8": b'HTTP/1.1 200 OK\r\n\r\n{"ok": true, "title": "\xff"}',
    "deep": b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 60000,
    "no number": b'HTTP/1.1 abc\r\n\r\n{"ok": true, "title": "x"}',
}


@pytest.mark.parametrize("received", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_from_notifyd_is_no_success(cgi: ModuleType, received: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that cannot be understood becomes a 502 page that does not claim anything."""
    monkeypatch.setattr(cgi, "exchange", lambda *_: received)
    answer = subject.request(cgi, GOOD, ask=cgi.ask_notifyd)
    assert answer.status == 502
    assert "not known whether a token was stored" in answer.body


@pytest.mark.parametrize("ok", ['"true"', "1", "null", "[]"])
def test_success_must_be_said_exactly(cgi: ModuleType, ok: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only `true` with status 200 counts."""
    received = f'HTTP/1.1 200 OK\r\n\r\n{{"ok": {ok}, "title": "x"}}'.encode()
    monkeypatch.setattr(cgi, "exchange", lambda *_: received)
    assert "<script" not in subject.request(cgi, GOOD, ask=cgi.ask_notifyd).body


def test_error_status_is_no_success(cgi: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ok` under an error status is not believed, and the status is passed on."""
    monkeypatch.setattr(cgi, "exchange", lambda *_: b'HTTP/1.1 409 Conflict\r\n\r\n{"ok": true, "title": "x"}')
    answer = subject.request(cgi, GOOD, ask=cgi.ask_notifyd)
    assert answer.status == 409
    assert "<script" not in answer.body
