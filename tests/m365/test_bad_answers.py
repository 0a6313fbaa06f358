"""A broken service, network or portal on order, as seen by `requests` and by real MSAL."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msal
import pytest
import requests

from qemu.m365 import ThreadedSimulator
from tests.m365.browser import Browser
from tests.m365.conftest import REDIRECT_URI, SCOPES
from tests.m365.test_grants import refresh, the_refresh_token


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_plain_http_errors(sim: ThreadedSimulator, signed_in: Any, status: int) -> None:
    """Any status with any body and Retry-After, once."""
    sim.order("token", "http", status=status, body="<h1>sorry</h1>", retry_after=7)
    answer = refresh(sim, the_refresh_token(sim))
    assert (answer.status_code, answer.text, answer.headers["retry-after"]) == (status, "<h1>sorry</h1>", "7")
    assert refresh(sim, the_refresh_token(sim)).status_code == 200


def test_msal_loses_the_body_of_a_5xx(sim: ThreadedSimulator, signed_in: Any) -> None:
    """Real MSAL raises for a 503, as it does for Microsoft's."""
    sim.order("token", "http", status=503)
    app, _ = signed_in
    with pytest.raises(msal.exceptions.MsalServiceError):
        app.acquire_token_silent(SCOPES, app.get_accounts()[0], force_refresh=True)


def test_hang_lasts_until_the_client_goes(sim: ThreadedSimulator) -> None:
    """Nothing comes, and the server is free again for the next request."""
    sim.order("discovery", "hang")
    url = f"{sim.endpoints.idp}/{sim.endpoints.tenant_id}/v2.0/.well-known/openid-configuration"
    with pytest.raises(requests.ReadTimeout):
        requests.get(url, verify=sim.endpoints.ca_file, timeout=0.3)
    assert requests.get(url, verify=sim.endpoints.ca_file, timeout=5).ok


@pytest.mark.parametrize("what", ["reset", "refuse"])
def test_connection_reset(sim: ThreadedSimulator, signed_in: Any, what: str) -> None:
    """`reset` breaks in the midst of an answer that had its effect, `refuse` before any."""
    before = len(sim.world.directory.refresh_tokens)
    token = the_refresh_token(sim)
    sim.order("token", what)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        refresh(sim, token)
    assert len(sim.world.directory.refresh_tokens) == before + (what == "reset")
    assert refresh(sim, token).status_code == 200


def test_slow_drip_and_latency(sim: ThreadedSimulator, signed_in: Any) -> None:
    """The answer is whole in the end."""
    sim.order("token", "drip", bytes=500, pause=0.02)
    assert refresh(sim, the_refresh_token(sim)).json()["token_type"] == "Bearer"
    sim.order("token", "latency", seconds=0.2)
    answer = refresh(sim, the_refresh_token(sim))
    assert answer.elapsed.total_seconds() >= 0.2


