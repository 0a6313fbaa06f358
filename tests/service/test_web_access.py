"""Calls that come through the web server: who may, from where, and how often a wrong password is listened to.

The web server marks what it forwards with X-Notifyd-Via; these tests speak to admin.sock as it does.
"""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from notifyd.api.access import FREE_ATTEMPTS, MAX_SESSIONS, Gatekeeper, Sessions
from notifyd.api.routing import Access, Answer, Call, Operation
from notifyd.api.table import TABLE
from notifyd.api.wire import ApiProblem, Request, Response
from notifyd.core.secret import Secret
from notifyd.ctl.client import Reply
from tests.support.stack import Microsoft, Stack, running_stack

HOST = "192.168.1.1"
OWN = {"Host": HOST, "X-Notifyd-Via": "lighttpd", "X-Forwarded-For": "192.168.1.33"}
PAGE = {**OWN, "Sec-Fetch-Site": "same-origin", "Origin": f"https://{HOST}"}
PASSWORD = "a-long-and-good-password"


@pytest.fixture(scope="module")
def gateway(shared_microsoft: Microsoft, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """notifyd with one administrator."""
    with running_stack(tmp_path_factory.mktemp("web"), shared_microsoft) as stack:
        subprocess.run(
            [sys.executable, "-m", "notifyd.passwd", "admin"], input=PASSWORD, text=True, env=stack.env, check=True
        )
        yield stack


def web(stack: Stack, method: str, path: str, body: Any = None, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return stack.call(method, path, body, headers={**PAGE, **named})


@pytest.fixture(scope="module")
def cookie(gateway: Stack) -> str:
    """The cookie of a fresh session."""
    reply = web(gateway, "POST", "/api/v1/session", {"user": "admin", "password": PASSWORD})
    assert reply.status == 200, reply
    assert reply.document == {"user": "admin"}
    return reply.headers["set-cookie"].partition(";")[0]


@pytest.mark.parametrize(
    "operation", [each for each in TABLE if each.access is Access.SESSION], ids=lambda each: each.name
)
def test_nothing_is_read_or_changed_without_a_login(operation: Operation, gateway: Stack) -> None:
    """Every call of the table but the login: 401, and not a word of what was asked for."""
    path = operation.path.replace("{id}", "abc")
    body = {} if operation.body is not None else None
    reply = web(gateway, operation.method, path, body)
    assert reply.status == 401
    assert reply.document["type"] == "urn:notifyd:problem:login-required"
    assert "www-authenticate" in reply.headers


def test_a_session_opens_what_it_should(gateway: Stack, cookie: str) -> None:
    """The cookie is host-bound, secure, unreadable for scripts and never sent from another site."""
    assert cookie.startswith("__Host-notifyd=")
    assert len(cookie.partition("=")[2]) >= 43
    assert web(gateway, "GET", "/api/v1/status", Cookie=cookie).status == 200
    assert web(gateway, "GET", "/api/v1/session", Cookie=cookie).document == {"user": "admin"}
    reply = web(gateway, "POST", "/api/v1/session", {"user": "admin", "password": PASSWORD})
    flags = {part.strip().lower() for part in reply.headers["set-cookie"].split(";")[1:]}
    assert {"secure", "httponly", "samesite=strict", "path=/"} <= flags


def test_logging_out_ends_the_session_at_the_server(gateway: Stack) -> None:
    """A copied cookie is worth nothing after the log-out."""
    reply = web(gateway, "POST", "/api/v1/session", {"user": "admin", "password": PASSWORD})
    cookie = reply.headers["set-cookie"].partition(";")[0]
    gone = web(gateway, "DELETE", "/api/v1/session", Cookie=cookie)
    assert gone.status == 204
    assert "max-age=0" in gone.headers["set-cookie"].lower()
    assert web(gateway, "GET", "/api/v1/status", Cookie=cookie).status == 401


@pytest.mark.parametrize(
    "forged",
    ["__Host-notifyd=", "__Host-notifyd=../../x", "__Host-notifyd=" + "A" * 43, "__Host-notifyd=" + "A" * 4000,
     "__Host-notifyd=a; __Host-notifyd=b", "username=admin", "__host-notifyd=x", "__Host-notifyd=%00"],
)  # fmt: skip
def test_forged_cookies_open_nothing(forged: str, gateway: Stack) -> None:
    """Paths, fixed values, duplicates, oversize."""
    assert web(gateway, "GET", "/api/v1/status", Cookie=forged).status == 401


def test_a_second_cookie_beside_the_good_one_is_refused(gateway: Stack, cookie: str) -> None:
    """Two session cookies mean that somebody planted one: neither counts."""
    assert web(gateway, "GET", "/api/v1/status", Cookie=f"{cookie}; __Host-notifyd=other").status == 401


FOREIGN: dict[str, dict[str, str]] = {
    "cross-site": {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    "same-site": {"Sec-Fetch-Site": "same-site", "Origin": f"https://www.{HOST}"},
    "origin-only": {"Sec-Fetch-Site": "", "Origin": "https://evil.example"},
    "null-origin": {"Sec-Fetch-Site": "", "Origin": "null"},
    "http-origin": {"Sec-Fetch-Site": "", "Origin": f"http://{HOST}"},
    "other-port": {"Sec-Fetch-Site": "", "Origin": f"https://{HOST}:444"},
    "neither": {"Sec-Fetch-Site": "", "Origin": ""},
    "user-typed": {"Sec-Fetch-Site": "none"},
}


CHANGES = (
    ("PUT", "/api/v1/settings"),
    ("POST", "/api/v1/token/authorize"),
    ("POST", "/api/v1/mail/hold"),
    ("DELETE", "/api/v1/token"),
    ("POST", "/api/v1/session"),
)


@pytest.mark.parametrize("name", FOREIGN)
def test_changes_asked_for_by_another_site_are_refused(name: str, gateway: Stack, cookie: str) -> None:
    """CSRF: even with the administrator's cookie, every changing call must come from our own page."""
    headers = {key: value for key, value in {**PAGE, **FOREIGN[name], "Cookie": cookie}.items() if value}
    for method, path in CHANGES:
        assert gateway.call(method, path, {}, headers=headers).status == 403, path
    assert gateway.status()["queue"]["paused"] is False


def test_a_program_may_use_a_basic_login(gateway: Stack) -> None:
    """Prometheus and scripts: no cookie, no Origin, a Basic login that PAM checks; a wrong one gets a challenge."""
    good = "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
    assert gateway.call("GET", "/metrics", headers={**OWN, "Authorization": good}).status == 200
    assert gateway.call("POST", "/api/v1/mail/release", headers={**OWN, "Authorization": good}).status == 200
    assert gateway.call("GET", "/metrics", headers=OWN).headers["www-authenticate"].startswith("Basic ")
    for bad in ("Basic !!!", "Basic " + base64.b64encode(b"no-colon").decode(), "Bearer x", "Basic"):
        assert gateway.call("GET", "/metrics", headers={**OWN, "Authorization": bad}).status == 401


def test_a_wrong_password_is_refused_slowly_and_recorded(gateway: Stack) -> None:
    """401 in the same words for a wrong name and a wrong password, and an event with the address it came from."""
    said = set()
    for user in ("admin", "nobody-of-this-name"):
        headers = {**PAGE, "X-Forwarded-For": "192.168.1.77"}
        reply = gateway.call("POST", "/api/v1/session", {"user": user, "password": "wrong-password"}, headers=headers)
        assert reply.status == 401
        said.add(reply.document["detail"])
    assert len(said) == 1
    failed = [record for record in gateway.events() if record["event"] == "auth.login_failed"]
    assert failed[-1]["fields"]["remote"] == "192.168.1.77"
    assert "wrong-password" not in json.dumps(failed)


# ---- the gatekeeper alone: bounds and clocks -------------------------------------------------------------------------


@dataclass
class Said:
    ok: bool
    locked: bool = False
    message: str = ""


async def _unused(call: Call) -> Response:
    raise AssertionError("never called")


READ = Operation("GET", "/x", "x", "x", _unused, "x", {200: Answer("x")})


def test_sessions_end_by_idleness_by_age_and_by_number() -> None:
    """30 minutes idle, 12 hours in all, and never more than the bound."""
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    first = sessions.begin("admin")
    now[0] += 29 * 60
    assert sessions.find(first) is not None
    now[0] += 31 * 60
    assert sessions.find(first) is None
    worker = sessions.begin("admin")
    for _ in range(12 * 3):
        now[0] += 20 * 60
        alive = sessions.find(worker) is not None
    now[0] += 60
    assert alive
    assert sessions.find(worker) is None
    ids = [sessions.begin("admin") for _ in range(MAX_SESSIONS + 5)]
    assert sum(sessions.find(each) is not None for each in ids) == MAX_SESSIONS
    assert len(set(ids)) == len(ids)


async def test_a_source_of_wrong_logins_has_to_wait_ever_longer() -> None:
    """After a few wrong ones PAM is not even asked; another address is not affected; success forgives."""
    now, asked = [0.0], [0]

    async def check(user: str, password: Secret, remote: str) -> Said:
        asked[0] += 1
        return Said(password.reveal() == "right")

    gatekeeper = Gatekeeper(check, lambda *_: None, lambda: now[0])

    async def attempt(password: str, remote: str = "10.0.0.1") -> int:
        try:
            await gatekeeper.log_in("admin", Secret(password), remote)
        except ApiProblem as problem:
            return problem.status
        return 200

    assert [await attempt("wrong") for _ in range(FREE_ATTEMPTS)] == [401] * FREE_ATTEMPTS
    assert [await attempt("right") for _ in range(50)] == [429] * 50
    assert asked[0] == FREE_ATTEMPTS
    assert await attempt("right", "10.0.0.2") == 200
    now[0] += 6
    assert await attempt("wrong") == 401
    now[0] += 6
    assert await attempt("right") == 429
    now[0] += 6
    assert await attempt("right") == 200
    assert [await attempt("wrong") for _ in range(FREE_ATTEMPTS)] == [401] * FREE_ATTEMPTS


async def test_a_checked_basic_login_is_remembered_for_a_minute() -> None:
    """A scraper does not cost a PAM conversation each time; a changed password counts after a minute."""
    now, asked = [0.0], [0]

    async def check(user: str, password: Secret, remote: str) -> Said:
        asked[0] += 1
        return Said(ok=True)

    gatekeeper = Gatekeeper(check, lambda *_: None, lambda: now[0])
    request = Request("GET", "/x", "", {"x-notifyd-via": "l", "authorization": "Basic YTpi"})
    for _ in range(5):
        assert (await gatekeeper.caller(READ, request)).user == "a"
    assert asked[0] == 1
    now[0] += 61
    await gatekeeper.caller(READ, request)
    assert asked[0] == 2


async def test_pam_is_asked_by_few_at_once() -> None:
    """A flood of logins from many addresses waits in line instead of starting a process each."""
    running, most = [0], [0]

    async def check(user: str, password: Secret, remote: str) -> Said:
        running[0] += 1
        most[0] = max(most[0], running[0])
        await asyncio.sleep(0.01)
        running[0] -= 1
        return Said(ok=True)

    gatekeeper = Gatekeeper(check, lambda *_: None, time.monotonic)
    await asyncio.gather(*(gatekeeper.log_in("admin", Secret("x"), f"10.0.0.{number}") for number in range(20)))
    assert most[0] <= 2
