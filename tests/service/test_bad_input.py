"""The classes of bad input that have hurt gateways before, against both sockets of one running notifyd.

Whatever comes in: an answer below 500, nothing changed, nothing echoed that could act in a page or a terminal, and the
service answers the next good request. The numbers are those of the list that the product is held against.
"""

from __future__ import annotations

import concurrent.futures
import json
import socket
import time
from typing import Any

import pytest

from notifyd.ctl.client import Client
from tests.support.stack import OPERATOR, Stack, raw_exchange, status_of

SHELL = ["; reboot", "`id`", "$(id)", "| nc 192.0.2.1 1", "&& halt", "> /etc/passwd"]
BREAKS = ["a\r\nb", "a\nb", "a\rb", "a\0b", "a\x1cb", "a\x85b", "a\u2028b", "a\x1b[2Jb"]
OPTIONS = ["-oProxyCommand=x", "--help"]
MARKUP = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</script>", "a\u202egnp.exe"]
FORMATS = ["%s%n%x", "{0.__class__.__mro__}", "${jndi:ldap://x}", "{{7*7}}"]
PATHS = ["../../etc/passwd", "..\\..\\x", "/dev/null", "%2e%2e%2f", "a/../common", "x?y", "x#y"]
HOSTILE = SHELL + BREAKS + OPTIONS + MARKUP + FORMATS + PATHS
TEXT_FIELDS = [
    "server",
    "security",
    "auth",
    "cloud",
    "sender",
    "client_id",
    "tenant_id",
    "username",
    "secret_expires_on",
]


@pytest.fixture(autouse=True)
def _nothing_changes(applied: Stack) -> Any:
    """After every test the settings and the state are what they were, and the service is alive."""
    before = (applied.get("/api/v1/settings"), applied.status()["generation"], applied.process.pid)
    yield
    assert (applied.get("/api/v1/settings"), applied.status()["generation"], applied.process.pid) == before


@pytest.mark.parametrize("field", TEXT_FIELDS)
def test_hostile_text_in_a_setting_is_refused_by_field(field: str, applied: Stack) -> None:
    """Classes 1 to 3, 6, 27, 30: shell, line breaks, options, markup, formats, paths in every field of Apply."""
    for value in HOSTILE:
        if field == "username":
            value = f"\n{value}\0"  # a login name may be almost anything on one line
        reply = applied.call("PUT", "/api/v1/settings", applied.settings(**{field: value}))
        assert reply.status == 422, (field, value, reply)
        assert f"/{field}" in [error["pointer"] for error in reply.document["errors"]]


@pytest.mark.parametrize("port", [0, -1, 65536, 10**30, "25 ; id", "", "0x19", True, 587.5, [587], {"a": 1}, "５８７"])
def test_impossible_ports_are_refused(port: Any, applied: Stack) -> None:
    """Class 7: numbers that are none, and numbers beyond the range."""
    reply = applied.call("PUT", "/api/v1/settings", applied.settings(port=port))
    assert reply.status in (400, 422), reply


@pytest.mark.parametrize(
    "server",
    [
        "http://smtp.example",
        "smtp.example:25",
        "user@smtp.example",
        "/run/x.sock",
        "0x7f.1",
        "2130706433",
        "a b",
        "[::1",
    ],
)
def test_servers_that_are_no_hosts_are_refused(server: str, applied: Stack) -> None:
    """Class 7: URLs, ports and users in the name, Unix paths, addresses in disguise."""
    assert applied.call("PUT", "/api/v1/settings", applied.settings(server=server)).status == 422


@pytest.mark.parametrize(
    "tenant", ["common", "organizations", "consumers", "../common", "x/../y", "%2e%2e", "a?b", "a#b"]
)
def test_tenants_that_lead_elsewhere_are_refused(tenant: str, applied: Stack) -> None:
    """Class 6: only a GUID or a domain names a tenant."""
    assert applied.call("PUT", "/api/v1/settings", applied.settings(tenant_id=tenant)).status == 422


def test_a_secret_id_in_place_of_the_value_is_recognised(applied: Stack) -> None:
    """The usual mistake of pasting: the text says which of the two to paste."""
    reply = applied.call(
        "PUT", "/api/v1/settings", applied.settings(client_secret="0f0e0d0c-0b0a-4909-8807-060504030201")
    )
    assert reply.status == 422
    assert reply.document["errors"][0]["pointer"] == "/client_secret"
    assert "Value" in reply.document["errors"][0]["detail"]


