"""The token endpoint: codes, client credentials, refresh tokens and what ends them."""

from __future__ import annotations

import base64
import datetime
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from qemu.m365 import ThreadedSimulator
from qemu.m365.directory import Secret
from tests.m365.browser import Browser
from tests.m365.conftest import REDIRECT_URI, SCOPES
from tests.m365.smtp_client import connection, log_in

DAY = 86400.0


def post(
    sim: ThreadedSimulator, tenant: str = "", http: requests.Session | None = None, **form: str
) -> requests.Response:
    """A token request by hand, on a connection of its own unless a session is given."""
    ends = sim.endpoints
    url = f"{ends.idp}/{tenant or ends.tenant_id}/oauth2/v2.0/token"
    fields = {"client_id": ends.client_id, "client_secret": ends.client_secret, **form}
    send = requests.post if http is None else http.post
    return send(url, {k: v for k, v in fields.items() if v}, verify=ends.ca_file, timeout=10)


def refresh(sim: ThreadedSimulator, token: str, http: requests.Session | None = None, **form: str) -> requests.Response:
    """Redeem a refresh token by hand."""
    return post(sim, http=http, **{"grant_type": "refresh_token", "refresh_token": token, "scope": SCOPES[0], **form})


def number(response: requests.Response) -> int:
    """The AADSTS number of an error answer, 0 for a good one."""
    return int(response.json().get("error_codes", [0])[0])


def the_refresh_token(sim: ThreadedSimulator) -> str:
    """The newest refresh token issued."""
    return list(sim.world.directory.refresh_tokens)[-1]


