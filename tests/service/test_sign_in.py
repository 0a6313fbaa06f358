"""Get New Token, end to end: the service as a process and the simulated Microsoft 365, the callback socket between."""

from __future__ import annotations

import concurrent.futures
import json
import subprocess
import sys
import time
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests.support.stack import HTTPS_PORT, OPERATOR, REDIRECT_URI, REPOSITORY, SENDER, Stack

CGI = REPOSITORY / "firmware" / "cgi-bin" / "msoauth2.cgi"


ELSEWHERE = "https://192.0.2.1/cgi-bin/msoauth2.cgi"


def through_the_cgi(stack: Stack, params: dict[str, str]) -> str:
    """Microsoft's form_post as the web server hands it to the real CGI; the page that the tab shows."""
    form = urlencode(params).encode()
    environment = {
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": "application/x-www-form-urlencoded",
        "CONTENT_LENGTH": str(len(form)),
        "SERVER_ADDR": "127.0.0.1",
        "SERVER_PORT": str(HTTPS_PORT),
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": f"127.0.0.1:{HTTPS_PORT}",
        "HTTPS": "on",
        "NOTIFYD_RUN": str(stack.run),
    }
    done = subprocess.run(
        [sys.executable, "-IS", str(CGI)], input=form, env=environment, capture_output=True, timeout=60
    )
    return done.stdout.decode()


def test_the_administrators_path_ends_with_a_mail_in_the_mailbox(stack: Stack) -> None:
    """Apply, Get New Token, sign-in, the real CGI, Valid, test mail: every part real, and the log tells of it."""
    assert stack.status()["state"] == "Unconfigured"
    stack.apply()
    assert stack.status()["state"] == "Applied"
    visit = stack.visit()
    assert stack.status()["state"] == "Pending"
    page = through_the_cgi(stack, visit.params)
    assert page.startswith("Status: 200")
    assert "window.close" in page
    status = stack.status()
    assert (status["state"], status["can_send"], status["account"]) == ("Valid", True, SENDER)
    assert status["problem"] is None
    assert status["access_expires_at"] > time.time() + 3000
    mail = stack.wait_mail(stack.send_test(), "sent", "failed")
    assert mail["state"] == "sent"
    assert mail["outcome"]["reply"].startswith("250 2.0.0 OK")
    assert mail["outcome"]["per_recipient"][0]["state"] == "delivered"
    arrived = stack.microsoft.mail()
    assert [message["to"] for message in arrived] == [OPERATOR]
    names = stack.event_names()
    assert [name for name in names if name != "signin.cancelled"] == [
        "service.started",
        "settings.applied",
        "signin.started",
        "token.retrieved",
        "token.accepted",
        "mail.sent",
    ]


def test_the_authorize_address_asks_for_what_the_mail_needs(stack: Stack) -> None:
    """The full scope of Exchange (a bare SMTP.Send would be Graph's), PKCE, form_post, a chooser, a 128-bit state."""
    stack.apply()
    query = {name: values[0] for name, values in parse_qs(urlsplit(stack.authorize()).query).items()}
    assert "https://outlook.office.com/SMTP.Send" in query["scope"].split()
    assert "offline_access" in query["scope"].split()
    assert query["response_mode"] == "form_post"
    assert query["code_challenge_method"] == "S256"
    assert query["prompt"] == "select_account"
    assert query["login_hint"] == SENDER
    assert query["redirect_uri"] == REDIRECT_URI
    assert len(query["state"]) >= 22


def test_get_new_token_before_apply_is_refused_in_clear_words(stack: Stack) -> None:
    """409, and the text says what to do first."""
    reply = stack.call("POST", "/api/v1/token/authorize", {})
    assert reply.status == 409
    assert "Apply" in reply.document["detail"]
    stack.apply(auth="none", client_id=None, client_secret=None, tenant_id=None)
    assert stack.call("POST", "/api/v1/token/authorize", {}).status == 409


