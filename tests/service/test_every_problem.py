"""Every row of the problem tables that Microsoft 365 can cause, from the simulated service to the words on the page.

The rows are ordered at the simulator one after another while two notifyd with their own simulators run side by side.
A renewal starts a helper process, so this is the slow part: one renewal for each row, not for each number (that every
number finds its row is shown without processes in tests/core).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from notifyd.core import problems
from notifyd.core.problem_table import Row, entra, network, own, smtp
from tests.support.stack import SENDER, Stack, running_microsoft, running_stack

ACCESS_SECONDS = 60
"""So short a token lets notifyd ask 120 times an hour instead of 12."""

PATIENCE_S = 400
"""Half a minute when nothing else runs; more than a hundred processes are started."""

ROWS = {row.code: row for row in problems.all_rows()}


@dataclass(frozen=True)
class Case:
    """A row, the code that the page shows for it, and what the simulator is ordered to do."""

    row: Row
    code: str
    target: str
    what: str
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Signin:
    """An order for the redemption of the code, if any, and who signs in."""

    target: str = ""
    what: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    account: str = SENDER
    has_mailbox: bool = True


def _numbered() -> Iterator[Case]:
    for row in entra.ROWS:
        number = entra.numbers(row)[0]
        yield Case(row, f"AADSTS{number}", "token", "aadsts", {"code": number})


def _oauth_answer(row: Row, status: int, error: str, **members: str) -> Case:
    body = json.dumps({"error": error, "error_description": "No number here.", **members})
    parameters = {"status": status, "body": body, "content_type": "application/json"}
    return Case(row, f"oauth.{error}", "token", "http", parameters)


def _oauth() -> Iterator[Case]:
    """Errors without a number; an error that nobody knows behaves and reads as its class."""
    classes = {
        "oauth.transient": (503, "strange_busy", {}),
        "oauth.sign-in": (400, "strange_step", {"suberror": "basic_action"}),
        "oauth.client": (401, "strange_client", {}),
        "oauth.config": (400, "strange_request", {}),
    }
    for row in entra.ERRORS:
        status, error, members = classes.get(row.code, (400, row.code.removeprefix("oauth."), {}))
        yield _oauth_answer(row, status, error, **members)


def _network() -> Iterator[Case]:
    for code, target, what in (
        ("network.malformed", "token", "captive-portal"),
        ("network.network", "token", "refuse"),
        ("tls.tls", "tls", "untrusted"),
        ("clock.wrong", "tls", "expired"),
    ):
        yield Case(ROWS[code], code, target, what, {"part": "idp"} if target == "tls" else {})


RENEWALS = (*_numbered(), *_oauth(), *_network())

# What the mail server says, as any server would at the login: the words depend on the reply alone.
REPLIES: dict[str, str] = {
    "smtp.535": "535 Login refused",
    "smtp.530": "530 Must issue a STARTTLS command first",
    "smtp.504": "504 5.5.4 Unrecognized authentication type",
    "smtp.421": "421 Too busy, closing",
    "smtp.4yz": "450 4.2.0 Greylisted",
    "smtp.auth-5yz": "550 5.5.0 No",
    "smtp.unexpected": "299 What is this",
}
NAMED_REPLIES: dict[str, str] = {
    "smtp.535-5.7.139-tenant": "tenant-off",
    "smtp.535-5.7.139-mailbox": "mailbox-off",
    "smtp.535-5.7.139-security-defaults": "security-defaults",
    "smtp.535-5.7.139-basic": "basic-off",
    "smtp.535-5.7.139": "criteria",
    "smtp.535-5.7.3": "auth-failed",
    "smtp.550-5.7.30": "basic-retired",
    "smtp.530-5.7.57": "not-authenticated",
    "smtp.454-4.7.0": "auth-temporary",
    "smtp.421-4.7.66": "old-tls",
    "smtp.421-4.3.2": "not-active",
    "smtp.421-4.4.2": "dropped",
    "smtp.432-4.3.2": "connections",
    "smtp.451-4.7.500": "server-busy",
    "smtp.451-4.7.850": "suspicious",
    "smtp.452-4.5.3": "too-many-recipients",
    "smtp.550-5.7.705": "tenant-threshold",
    "smtp.550-5.7.708": "bad-ip",
    "smtp.550-5.7.750": "unregistered",
    "smtp.550-5.2.251": "throttled-full",
    "smtp.550-5.2.252": "throttled-send-as",
    "smtp.550-5.2.253": "throttled-licence",
    "smtp.550-5.2.254": "throttled-recipients",
    "smtp.550-5.2.255": "throttled-invalid",
    "smtp.554-5.2.252": "send-as-denied",
    "smtp.550-5.7.60": "no-permission",
    "smtp.554-5.2.0-quota": "quota",
    "smtp.554-5.2.2": "mailbox-full",
    "smtp.552-5.3.4": "too-large",
    "smtp.550-5.1.8": "bad-outbound",
    "smtp.550-5.1.1": "unknown-recipient",
    "smtp.550-5.4.1": "recipient-denied",
}
# name of the row: how the way to the mail server fails
WAYS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "network.reset": ("smtp", "reset", {"stage": "auth"}),
    "tls.name": ("tls", "wrong-name", {"part": "smtp"}),
    "tls.starttls-missing": ("smtp", "strip-starttls", {}),
}
# These two read so only behind the login: a message is needed.
BY_MESSAGE: dict[str, str] = {"smtp.5.7": "550 5.7.1 Policy", "smtp.5yz": "550 5.6.0 No"}
SIGNINS: dict[str, Signin] = {
    "signin.wrong-audience": Signin("token", "id-token", {"claims": {"aud": "another-app"}}),
    "signin.wrong-issuer": Signin("token", "id-token", {"claims": {"iss": "https://sts.invalid/x/v2.0"}}),
    "signin.wrong-tenant": Signin("token", "id-token", {"claims": {"tid": "99999999-2222-4333-8444-555555555555"}}),
    "signin.token-time": Signin("token", "id-token", {"claims": {"exp": 1_000_000_000}}),
    "signin.unknown-state": Signin("token", "id-token", {"claims": {"nonce": "of another sign-in"}}),
    "signin.no-account": Signin("token", "members", {"drop": ["id_token"]}),
    "signin.no-refresh-token": Signin("token", "no-refresh-token"),
    "signin.no-smtp-scope": Signin("token", "members", {"set": {"scope": "openid profile"}}),
    "signin.guest-account": Signin(account="guest@fabrikam.example"),
    "signin.other-account": Signin(account="admin@contoso.example", has_mailbox=False),
}
NOT_ORDERED: dict[str, str] = {
    "a wait of a minute or of ten": "network.timeout signin.timed-out",
    "names and ports that do not exist": "network.dns network.refused tls.version",
    "this device": "store.write-failed store.no-grant store.unreadable store.no-secret worker.failed",
    "the settings": "settings.not-applied settings.secret-missing secret.expiring secret.expired",
    "a state on the way": "token.none token.expired token.unproved",
    "other tabs, and what the callback refuses by itself": "signin.superseded signin.no-code signin.consent-declined",
    "an authority for several tenants": "signin.personal-account",
}
"""Rows that no answer of Microsoft causes, by what does; other tests meet them."""


def test_every_row_is_walked_or_is_not_microsofts() -> None:
    """A row added to the tables must be added here, or it is named as one that Microsoft does not cause."""
    walked = (
        {case.row.code for case in RENEWALS}
        | set(REPLIES)
        | set(NAMED_REPLIES)
        | set(WAYS)
        | set(BY_MESSAGE)
        | set(SIGNINS)
    )
    excused = {code for codes in NOT_ORDERED.values() for code in codes.split()}
    assert walked | excused == set(ROWS)
    assert not walked & excused
    assert len(smtp.ROWS) == len(REPLIES) + len(NAMED_REPLIES) + len(BY_MESSAGE)
    assert {row.code for row in (*own.ROWS, *network.ROWS)} <= walked | excused


def _words(problem: dict[str, Any] | None) -> tuple[str, str, str]:
    return (problem["code"], problem["title"], problem["remedy"]) if problem else ("", "", "")


def _walk_renewals(stack: Stack, cases: tuple[Case, ...]) -> list[str]:
    """Orders each case for the next renewal and compares the status; what differs comes back."""
    wrong = []
    for case in cases:
        stack.microsoft.order(case.target, case.what, None, **case.parameters)
        reply = stack.call("POST", "/api/v1/token/refresh", {"force": True})
        stack.microsoft.withdraw_orders()
        seen = _words(reply.document["problem"])
        if seen != (case.code, case.row.title, case.row.remedy):
            wrong.append(f"{case.row.code}: {seen}")
    return wrong


def _walk_replies(stack: Stack) -> list[str]:
    """Each reply to the login check that Refresh Token Status makes while mail is held."""
    wrong = []
    stack.call("POST", "/api/v1/token/refresh", {"force": True})
    stack.wait_status(lambda status: status["can_send"] and status["problem"] is None, "a clean start")
    stack.microsoft.order("smtp", "tenant-off", 1)
    held = stack.send_test()
    stack.wait_status(lambda status: status["problem"] is not None, "the first refusal")
    orders = {code: ("smtp", "reply", {"stage": "auth", "text": text}) for code, text in REPLIES.items()}
    orders |= {code: ("smtp", name, {"stage": "auth"}) for code, name in NAMED_REPLIES.items()}
    for code, (target, what, parameters) in (orders | WAYS).items():
        stack.microsoft.order(target, what, None, **parameters)
        reply = stack.call("POST", "/api/v1/token/refresh", {})
        stack.microsoft.withdraw_orders()
        seen, row = reply.document["problem"], ROWS[code]
        # A reply without a row of its own keeps its own code and has the words of its first digit.
        named = code in smtp.SPECIFIC or code in WAYS
        if _words(seen)[1:] != (row.title, row.remedy) or (named and seen["code"] != code):
            wrong.append(f"{code}: {_words(seen)}")
    stack.call("POST", "/api/v1/token/refresh", {})
    stack.wait_mail(held, "sent")
    return wrong


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Stack]]:
    """Two notifyd, Valid, each with a simulator of its own, so that orders do not meet the other's requests."""

    def start(home: Path, stack: ExitStack) -> Stack:
        (home / "m365").mkdir(parents=True)
        microsoft = stack.enter_context(running_microsoft(home / "m365"))
        microsoft.control("PATCH", "/policy", {"access_seconds": ACCESS_SECONDS})
        started = stack.enter_context(running_stack(home / "gateway", microsoft))
        started.become_valid()
        return started

    with ExitStack() as first, ExitStack() as second, ThreadPoolExecutor(2) as pool:
        home = tmp_path_factory.mktemp("pair")
        one, two = (pool.submit(start, home / name, stack) for name, stack in (("1", first), ("2", second)))
        yield one.result(), two.result()


