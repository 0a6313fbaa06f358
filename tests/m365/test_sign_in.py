"""The simulated sign-in with real MSAL: what goes back to the application and what stays on the page."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from qemu.m365 import ThreadedSimulator
from tests.m365.browser import Browser
from tests.m365.conftest import REDIRECT_URI, SCOPES
from tests.m365.smtp_client import connection, log_in


@pytest.mark.filterwarnings("ignore:response_mode='form_post' is recommended")
@pytest.mark.parametrize("mode", ["form_post", "query", "fragment"])
def test_whole_code_flow_gives_msal_a_grant_that_renews(
    sim: ThreadedSimulator, new_app: Callable[..., Any], browser: Browser, mode: str
) -> None:
    """Sign-in, consent, code, tokens, and a forced renewal with a new refresh token work in every response mode."""
    app = new_app()
    flow = app.initiate_auth_code_flow(SCOPES, redirect_uri=REDIRECT_URI, response_mode=mode, prompt="select_account")
    visit = browser.sign_in(flow["auth_uri"])
    assert browser.steps == ["account", "password", "consent"]
    assert {"code", "state", "session_state", "client_info"} <= set(visit.params)
    answer = app.acquire_token_by_auth_code_flow(flow, visit.params)
    assert answer["id_token_claims"]["preferred_username"] == "gateway@contoso.example"
    assert answer["scope"] == SCOPES[0]
    assert 3600 <= answer["expires_in"] <= 5400
    account = app.get_accounts()[0]
    renewed = app.acquire_token_silent(SCOPES, account, force_refresh=True)
    assert renewed["access_token"] != answer["access_token"]
    assert len(sim.world.directory.refresh_tokens) == 2


def test_token_of_the_flow_opens_the_mailbox_over_smtp(
    sim: ThreadedSimulator, signed_in: tuple[Any, dict[str, Any]]
) -> None:
    """The access token that MSAL got logs in with XOAUTH2 over STARTTLS, and a message arrives in the mailbox."""
    token = signed_in[1]["access_token"]
    context = ssl.create_default_context(cafile=sim.endpoints.ca_file)
    with smtplib.SMTP(*sim.endpoints.smtp, timeout=10) as client:
        client.starttls(context=context)
        client.ehlo()
        initial = f"user=gateway@contoso.example\x01auth=Bearer {token}\x01\x01"
        assert client.auth("XOAUTH2", lambda challenge=None: initial)[0] == 235
        text = "From: gateway@contoso.example\r\nTo: a@example.org\r\nSubject: Hello\r\n\r\nBody\r\n"
        client.sendmail("gateway@contoso.example", ["a@example.org"], text)
    assert [m.parsed()["Subject"] for m in sim.world.mail.arrived] == ["Hello"]


def _begin(app: Any, **options: Any) -> dict[str, Any]:
    usual = {"redirect_uri": REDIRECT_URI, "response_mode": "form_post"}
    flow: dict[str, Any] = app.initiate_auth_code_flow(SCOPES, **{**usual, **options})
    return flow


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("client_id=66666666", "client_id=00000000"), 700016),
        (("/11111111-2222-4333-8444-555555555555/", "/22222222-2222-4333-8444-555555555555/"), 90002),
        (("/11111111-2222-4333-8444-555555555555/", "/common/"), 50194),
        (("msoauth2.cgi", "MSoauth2.cgi"), 50011),
        (("%3A8443", "%3A8444"), 50011),
        (("code_challenge=", "code_challenge=short&x="), 501491),
        (("response_mode=form_post", "response_mode=web_message"), 70007),
        (("redirect_uri=", "nothing="), 900971),
        (("state=", "pad=" + "x" * 9000 + "&state="), 90015),
    ],
)
def test_faults_of_the_request_stay_on_the_page(
    new_app: Callable[..., Any], browser: Browser, change: tuple[str, str], code: int
) -> None:
    """What Microsoft shows on its own page never reaches the redirect URI."""
    url = _begin(new_app(), response_mode="form_post")["auth_uri"]
    assert change[0] in url
    visit = browser.sign_in(url.replace(*change))
    assert (visit.code, visit.params) == (code, {})
    assert f"AADSTS{code}: " in visit.page
    assert "Trace ID" in visit.page


@pytest.mark.parametrize(
    ("change", "error", "number"),
    [
        (("response_type=code", "response_type=token"), "unsupported_response_type", 70005),
        (("SMTP.Send", "SMTP.Nothing"), "invalid_scope", 70011),
        (("outlook.office.com", "nowhere.example"), "invalid_resource", 500011),
        (("&state=", "&prompt=none&state="), "login_required", 50058),
    ],
)
def test_faults_the_application_may_hear_go_back_with_state(
    new_app: Callable[..., Any], browser: Browser, change: tuple[str, str], error: str, number: int
) -> None:
    """The redirect carries `error`, a description that starts with the number, and the state."""
    flow = _begin(new_app(), response_mode="form_post")
    assert change[0] in flow["auth_uri"]
    params = browser.sign_in(flow["auth_uri"].replace(*change)).params
    assert params["error"] == error
    assert params["state"] == flow["state"]
    lines = params["error_description"].split("\r\n")
    assert lines[0].startswith(f"AADSTS{number}: ")
    assert [line.split(":")[0] for line in lines[1:]] == ["Trace ID", "Correlation ID", "Timestamp"]


@pytest.mark.parametrize(
    ("account", "code"),
    [("someone@northwind.example", 50020), ("person@outlook.example", 500208), ("alerts@contoso.example", 50057)],
)
def test_accounts_that_may_not_sign_in_are_told_on_the_page(
    new_app: Callable[..., Any], browser: Browser, account: str, code: int
) -> None:
    """Foreign, personal and shared accounts end at Microsoft's page."""
    visit = browser.sign_in(_begin(new_app(), prompt="select_account")["auth_uri"], account)
    assert visit.code == code


