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