BODIES: dict[str, tuple[bytes, set[int]]] = {
    "empty": (b"", {400}),
    "not-json": (b"server=smtp", {400}),
    "truncated": (b'{"server": "smtp.off', {400}),
    "array": (b"[]", {422}),
    "string": (b'"x"', {422}),
    "null": (b"null", {422}),
    "duplicate-key": (b'{"server":"a","server":"b"}', {400}),
    "nan": (b'{"port":NaN}', {400}),
    "infinity": (b'{"port":-Infinity}', {400}),
    "1e999": (b'{"port":1e999}', {400}),
    "huge-int": (b'{"port":' + b"9" * 5000 + b"}", {400, 422}),
    "deep": (b'{"server":' + b"[" * 5000 + b"]" * 5000 + b"}", {400}),
    "deep-objects": (b'{"a":' * 3000 + b"1" + b"}" * 3000, {400}),
    "unknown-key": (b'{"server":"a.example","evil":1}', {422}),
    "prototype": (b'{"__proto__":{"x":1}}', {422}),
    "wrong-types": (b'{"server":1,"port":[],"sender":{}}', {422}),
    "bom": (b'\xef\xbb\xbf{"port":587}', {400}),
    "utf-16": ('{"port":587}'.encode("utf-16"), {400}),
    "invalid-utf-8": (b'{"server":"\xc3\x28"}', {400}),
    "overlong": (b'{"server":"\xc0\xaf"}', {400}),
    "surrogate": (b'{"server":"\\ud800"}', {422}),
    "nul": (b'{"server":"a\\u0000b"}', {422}),
    "comment": (b'{"port":587 /* x */}', {400}),
    "trailing": (b'{"port":587} {"port":588}', {400}),
    "too-large": (b'{"server":"' + b"a" * 70_000 + b'"}', {413}),
}


@pytest.mark.parametrize("name", BODIES)
def test_broken_json_changes_nothing(name: str, applied: Stack) -> None:
    """Classes 13, 14, 28 on admin.sock and on callback.sock."""
    body, expected = BODIES[name]
    reply = applied.call("PUT", "/api/v1/settings", body)
    assert reply.status in expected, reply
    assert reply.headers["content-type"] == "application/problem+json"
    reply = Client(applied.run / "callback.sock").call("POST", "/callback", body)
    assert reply.status in (400, 413), reply
    assert reply.document.get("ok", False) is False


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_json_under_another_name_is_refused(content_type: str, applied: Stack) -> None:
    """Class 21: what a form of another site can send is not JSON, whatever it contains."""
    body = json.dumps(applied.settings()).encode()
    assert applied.call("PUT", "/api/v1/settings", body, media_type=content_type).status == 415
    assert Client(applied.run / "callback.sock").call("POST", "/callback", body, media_type=content_type).status == 415


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "TRACE", "OPTIONS", "PATCH", "post", "FOO"])
def test_wrong_methods_are_told_the_right_ones(method: str, applied: Stack) -> None:
    """Class 12 on callback.sock, and on a resource of admin.sock that takes POST only."""
    for path, target in (("callback.sock", "/callback"), ("admin.sock", "/api/v1/mail/hold")):
        request = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        answer = raw_exchange(applied.run / path, request.encode())
        if method in ("GET", "DELETE") and path == "admin.sock":
            continue  # that path is also the address of a message called "hold"
        assert status_of(answer) == 405, answer
        assert b"allow: " in answer.lower()


@pytest.mark.parametrize(
    "target",
    ["/", "/api", "/api/v1", "/api/v1/", "/api/v1/../status", "/api/v1/status/", "/api/v1/status/x", "/API/v1/status",
     "/api/v1/status.json", "/api/v1//status", "/api/v1/mail/..%2f..%2fetc", "/api/v1/mail/..;/x", "/callback",
     "/metrics/", "/api/v1/status%00", "/api/v1/status%20", "*", "/%", "/%zz", "/%c0%ae%c0%ae/"],
)  # fmt: skip
def test_paths_beside_the_table_lead_nowhere(target: str, applied: Stack) -> None:
    """Class 15: no normalising, no suffixes, no second spelling of a path."""
    answer = raw_exchange(
        applied.run / "admin.sock", f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
    )
    assert status_of(answer) in (400, 404), answer
    assert b"etc" not in answer.partition(b"\r\n\r\n")[2]


QUERIES = (
    "limit=0 limit=99999999999999999999 limit=a after=-1 limit=1&limit=2 evil=1 level=nosuch limit level=%00 after=1e3"
)


@pytest.mark.parametrize("query", [*QUERIES.split(), "a" * 5000])
def test_bad_queries_are_named(query: str, applied: Stack) -> None:
    """Class 11: duplicates, unknown names, wrong types."""
    reply = applied.call("GET", f"/api/v1/events?{query}")
    assert reply.status in (400, 422), reply