# name: (what the token endpoint is ordered to do, its parameters, how the code of the answer begins)
REFUSED_AT_REDEMPTION: dict[str, tuple[str, dict[str, Any], str]] = {
    "code-replayed": ("aadsts", {"code": 54005}, "AADSTS54005"),
    "secret-wrong": ("aadsts", {"code": 7000215}, "AADSTS7000215"),
    "secret-expired": ("aadsts", {"code": 7000222}, "AADSTS7000222"),
    "app-unknown": ("aadsts", {"code": 700016}, "AADSTS700016"),
    "conditional-access": ("aadsts", {"code": 53003}, "AADSTS53003"),
    "no-refresh-token": ("no-refresh-token", {}, "signin.no-refresh-token"),
    "no-smtp-scope": ("members", {"set": {"scope": "openid profile email"}}, "signin.no-smtp-scope"),
    "server-error": ("http", {"status": 503}, "http.503"),
    "throttled": ("http", {"status": 429, "retry_after": 30}, "http.429"),
    "captive-portal": ("captive-portal", {}, "network."),
    "reset-in-answer": ("reset", {}, "network."),
    "refused": ("refuse", {}, "network."),
    "truncated": ("truncated", {}, "network."),
    "wrong-nonce": ("id-token", {"claims": {"nonce": "0"}}, ""),
    "wrong-audience": ("id-token", {"claims": {"aud": "someone-else"}}, ""),
    "wrong-tenant": ("id-token", {"claims": {"tid": "99999999-2222-4333-8444-555555555555"}}, ""),
}


@pytest.mark.parametrize("name", REFUSED_AT_REDEMPTION)
def test_a_refused_redemption_says_why_and_leaves_no_grant(name: str, applied: Stack) -> None:
    """The tab gets the code and what to do, the state falls back to Applied, and the log has the failure."""
    what, parameters, code = REFUSED_AT_REDEMPTION[name]
    stack = applied
    stack.microsoft.tidy()
    before = stack.events()[-1]["id"]
    visit = stack.visit()
    stack.microsoft.order("token", what, None, **parameters)
    status, answer = stack.callback(visit.params)
    assert answer["ok"] is False
    assert status in (422, 503)
    assert answer["code"].startswith(code), answer
    assert answer["title"]
    assert answer["remedy"]
    assert stack.status()["state"] == "Applied"
    assert "signin.failed" in [record["event"] for record in stack.events(after=before)]


def test_a_failed_sign_in_does_not_cost_the_grant_that_is_held(ready: Stack) -> None:
    """Get New Token while Valid: when it fails the old grant is as good as before, and mail still flows."""
    stack = ready
    for name in ("secret-wrong", "reset-in-answer", "conditional-access"):
        what, parameters, _ = REFUSED_AT_REDEMPTION[name]
        visit = stack.visit()
        assert stack.status()["state"] == "Pending"
        assert stack.status()["can_send"] is True
        stack.microsoft.order("token", what, 1, **parameters)
        _, answer = stack.callback(visit.params)
        assert answer["ok"] is False
        status = stack.status()
        assert (status["state"], status["can_send"]) == ("Valid", True)
    assert stack.wait_mail(stack.send_test(), "sent", "failed")["state"] == "sent"


def test_a_declined_consent_is_told_as_such(stack: Stack) -> None:
    """access_denied on the redirect: no token request at all, and the tab says that consent was declined."""
    stack.microsoft.reset()  # an earlier consent would be remembered
    stack.apply()
    before = stack.microsoft.token_requests()
    visit = stack.visit(consent="cancel")
    assert visit.params["error"] == "access_denied"
    status, answer = stack.callback(visit.params)
    assert (status, answer["ok"]) == (422, False)
    assert "consent" in (answer["title"] + answer["detail"]).lower()
    assert stack.microsoft.token_requests() == before
    assert stack.status()["state"] == "Applied"


def test_a_wrong_secret_and_its_correction_need_no_second_look_at_the_form(stack: Stack) -> None:
    """The usual mistake: a mistyped secret is found at the sign-in; with the right one applied the next one works."""
    stack.apply(client_secret="Sim8Q~this-is-not-the-secret-of-the-app_9999")
    _, answer = stack.sign_in()
    assert answer["code"] == "AADSTS7000215"
    stack.apply()
    assert stack.sign_in()[1]["ok"] is True


def test_an_unknown_tenant_is_named_before_a_browser_opens(stack: Stack) -> None:
    """The discovery of a tenant that does not exist fails in Get New Token itself, with the AADSTS code."""
    stack.apply(tenant_id="99999999-2222-4333-8444-555555555555")
    reply = stack.call("POST", "/api/v1/token/authorize", {})
    assert reply.status == 422
    assert reply.document["problem"]["code"].startswith("AADSTS9000")
    assert stack.status()["state"] == "Applied"


def test_a_redirect_that_is_not_registered_stays_at_microsoft(stack: Stack) -> None:
    """AADSTS50011 never comes back: the sign-in stays open, harmless, until its deadline."""
    stack.apply()
    stack.microsoft.control("POST", f"/apps/{stack.microsoft.ends['client_id']}/redirect-uris", {"set": [ELSEWHERE]})
    visit = stack.visit()
    stack.microsoft.reset()
    assert visit.code == 50011
    status = stack.status()
    assert (status["state"], status["pending"]) == ("Pending", 1)


