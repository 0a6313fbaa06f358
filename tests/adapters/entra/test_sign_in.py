"""Sign-in through the worker's operations, against the simulated Microsoft 365 over real TLS."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from notifyd.core.events import FailureKind
from qemu.m365.simulator import ThreadedSimulator
from tests.adapters.entra.conftest import REDIRECT_URI, SENDER, Device, set_workers_clock
from tests.m365.browser import Browser


def test_authorize_url_asks_for_what_the_design_fixes(device: Device) -> None:
    """PKCE S256, nonce, form_post, account chooser, the sender as hint and the full scope are in the URL."""
    begun = device.begin()
    query = {name: values[0] for name, values in parse_qs(urlsplit(begun["url"]).query).items()}
    assert query["response_mode"] == "form_post"
    assert query["prompt"] == "select_account"
    assert query["login_hint"] == SENDER
    assert query["redirect_uri"] == REDIRECT_URI
    assert query["code_challenge_method"] == "S256"
    assert len(query["nonce"]) == 64
    assert query["state"] == begun["state"]
    assert len(begun["state"]) >= 32
    assert {"https://outlook.office.com/SMTP.Send", "offline_access", "openid"} <= set(query["scope"].split())
    assert json.loads(begun["flow"])["code_verifier"] not in begun["url"]


def test_claims_challenge_is_passed_on_to_the_sign_in(device: Device) -> None:
    """What Conditional Access demanded reaches the next authorize request unchanged."""
    challenge = '{"access_token":{"polids":{"essential":true,"Values":["5ce770ea-8690-4747-aa73-c5b3cd509cd4"]}}}'
    query = parse_qs(urlsplit(device.begin(claims=challenge)["url"]).query)
    assert json.loads(query["claims"][0]) == json.loads(challenge)


def test_states_do_not_repeat(device: Device) -> None:
    """Every sign-in has its own state, nonce and verifier."""
    flows = [json.loads(device.begin()["flow"]) for _ in range(5)]
    for name in ("state", "nonce", "code_verifier"):
        assert len({flow[name] for flow in flows}) == 5


def test_code_becomes_a_sealed_grant(device: Device, signed_in: dict[str, Any]) -> None:
    """The result names the account and its object; tokens are inside the seal, readable under the device's key only."""
    assert signed_in["account"] == SENDER
    assert signed_in["object_id"]
    assert signed_in["tenant_id"] == device.settings.tenant_id
    assert signed_in["scopes"] == ["https://outlook.office.com/SMTP.Send"]
    assert signed_in["has_refresh_token"] is True
    assert 3600 <= signed_in["expires_in"] <= 5400
    assert signed_in["claims"]["aud"] == device.settings.client_id
    grant = device.grant(signed_in["sealed"])
    assert grant.access_token == signed_in["access_token"]
    assert grant.refresh_token
    assert grant.refresh_token not in json.dumps(signed_in)


@pytest.mark.parametrize("mode", ["query", "form_post"])
def test_both_response_modes_are_redeemed(device: Device, browser: Browser, mode: str) -> None:
    """A redirect that comes as a query (an older bookmark, a proxy) is as good as the form."""
    begun = device.begin()
    params = browser.sign_in(begun["url"].replace("response_mode=form_post", f"response_mode={mode}")).params
    assert device.ok("redeem", flow=begun["flow"], params=params)["account"] == SENDER


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({"aud": "00000000-0000-0000-0000-000000000001"}, "id_token_aud"),
        ({"iss": "https://evil.example/v2.0"}, "id_token_iss"),
        ({"tid": "00000000-0000-0000-0000-000000000002"}, "id_token_tid"),
        ({"exp": 1000}, "id_token_exp"),
        ({"exp": None}, "id_token_exp"),
        ({"nbf": 99999999999}, "id_token_nbf"),
    ],
)
def test_id_token_that_says_anything_wrong_gives_no_grant(
    sim: ThreadedSimulator, device: Device, browser: Browser, claims: dict[str, Any], error: str
) -> None:
    """MSAL accepts all of these; the worker refuses each, and hands no token up."""
    begun = device.begin()
    params = browser.sign_in(begun["url"]).params
    sim.order("token", "id-token", claims=claims)
    failure = device.refused("redeem", flow=begun["flow"], params=params)
    assert (failure.kind, failure.error) == (FailureKind.MALFORMED, error)


def test_id_token_for_another_sign_in_gives_no_grant(device: Device, browser: Browser) -> None:
    """A nonce that is not the flow's own is refused, and MSAL's text, which quotes both, is not passed on."""
    begun = device.begin()
    params = browser.sign_in(begun["url"]).params
    flow = json.dumps({**json.loads(begun["flow"]), "nonce": "another"})
    failure = device.refused("redeem", flow=flow, params=params)
    assert failure.error == "msal_RuntimeError"
    assert "nonce" not in failure.description