def test_captive_portal_and_redirect(sim: ThreadedSimulator, signed_in: Any) -> None:
    """HTML with status 200, or a redirect to somewhere else."""
    sim.order("token", "captive-portal")
    answer = refresh(sim, the_refresh_token(sim))
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, "text/html")
    sim.order("discovery", "redirect", location="http://portal.invalid/login")
    url = f"{sim.endpoints.idp}/{sim.endpoints.tenant_id}/v2.0/.well-known/openid-configuration"
    answer = requests.get(url, verify=sim.endpoints.ca_file, timeout=5, allow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (302, "http://portal.invalid/login")


def test_spoilt_json(sim: ThreadedSimulator, signed_in: Any) -> None:
    """Truncated, huge, wrong type, wrong charset, duplicate keys."""
    token = the_refresh_token(sim)
    sim.order("token", "truncated")
    with pytest.raises(json.JSONDecodeError):
        json.loads(refresh(sim, token).text)
    sim.order("token", "huge")
    huge = refresh(sim, token)
    assert len(huge.content) > 1 << 20
    assert "access_token" in huge.json()
    sim.order("token", "content-type", value="image/png")
    assert refresh(sim, token).headers["content-type"] == "image/png"
    sim.order("token", "charset", value="utf-16")
    assert refresh(sim, token).content.decode("utf-16").startswith("{")
    sim.order("token", "duplicate-keys", members={"expires_in": 1})
    assert refresh(sim, token).text.count('"expires_in"') == 2


@pytest.mark.parametrize("value", ["soon", "3600", -5, 0, 1e12, None, [], True])
def test_expires_in_of_any_kind(sim: ThreadedSimulator, signed_in: Any, value: Any) -> None:
    """The lifetime can be anything JSON knows."""
    sim.order("token", "expires-in", value=value)
    assert refresh(sim, the_refresh_token(sim)).json()["expires_in"] == value


def test_members_left_out_or_changed(sim: ThreadedSimulator, signed_in: Any) -> None:
    """No refresh token, no scope, short scope, any member."""
    token = the_refresh_token(sim)
    sim.order("token", "no-refresh-token")
    assert "refresh_token" not in refresh(sim, token).json()
    sim.order("token", "no-scope")
    assert "scope" not in refresh(sim, token).json()
    sim.order("token", "short-scope")
    assert refresh(sim, token).json()["scope"] == "SMTP.Send"
    sim.order("token", "members", set={"token_type": "mac"}, drop=["access_token"])
    answer = refresh(sim, token).json()
    assert answer["token_type"] == "mac"
    assert "access_token" not in answer
    sim.order("token", "refresh-in", value=120)
    assert refresh(sim, token).json()["refresh_in"] == 120


@pytest.mark.parametrize(
    ("claims", "raises"), [({"nonce": "other"}, True), ({"aud": "other"}, False), ({"tid": "other"}, False)]
)
def test_wrong_id_token(
    sim: ThreadedSimulator, new_app: Callable[..., Any], browser: Browser, claims: dict[str, str], raises: bool
) -> None:
    """A wrong nonce stops MSAL; a wrong audience or tenant does not, which the client itself must notice."""
    sim.order("token", "id-token", claims=claims)
    app = new_app()
    flow = app.initiate_auth_code_flow(SCOPES, redirect_uri=REDIRECT_URI, response_mode="form_post")
    params = browser.sign_in(flow["auth_uri"]).params
    if raises:
        with pytest.raises(RuntimeError):
            app.acquire_token_by_auth_code_flow(flow, params)
    else:
        answer = app.acquire_token_by_auth_code_flow(flow, params)
        assert claims.items() <= answer["id_token_claims"].items()


def test_order_for_one_grant_type_spares_the_others(
    sim: ThreadedSimulator, new_app: Callable[..., Any], browser: Browser
) -> None:
    """A failing refresh does not touch the redemption of a code; `skip` lets the first refresh pass."""
    sim.order("token", "aadsts", code=50173, grant_type="refresh_token", skip=1)
    app = new_app()
    flow = app.initiate_auth_code_flow(SCOPES, redirect_uri=REDIRECT_URI, response_mode="form_post")
    assert "access_token" in app.acquire_token_by_auth_code_flow(flow, browser.sign_in(flow["auth_uri"]).params)
    assert refresh(sim, the_refresh_token(sim)).status_code == 200
    assert refresh(sim, the_refresh_token(sim)).json()["error_codes"] == [50173]


@pytest.mark.parametrize("kind", ["expired", "future", "wrong-name", "untrusted"])
def test_bad_certificates_of_the_identity_provider(sim: ThreadedSimulator, kind: str) -> None:
    """A verifying client refuses each; afterwards all is well."""
    url = f"{sim.endpoints.idp}/{sim.endpoints.tenant_id}/discovery/v2.0/keys"
    sim.order("tls", kind, part="idp")
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(url, verify=sim.endpoints.ca_file, timeout=5)
    assert requests.get(url, verify=sim.endpoints.ca_file, timeout=5).json()["keys"]


def test_redirect_parameters_can_be_spoilt(
    sim: ThreadedSimulator, new_app: Callable[..., Any], browser: Browser
) -> None:
    """State forged, code left out: what a client must refuse."""
    sim.order("authorize", "members", at="end", set={"state": "forged"}, drop=["code"])
    flow = new_app().initiate_auth_code_flow(SCOPES, redirect_uri=REDIRECT_URI, response_mode="form_post")
    params = browser.sign_in(flow["auth_uri"]).params
    assert params["state"] == "forged"
    assert "code" not in params