def test_another_account_is_allowed_with_a_warning(stack: Stack) -> None:
    """Shared mailboxes are legitimate: a token of another account is kept when Exchange lets it in, and said so."""
    stack.apply()
    _, answer = stack.sign_in(account="admin@contoso.example")
    assert answer["ok"] is True
    status = stack.status()
    assert (status["state"], status["account"]) == ("Valid", "admin@contoso.example")
    assert "token.account_differs" in stack.event_names()


FORGED = ["", "short", "A" * 43, "../../etc/passwd", "a;id", "\u202e", "x" * 16_000, "%s%n", "{0.__class__}"]


def test_a_forged_state_changes_nothing(stack: Stack) -> None:
    """No token request, no change of state, a 4xx answer without an echo; the true answer still works afterwards."""
    stack.apply()
    visit = stack.visit()
    before = stack.microsoft.token_requests()
    for state in FORGED:
        status, answer = stack.callback({**visit.params, "state": state})
        assert 400 <= status < 500
        assert answer["ok"] is False
        assert not state or state not in json.dumps(answer)
    assert stack.microsoft.token_requests() == before
    assert stack.status()["pending"] == 1
    assert stack.callback(visit.params)[1]["ok"] is True


def test_a_replayed_answer_changes_nothing(stack: Stack) -> None:
    """The same redirect twice: the second one is refused without asking Microsoft, and the grant stays."""
    stack.apply()
    visit = stack.visit()
    assert stack.callback(visit.params)[1]["ok"] is True
    before = stack.microsoft.token_requests()
    status, answer = stack.callback(visit.params)
    assert (status, answer["code"]) == (403, "signin.used")
    assert stack.microsoft.token_requests() == before
    assert stack.status()["state"] == "Valid"


def test_code_and_error_together_are_refused_and_do_not_use_the_sign_in_up(stack: Stack) -> None:
    """Malformed answers cost nothing: the true one still works afterwards."""
    stack.apply()
    visit = stack.visit()
    for params in ({**visit.params, "error": "x"}, {"state": visit.params["state"]}):
        status, answer = stack.callback(params)
        assert (status, answer["ok"]) == (400, False)
    assert stack.callback(visit.params)[1]["ok"] is True


def test_of_two_tabs_the_first_wins_and_ends_the_other(stack: Stack) -> None:
    """Any open sign-in may complete; the first success cancels the rest."""
    stack.apply()
    first, second = stack.visit(), stack.visit()
    assert stack.status()["pending"] == 2
    assert stack.callback(second.params)[1]["ok"] is True
    assert stack.status()["pending"] == 0
    before = stack.microsoft.token_requests()
    status, answer = stack.callback(first.params)
    assert (status, answer["ok"]) == (403, False)
    assert stack.microsoft.token_requests() == before


def test_two_tabs_answered_at_the_same_time_end_with_one_grant(stack: Stack) -> None:
    """Both answers arrive at once: one tab is told of success, the other that it is over, and the state is Valid."""
    stack.apply()
    visits = [stack.visit(), stack.visit()]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda visit: stack.callback(visit.params)[1], visits))
    assert True in [answer["ok"] for answer in answers]
    assert stack.status()["state"] == "Valid"
    assert stack.status()["pending"] == 0


def test_a_hung_login_host_holds_nothing_else_up(stack: Stack) -> None:
    """While Microsoft does not answer the code, the page's calls answer at once, and the sign-in ends well later."""
    stack.apply()
    visit = stack.visit()
    stack.microsoft.order("token", "hang", 1, seconds=4)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        tab = pool.submit(stack.callback, visit.params)
        stack.wait(stack.microsoft.token_requests, lambda count: count >= 1, "the token request")
        slowest = 0.0
        while not tab.done():
            began = time.monotonic()
            assert stack.status()["state"] == "Pending"
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.1)
        answer = tab.result()[1]
    assert slowest < 1.0
    assert answer["ok"] is False or stack.status()["state"] == "Valid"


def test_a_changed_identity_ends_open_sign_ins(stack: Stack) -> None:
    """A sign-in that was begun for other settings must not become their grant."""
    stack.apply()
    visit = stack.visit()
    stack.apply(sender="alerts@contoso.example")
    status, answer = stack.callback(visit.params)
    assert (status, answer["ok"]) == (403, False)
    assert stack.status()["state"] == "Applied"