@pytest.mark.parametrize("field", ["to", "cc", "bcc", "subject", "kind", "priority", "idempotency_key"])
def test_mail_fields_cannot_become_headers_or_commands(field: str, applied: Stack) -> None:
    """Classes 4 and 5: line breaks in any field that goes into a header or an SMTP command."""
    for value in ["x\r\nBcc: v@evil.example", "x\nRCPT TO:<v@evil.example>", "x\r.\r\nMAIL FROM:<>", "a\0b", "\u2028"]:
        mail = {"to": OPERATOR, "subject": "s", "text": "t", field: value}
        assert applied.call("POST", "/api/v1/mail", mail).status == 422, (field, value)


@pytest.mark.parametrize(
    "to",
    [
        "",
        [],
        "nobody",
        "@x.example",
        "a@",
        "a b@x.example",
        "a@x..example",
        "a@b@c",
        "<>",
        ["ok@x.example", ""],
        7,
        None,
    ],
)
def test_impossible_recipients_are_refused(to: Any, applied: Stack) -> None:
    """Class 5: what is no address is not queued, and one bad address refuses the whole message."""
    assert applied.call("POST", "/api/v1/mail", {"to": to, "subject": "s", "text": "t"}).status == 422


CALLBACK_PARAMS: dict[str, Any] = {
    "none": {},
    "empty-state": {"state": "", "code": "c"},
    "no-code": {"state": "s" * 43},
    "both": {"state": "s" * 43, "code": "c", "error": "e"},
    "unknown-state": {"state": "s" * 43, "code": "c"},
    "long-code": {"state": "s" * 43, "code": "c" * 20_000},
    "crlf-code": {"state": "s" * 43, "code": "a\r\nSet-Cookie: x=1"},
    "list-state": {"state": ["a", "b"], "code": "c"},
    "number": {"state": 1, "code": "c"},
    "nul": {"state": "a\0b", "code": "c"},
    "markup": {"state": "s" * 43, "error": "<script>alert(1)</script>", "error_description": MARKUP[1]},
    "many": {f"p{number}": "x" for number in range(500)},
}


@pytest.mark.parametrize("name", CALLBACK_PARAMS)
def test_bad_redirects_are_refused_without_an_echo(name: str, applied: Stack) -> None:
    """Classes 8 to 11 on callback.sock: 4xx, no token request, nothing of the request in the answer."""
    before = applied.microsoft.token_requests()
    params = CALLBACK_PARAMS[name]
    status, answer = applied.callback(params)
    assert 400 <= status < 500
    assert answer["ok"] is False
    for value in params.values():
        if isinstance(value, str) and len(value) > 3:
            assert value not in json.dumps(answer)
    assert applied.microsoft.token_requests() == before


def test_the_callback_socket_serves_nothing_else(applied: Stack) -> None:
    """Privilege by socket: what the CGI's user can reach hands in an answer, and reads nothing."""
    client = Client(applied.run / "callback.sock")
    for method, path in (
        ("GET", "/api/v1/status"),
        ("GET", "/api/v1/settings"),
        ("POST", "/api/v1/mail"),
        ("GET", "/metrics"),
    ):
        reply = client.call(method, path, {} if method == "POST" else None)
        assert reply.status == 404
        assert "state" not in reply.document


def test_garbage_and_half_requests_leave_the_service_answering(applied: Stack) -> None:
    """Classes 13, 25, 26: random bytes, half heads, bodies that never come; then a good request, at once."""
    import random

    chance = random.Random(20260101)
    for path in ("admin.sock", "callback.sock"):
        for _ in range(60):
            answer = raw_exchange(applied.run / path, chance.randbytes(chance.randrange(1, 3000)))
            assert status_of(answer) in (0, 400, 431), answer[:100]
    stuck = []
    for path in ("admin.sock", "callback.sock"):
        for _ in range(80):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(applied.run / path))
            sock.sendall(b"POST /callback HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n")
            stuck.append(sock)
    began = time.monotonic()
    assert applied.status()["state"] == "Applied"
    assert time.monotonic() - began < 2.0
    for sock in stuck:
        sock.close()


def test_a_burst_of_calls_is_answered_or_told_to_come_back(applied: Stack) -> None:
    """Class 26: three hundred calls at once: each gets an answer, none hangs."""
    request = b"GET /api/v1/status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

    def one(_: int) -> int:
        return status_of(raw_exchange(applied.run / "admin.sock", request))

    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(one, range(300)))
    assert set(answers) <= {200, 503}
    assert answers.count(200) > 200