def test_disabled_and_unassigned_users_are_told_on_the_page(
    sim: ThreadedSimulator, new_app: Callable[..., Any], browser: Browser
) -> None:
    """50057 for a disabled account, 50105 for one that is not assigned to the application."""
    user, app = sim.world.directory.users["gateway@contoso.example"], next(iter(sim.world.directory.apps.values()))
    user.enabled = False
    assert browser.sign_in(_begin(new_app())["auth_uri"]).code == 50057
    user.enabled, app.assignment_required = True, True
    assert browser.sign_in(_begin(new_app())["auth_uri"]).code == 50105
    app.assigned.add(user.upn)
    assert "code" in browser.sign_in(_begin(new_app())["auth_uri"]).params


def test_wrong_password_asks_again(new_app: Callable[..., Any], browser: Browser) -> None:
    """The password page comes again with its message, and nothing goes back."""
    visit = browser.sign_in(_begin(new_app())["auth_uri"], password="wrong")
    assert visit.params == {}
    assert "Your account or password is incorrect" in visit.page


def test_declined_consent_is_access_denied(new_app: Callable[..., Any], browser: Browser) -> None:
    """Cancel on the consent page gives access_denied with AADSTS65004, which MSAL reports."""
    app = new_app()
    flow = _begin(app, response_mode="form_post")
    visit = browser.sign_in(flow["auth_uri"], consent="cancel")
    assert visit.params["error_subcode"] == "cancel"
    answer = app.acquire_token_by_auth_code_flow(flow, visit.params)
    assert answer["error"] == "access_denied"
    assert "AADSTS65004" in answer["error_description"]


def test_second_sign_in_needs_neither_password_nor_consent(new_app: Callable[..., Any], browser: Browser) -> None:
    """The browser's session and the consent are remembered; each prompt brings its page back."""
    browser.sign_in(_begin(new_app())["auth_uri"])
    for prompt, pages in (
        (None, []),
        ("select_account", ["account"]),
        ("consent", ["consent"]),
        ("login", ["account", "password"]),
    ):
        browser.steps.clear()
        assert "code" in browser.sign_in(_begin(new_app(), prompt=prompt)["auth_uri"]).params, prompt
        assert browser.steps == pages, prompt