def _both(one: Callable[[], list[str]], two: Callable[[], list[str]]) -> list[str]:
    with ThreadPoolExecutor(2) as pool:
        return [line for future in (pool.submit(one), pool.submit(two)) for line in future.result()]


@pytest.mark.timeout(PATIENCE_S)
def test_every_answer_of_entra_reads_as_its_row(pair: tuple[Stack, Stack]) -> None:
    """AADSTS rows, OAuth errors and broken answers: code, title and remedy in the status after one renewal."""
    one, two = pair
    wrong = _both(lambda: _walk_renewals(one, RENEWALS[0::2]), lambda: _walk_renewals(two, RENEWALS[1::2]))
    assert not wrong, "\n".join(wrong)


def _walk_messages(stack: Stack) -> list[str]:
    """Replies that read so only behind the login: the test mail's own page tells them."""
    wrong = []
    for code, text in BY_MESSAGE.items():
        stack.microsoft.order("smtp", "reply", None, stage="message", text=text)
        mail = stack.wait_mail(stack.send_test(), "failed")
        stack.microsoft.withdraw_orders()
        told = next(e for e in reversed(stack.events()) if e["event"] == "mail.failed")
        row = ROWS[code]
        if mail["outcome"]["reply"] != text or row.title not in json.dumps(told, ensure_ascii=False):
            wrong.append(f"{code}: {mail['outcome']} {told}")
    return wrong


def _walk_signins(stack: Stack) -> list[str]:
    """The tab's own words after each sign-in that must not count."""
    wrong = []
    for code, signin in SIGNINS.items():
        stack.microsoft.reset()
        if signin.what:
            stack.microsoft.order(signin.target, signin.what, None, **signin.parameters)
        stack.microsoft.control("PATCH", f"/users/{signin.account}", {"has_mailbox": signin.has_mailbox})
        _, answer = stack.sign_in(account=signin.account)
        # Signed in with a warning: the status has the words, the tab only points to them.
        seen, row = _words(stack.status()["problem"] if answer["ok"] else answer), ROWS[code]
        if seen != (code, row.title, row.remedy):
            wrong.append(f"{code}: {seen}")
    return wrong


@pytest.mark.timeout(PATIENCE_S)
def test_every_reply_and_every_refused_sign_in_reads_as_its_row(pair: tuple[Stack, Stack]) -> None:
    """Replies of the mail server in the status or the mail's record, refused sign-ins in the tab."""
    one, two = pair
    wrong = _both(lambda: _walk_replies(one) + _walk_messages(one), lambda: _walk_signins(two))
    assert not wrong, "\n".join(wrong)