def test_wrong_clock_does_not_spoil_a_sign_in(
    device: Device, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The id_token is judged by the identity provider's own time, since a gateway may boot in 1970."""
    begun = device.begin()
    params = browser.sign_in(begun["url"]).params
    set_workers_clock(monkeypatch, 4_000_000_000.0)
    assert device.ok("redeem", flow=begun["flow"], params=params)["account"] == SENDER


def test_answer_without_id_token_gives_no_grant(sim: ThreadedSimulator, device: Device, browser: Browser) -> None:
    """Without an id_token nobody knows whose mailbox it is."""
    begun = device.begin()
    params = browser.sign_in(begun["url"]).params
    sim.order("token", "members", drop=["id_token"])
    assert device.refused("redeem", flow=begun["flow"], params=params).error == "id_token_missing"


def test_answer_without_refresh_token_says_so(sim: ThreadedSimulator, device: Device, browser: Browser) -> None:
    """A missing offline_access is visible to the core, which decides."""
    begun = device.begin()
    params = browser.sign_in(begun["url"]).params
    sim.order("token", "no-refresh-token")
    assert device.ok("redeem", flow=begun["flow"], params=params)["has_refresh_token"] is False


def test_foreign_state_redeems_nothing(sim: ThreadedSimulator, device: Device, browser: Browser) -> None:
    """Parameters of another sign-in are refused without a token request, and the failure quotes no state."""
    begun, other = device.begin(), device.begin()
    params = browser.sign_in(other["url"]).params
    failure = device.refused("redeem", flow=begun["flow"], params=params)
    assert failure.kind is FailureKind.MALFORMED
    assert begun["state"] not in repr(failure)
    assert sim.world.log.counts["token"] == 0


def test_code_is_good_once(device: Device, browser: Browser) -> None:
    """A replayed code is Microsoft's error with its number."""
    begun = device.begin()
    params = browser.sign_in(begun["url"]).params
    device.ok("redeem", flow=begun["flow"], params=params)
    failure = device.refused("redeem", flow=begun["flow"], params=params)
    assert (failure.status, failure.error, failure.codes) == (400, "invalid_grant", (54005,))
    assert failure.trace_id
    assert failure.correlation_id


def test_declined_consent_keeps_microsofts_words(device: Device, browser: Browser) -> None:
    """An error on the redirect is a failure without a token request."""
    begun = device.begin()
    params = browser.sign_in(begun["url"], consent="decline").params
    failure = device.refused("redeem", flow=begun["flow"], params=params)
    assert failure.error == "access_denied"
    assert failure.codes == (65004,)
    assert failure.status is None


@pytest.mark.parametrize(
    ("secret", "code"), [("wrong-secret", 7000215), ("", 0)], ids=["wrong secret", "no secret at all"]
)
def test_wrong_secret_is_named(device: Device, browser: Browser, secret: str, code: int) -> None:
    """A wrong secret is invalid_client with its number; none at all is a fault of our own store."""
    begun = device.begin()
    params = browser.sign_in(begun["url"]).params
    device.secrets = device.seal(client_secret=secret)
    failure = device.refused("redeem", flow=begun["flow"], params=params)
    if code:
        assert (failure.status, failure.error, failure.codes) == (401, "invalid_client", (code,))
    else:
        assert (failure.kind, failure.error) == (FailureKind.STORE, "no_credential")


def test_unknown_tenant_is_named_at_the_start(device: Device) -> None:
    """Discovery's own error keeps its number, so Get New Token can say it before a browser opens."""
    device.settings = replace(device.settings, tenant_id="99999999-2222-4333-8444-555555555555")
    failure = device.refused("begin", redirect_uri=REDIRECT_URI, login_hint="", claims="")
    assert failure.codes == (90002,)


@pytest.mark.parametrize("secret", ["a+b&c=d%e", " blank inside ", "ünïcödé ✓", "\"quotes'", "a" * 200])
def test_secrets_with_any_characters_reach_entra_unchanged(
    sim: ThreadedSimulator, device: Device, browser: Browser, secret: str
) -> None:
    """Form encoding is right: a secret with + & = % or any letter is accepted as it was entered."""
    app = sim.world.directory.apps[device.settings.client_id]
    app.secrets[0].value = secret
    device.secrets = device.seal(client_secret=secret)
    begun = device.begin()
    params = browser.sign_in(begun["url"]).params
    assert device.ok("redeem", flow=begun["flow"], params=params)["account"] == SENDER