def test_login_hint_picks_the_account(new_app: Callable[..., Any], browser: Browser) -> None:
    """With select_account the hinted account is first and focused; with login the password page comes at once."""
    hint = {"login_hint": "gateway@contoso.example"}
    page = browser.http.get(_begin(new_app(), prompt="select_account", **hint)["auth_uri"], timeout=10).text
    assert page.index('id="hintedAccount"') < page.index("admin@contoso.example")
    browser.sign_in(_begin(new_app(), prompt="login", **hint)["auth_uri"])
    assert browser.steps == ["password", "consent"]


def test_pages_cut_the_opener_off_and_are_not_framed(new_app: Callable[..., Any], browser: Browser) -> None:
    """As at Microsoft: Cross-Origin-Opener-Policy, no framing, no caching."""
    headers = browser.http.get(_begin(new_app())["auth_uri"], timeout=10).headers
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["x-frame-options"] == "DENY"
    assert "no-store" in headers["cache-control"]


def test_claims_challenge_leads_to_more_proof(
    sim: ThreadedSimulator, new_app: Callable[..., Any], browser: Browser
) -> None:
    """A grant without MFA hears Conditional Access's challenge; its claims make the next sign-in satisfy it."""
    app = new_app()
    flow = _begin(app)
    app.acquire_token_by_auth_code_flow(flow, browser.sign_in(flow["auth_uri"]).params)
    sim.world.directory.policy.block = 50076
    account = app.get_accounts()[0]
    refused = app.acquire_token_silent_with_error(SCOPES, account, force_refresh=True)
    assert refused["error"] == "interaction_required"
    assert "polids" in refused["claims"]
    again = _begin(app, claims_challenge=refused["claims"])
    browser.steps.clear()
    answer = app.acquire_token_by_auth_code_flow(again, browser.sign_in(again["auth_uri"]).params)
    assert browser.steps == ["mfa"]
    assert "access_token" in answer
    assert "access_token" in app.acquire_token_silent(SCOPES, app.get_accounts()[0], force_refresh=True)


def test_bare_scope_means_graph_and_does_not_open_smtp(
    sim: ThreadedSimulator, new_app: Callable[..., Any], browser: Browser
) -> None:
    """`SMTP.Send` without its resource gives a Graph token, which Exchange refuses: the usual mistake."""
    app = new_app()
    flow = app.initiate_auth_code_flow(["SMTP.Send"], redirect_uri=REDIRECT_URI, response_mode="form_post")
    answer = app.acquire_token_by_auth_code_flow(flow, browser.sign_in(flow["auth_uri"]).params)
    assert answer["scope"] == "https://graph.microsoft.com/SMTP.Send"
    with connection(sim.endpoints) as client:
        assert log_in(client, answer["access_token"])[0] == 535


def test_administrator_consents_for_all(sim: ThreadedSimulator, new_app: Callable[..., Any], browser: Browser) -> None:
    """When users may not consent they are told 90094; the admin-consent link opens the way for them."""
    app = next(iter(sim.world.directory.apps.values()))
    app.user_consent_allowed = False
    assert browser.sign_in(_begin(new_app())["auth_uri"]).code == 90094
    ends = sim.endpoints
    scope = "https://outlook.office.com/SMTP.Send%20offline_access%20openid%20profile"
    query = f"client_id={ends.client_id}&scope={scope}&state=s1&redirect_uri={REDIRECT_URI}"
    visit = browser.sign_in(f"{ends.idp}/{ends.tenant_id}/v2.0/adminconsent?{query}", "admin@contoso.example")
    assert visit.params["admin_consent"] == "True"
    assert visit.params["tenant"] == ends.tenant_id
    assert "code" in browser.sign_in(_begin(new_app(), prompt="select_account")["auth_uri"]).params
    assert browser.steps[-1] == "account"


def test_guest_is_named_as_guest_in_the_id_token(new_app: Callable[..., Any], browser: Browser) -> None:
    """A guest may sign in; the id_token says where he comes from."""
    app = new_app()
    flow = _begin(app, prompt="select_account")
    visit = browser.sign_in(flow["auth_uri"], "guest@fabrikam.example")
    claims = app.acquire_token_by_auth_code_flow(flow, visit.params)["id_token_claims"]
    assert claims["preferred_username"] == "guest@fabrikam.example"
    assert "99999999" in claims["idp"]