@pytest.fixture
def code(browser: Browser, sim: ThreadedSimulator) -> dict[str, str]:
    """A fresh authorization code as the form that redeems it."""
    verifier = "v" * 64
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    ends = sim.endpoints
    query = {
        "client_id": ends.client_id,
        "response_type": "code",
        "redirect_uri": REDIRECT_URI,
        "scope": f"{SCOPES[0]} offline_access openid profile",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    url = requests.Request("GET", f"{ends.idp}/{ends.tenant_id}/oauth2/v2.0/authorize", params=query).prepare().url
    assert url is not None
    value = browser.sign_in(url).params["code"]
    return {"grant_type": "authorization_code", "code": value, "redirect_uri": REDIRECT_URI, "code_verifier": verifier}


def test_code_is_good_once(sim: ThreadedSimulator, code: dict[str, str]) -> None:
    """The second redemption of a code is invalid_grant 54005."""
    assert post(sim, **code).status_code == 200
    again = post(sim, **code)
    assert (again.status_code, again.json()["error"], number(again)) == (400, "invalid_grant", 54005)


def test_code_lives_ten_minutes(sim: ThreadedSimulator, code: dict[str, str]) -> None:
    """After ten minutes a code is 70008."""
    sim.world.clock.advance(601)
    assert number(post(sim, **code)) == 70008


def test_code_is_bound_to_verifier_redirect_and_client(sim: ThreadedSimulator, code: dict[str, str]) -> None:
    """PKCE mismatch 501481, other redirect URI 70004, unknown code 70000; the code itself survives them."""
    assert number(post(sim, **{**code, "code_verifier": "w" * 64})) == 501481
    assert number(post(sim, **{**code, "redirect_uri": REDIRECT_URI + "x"})) == 70004
    assert number(post(sim, **{**code, "code": "1.Aunknown"})) == 70000
    assert post(sim, **code).status_code == 200


def test_error_body_is_entras(sim: ThreadedSimulator) -> None:
    """All members are there, and the description carries number, ids and time on lines of their own."""
    correlation = "0a1b2c3d-0000-4000-8000-000000000001"
    ends = sim.endpoints
    url = f"{ends.idp}/{ends.tenant_id}/oauth2/v2.0/token"
    form = {"client_id": ends.client_id, "client_secret": "wrong", "grant_type": "refresh_token"}
    answer = requests.post(url, form, headers={"client-request-id": correlation}, verify=ends.ca_file, timeout=10)
    body = answer.json()
    assert answer.status_code == 401
    assert body["error"] == "invalid_client"
    assert body["error_codes"] == [7000215]
    assert body["correlation_id"] == correlation
    assert body["error_uri"].endswith("/error?code=7000215")
    first, trace, corr, stamp = body["error_description"].split("\r\n")
    assert first.startswith("AADSTS7000215: Invalid client secret provided.")
    assert trace == f"Trace ID: {body['trace_id']}"
    assert corr == f"Correlation ID: {correlation}"
    assert stamp == f"Timestamp: {body['timestamp']}"


@pytest.mark.parametrize(
    ("form", "tenant", "code"),
    [
        ({"client_secret": ""}, "", 7000218),
        ({"client_secret": "0f0e0d0c-0b0a-4909-8807-060504030201"}, "", 7000215),
        ({"client_id": "00000000-0000-4000-8000-000000000000"}, "", 700016),
        ({"client_id": ""}, "", 900144),
        ({"grant_type": ""}, "", 900144),
        ({"grant_type": "password"}, "", 70003),
        ({"refresh_token": ""}, "", 900144),
        ({"refresh_token": "0.Anone"}, "", 70000),
        ({"scope": "https://nowhere.example/X"}, "", 500011),
        ({"scope": f"{SCOPES[0]} https://graph.microsoft.com/User.Read"}, "", 700022),
        ({"scope": "https://outlook.office.com/IMAP.AccessAsUser.All"}, "", 65001),
        ({}, "99999999-2222-4333-8444-555555555555", 90002),
    ],
)
def test_wrong_requests_have_their_numbers(
    sim: ThreadedSimulator, signed_in: Any, form: dict[str, str], tenant: str, code: int
) -> None:
    """Each mistake of a refresh request is answered with the number Entra gives it."""
    fields = {"grant_type": "refresh_token", "refresh_token": the_refresh_token(sim), "scope": SCOPES[0], **form}
    assert number(post(sim, tenant, **fields)) == code


def test_get_at_the_token_endpoint_is_900561(sim: ThreadedSimulator) -> None:
    """The wrong verb has its own number."""
    url = f"{sim.endpoints.idp}/{sim.endpoints.tenant_id}/oauth2/v2.0/token"
    assert number(requests.get(url, verify=sim.endpoints.ca_file, timeout=10)) == 900561


def test_several_secrets_are_valid_until_each_expires(sim: ThreadedSimulator, signed_in: Any) -> None:
    """Rotation of secrets: both work side by side; the expired one answers 7000222, and the refresh token lives on."""
    app = next(iter(sim.world.directory.apps.values()))
    app.secrets.append(Secret("Second~secret", sim.world.clock.now() + 400 * DAY))
    token = the_refresh_token(sim)
    assert refresh(sim, token, client_secret="Second~secret").status_code == 200
    app.secrets[0].expires_at = sim.world.clock.now() - 1
    expired = refresh(sim, token)
    assert (expired.status_code, number(expired)) == (401, 7000222)
    assert refresh(sim, token, client_secret="Second~secret").status_code == 200


def test_secret_in_basic_header_is_form_decoded(sim: ThreadedSimulator, signed_in: Any) -> None:
    """RFC 6749 §2.3.1: id and secret are form-encoded before base64."""
    app, ends = next(iter(sim.world.directory.apps.values())), sim.endpoints
    app.secrets.append(Secret("a+b%c &", sim.world.clock.now() + DAY))
    basic = base64.b64encode(f"{ends.client_id}:a%2Bb%25c%20%26".encode()).decode()
    url = f"{ends.idp}/{ends.tenant_id}/oauth2/v2.0/token"
    form = {"grant_type": "refresh_token", "refresh_token": the_refresh_token(sim)}
    headers = {"Authorization": f"Basic {basic}"}
    assert requests.post(url, form, headers=headers, verify=ends.ca_file, timeout=10).status_code == 200


def test_refresh_token_rotates_and_the_old_one_stays_valid(sim: ThreadedSimulator, signed_in: Any) -> None:
    """As at Microsoft: each use returns a new token, and the old one still works."""
    first = the_refresh_token(sim)
    second = refresh(sim, first).json()["refresh_token"]
    assert second != first
    assert second[:3] in ("0.A", "1.A")
    assert refresh(sim, first).status_code == 200
    sim.world.directory.policy.one_time_refresh = True
    assert refresh(sim, second).status_code == 200
    assert number(refresh(sim, second)) == 70000


def test_refresh_token_may_have_sixteen_kibibytes(sim: ThreadedSimulator, signed_in: Any) -> None:
    """Clients must not assume a length."""
    sim.world.directory.policy.refresh_token_bytes = 16384
    long = refresh(sim, the_refresh_token(sim)).json()["refresh_token"]
    assert len(long) == 16384
    assert refresh(sim, long).status_code == 200


def test_inactivity_of_ninety_days_ends_the_grant(sim: ThreadedSimulator, signed_in: Any) -> None:
    """Used every 89 days it lives; left alone for 91 it is 700082."""
    token = the_refresh_token(sim)
    for _ in range(3):
        sim.world.clock.advance(89 * DAY)
        app = next(iter(sim.world.directory.apps.values()))
        app.secrets[0].expires_at = sim.world.clock.now() + 200 * DAY
        token = refresh(sim, token).json()["refresh_token"]
    sim.world.clock.advance(91 * DAY)
    assert number(refresh(sim, token)) == 700082


def test_what_ends_or_blocks_a_grant(sim: ThreadedSimulator, signed_in: Any) -> None:
    """Each event of the tenant is answered with its number, and lifting it lets the same token work again."""
    token, directory = the_refresh_token(sim), sim.world.directory
    user = directory.users["gateway@contoso.example"]
    user.enabled = False
    assert number(refresh(sim, token)) == 50057
    user.enabled = True
    directory.policy.block = 53003
    blocked = refresh(sim, token).json()
    assert (blocked["error"], blocked["suberror"]) == ("invalid_grant", "message_only")
    assert "polids" in blocked["claims"]
    directory.policy.block = 0
    directory.policy.sign_in_frequency = 3600
    sim.world.clock.advance(3700)
    assert number(refresh(sim, token)) == 70043
    directory.policy.sign_in_frequency = None
    assert refresh(sim, token).status_code == 200
    next(iter(directory.apps.values())).consents.clear()
    revoked = refresh(sim, token).json()
    assert (revoked["error_codes"], revoked["suberror"]) == ([65001], "consent_required")


def test_password_change_keeps_and_revocation_ends_the_grant(sim: ThreadedSimulator, signed_in: Any) -> None:
    """A confidential client's token survives a changed password; `revoke` (50173) ends it."""
    token, user = the_refresh_token(sim), sim.world.directory.users["gateway@contoso.example"]
    user.password = "other"
    assert refresh(sim, token).status_code == 200
    assert sim.world.directory.revoke(user) >= 1
    ended = refresh(sim, token).json()
    assert (ended["error_codes"], ended["suberror"]) == ([50173], "bad_token")


def test_single_page_app_token_ends_after_a_day(sim: ThreadedSimulator, new_app: Any, browser: Browser) -> None:
    """A redirect URI registered as SPA gives refresh tokens of 24 hours: 700084."""
    next(iter(sim.world.directory.apps.values())).platform = "spa"
    app = new_app()
    flow = app.initiate_auth_code_flow(SCOPES, redirect_uri=REDIRECT_URI, response_mode="form_post")
    assert "access_token" in app.acquire_token_by_auth_code_flow(flow, browser.sign_in(flow["auth_uri"]).params)
    sim.world.clock.advance(DAY + 60)
    assert number(refresh(sim, the_refresh_token(sim))) == 700084


def test_loop_of_identical_requests_is_50196(sim: ThreadedSimulator, signed_in: Any) -> None:
    """The fifteenth identical request within five minutes is stopped as a loop, and time heals it."""
    sim.world.directory.policy.loop_detection = True
    token = the_refresh_token(sim)
    assert [number(refresh(sim, token)) for _ in range(15)] == [0] * 14 + [50196]
    sim.world.clock.advance(301)
    assert refresh(sim, token).status_code == 200


def _certificate() -> tuple[str, str]:
    """A self-signed certificate and its key, both PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=30))
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    plain = serialization.NoEncryption()
    return pem, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


@pytest.mark.parametrize("form", ["PS256", "RS256"])
def test_certificate_credential_works_with_msal(
    sim: ThreadedSimulator, new_app: Callable[..., Any], signed_in: Any, form: str
) -> None:
    """MSAL's assertions (x5t#S256 and the older x5t) are accepted once the certificate is registered, 700027 before."""
    pem, key = _certificate()
    thumbprint = x509.load_pem_x509_certificate(pem.encode()).fingerprint(hashes.SHA1()).hex()
    forms = {
        "PS256": {"private_key": key, "public_certificate": pem},
        "RS256": {"private_key": key, "thumbprint": thumbprint},
    }
    app = new_app(forms[form])
    refused = app.acquire_token_by_refresh_token(the_refresh_token(sim), SCOPES)
    assert refused["error_codes"] == [700027]
    next(iter(sim.world.directory.apps.values())).certificates.append(pem)
    app = new_app(forms[form])
    assert "access_token" in app.acquire_token_by_refresh_token(the_refresh_token(sim), SCOPES)


def test_assertion_outside_its_time_is_700024(
    sim: ThreadedSimulator, new_app: Callable[..., Any], signed_in: Any
) -> None:
    """A gateway whose clock is an hour behind hears 700024."""
    pem, key = _certificate()
    next(iter(sim.world.directory.apps.values())).certificates.append(pem)
    sim.world.clock.advance(3600)
    app = new_app({"private_key": key, "public_certificate": pem})
    assert app.acquire_token_by_refresh_token(the_refresh_token(sim), SCOPES)["error_codes"] == [700024]


def test_application_permission_sends_without_a_sign_in(sim: ThreadedSimulator, new_app: Callable[..., Any]) -> None:
    """SMTP.SendAsApp: client credentials give a token that opens the mailboxes granted to the service principal."""
    registration = next(iter(sim.world.directory.apps.values()))
    scope = ["https://outlook.office365.com/.default"]
    with connection(sim.endpoints) as client:
        without = new_app().acquire_token_for_client(scope)["access_token"]
        assert log_in(client, without)[0] == 535
        registration.app_roles = {"SMTP.SendAsApp"}
        registration.send_as_app = {"gateway@contoso.example"}
        assert log_in(client, new_app().acquire_token_for_client(scope)["access_token"])[0] == 235
    answer = new_app().acquire_token_for_client(scope)
    assert "refresh_token" not in answer
