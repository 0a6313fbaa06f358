"""Certificates made on the device, and the application's own permission (SMTP.SendAsApp)."""

from __future__ import annotations

import json
import smtplib
import ssl
from base64 import b64decode
from typing import Any

import pytest
from cryptography import x509

from notifyd.core.events import Failure
from qemu.m365.simulator import ThreadedSimulator
from tests.adapters.entra.conftest import SENDER, Device, set_workers_clock


def _app(sim: ThreadedSimulator, device: Device) -> Any:
    return sim.world.directory.apps[device.settings.client_id]


def _made(device: Device) -> dict[str, Any]:
    made = device.ok("make_certificate", name="gateway.lan", days=730)
    device.secrets = b64decode(made["sealed"])
    return made


def test_private_key_never_leaves_the_seal(device: Device) -> None:
    """What comes back is a certificate to upload; the key is only inside the sealed blob."""
    made = _made(device)
    assert "PRIVATE" not in json.dumps(made)
    certificate = x509.load_pem_x509_certificate(made["certificate"].encode())
    assert certificate.subject.rfc4514_string() == "CN=gateway.lan"
    assert certificate.not_valid_after_utc.timestamp() == made["not_after"]
    assert len(made["thumbprint"]) == 40


def test_certificate_made_before_the_clock_is_set_is_not_dated_1970(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate that ended in 1972 would be refused for ever."""
    set_workers_clock(monkeypatch, 0.0)
    assert _made(device)["not_after"] > 1_800_000_000


def test_certificate_replaces_the_secret(sim: ThreadedSimulator, device: Device, signed_in: dict[str, Any]) -> None:
    """With the certificate uploaded and the secret deleted in Entra, renewals go on without a sign-in."""
    app, sealed = _app(sim, device), b64decode(signed_in["sealed"])
    app.certificates.append(_made(device)["certificate"])
    app.secrets.clear()
    renewed = device.refresh(sealed)
    assert isinstance(renewed, dict), renewed


def test_credential_that_works_is_remembered(sim: ThreadedSimulator, device: Device, signed_in: dict[str, Any]) -> None:
    """After the first renewal with the certificate the dead secret is not tried any more."""
    app, sealed = _app(sim, device), b64decode(signed_in["sealed"])
    app.certificates.append(_made(device)["certificate"])
    app.secrets.clear()
    first = device.refresh(sealed)
    assert isinstance(first, dict)
    before = sim.world.log.counts["token"]
    assert isinstance(device.refresh(b64decode(first["sealed"])), dict)
    assert sim.world.log.counts["token"] == before + 1


def test_rollover_works_before_and_after_the_new_certificate_is_uploaded(
    sim: ThreadedSimulator, device: Device, signed_in: dict[str, Any]
) -> None:
    """Two certificates at once: the old one serves until Entra knows the new one, which serves from then on."""
    app, sealed = _app(sim, device), b64decode(signed_in["sealed"])
    app.secrets.clear()
    app.certificates.append(_made(device)["certificate"])
    held = device.refresh(sealed)
    assert isinstance(held, dict)
    new = _made(device)
    held = device.refresh(b64decode(held["sealed"]))
    assert isinstance(held, dict), "the old certificate still serves"
    app.certificates[:] = [new["certificate"]]
    held = device.refresh(b64decode(held["sealed"]))
    assert isinstance(held, dict), "the new certificate serves alone"
    assert device.grant(held["sealed"]).credential == new["thumbprint"]


def test_third_certificate_drops_the_oldest(device: Device) -> None:
    """There are never more than two keys."""
    first, second, third = (_made(device)["thumbprint"] for _ in range(3))
    tried = device.perform("begin", redirect_uri="https://x/", login_hint="", claims="", only=first)
    assert isinstance(tried, Failure)
    for kept in (second, third):
        assert isinstance(device.perform("begin", redirect_uri="https://x/", login_hint="", claims="", only=kept), dict)


def test_unknown_certificate_is_named(sim: ThreadedSimulator, device: Device, signed_in: dict[str, Any]) -> None:
    """A certificate that was not uploaded is invalid_client with its number."""
    _app(sim, device).secrets.clear()
    made = _made(device)
    failure = device.refresh(b64decode(signed_in["sealed"]), only=made["thumbprint"])
    assert isinstance(failure, Failure)
    assert (failure.error, failure.codes) == ("invalid_client", (700027,))


def _log_in(sim: ThreadedSimulator, token: str) -> int:
    context = ssl.create_default_context(cafile=sim.endpoints.ca_file)
    with smtplib.SMTP(*sim.endpoints.smtp, timeout=10) as client:
        client.starttls(context=context)
        client.ehlo()
        initial = f"user={SENDER}\x01auth=Bearer {token}\x01\x01"
        try:
            return client.auth("XOAUTH2", lambda challenge=None: initial if challenge is None else "")[0]
        except smtplib.SMTPAuthenticationError as refused:
            return refused.smtp_code


def test_application_permission_needs_no_sign_in(sim: ThreadedSimulator, device: Device) -> None:
    """SMTP.SendAsApp: client credentials give a token without a refresh token, and Exchange lets it in."""
    app = _app(sim, device)
    app.app_roles.add("SMTP.SendAsApp")
    app.send_as_app.add(SENDER)
    result = device.ok("app_token", mailbox=SENDER)
    assert result["account"] == SENDER
    assert result["has_refresh_token"] is False
    assert result["scopes"] == ["https://outlook.office365.com/.default"]
    assert device.grant(result["sealed"]).access_token == result["access_token"]
    assert _log_in(sim, result["access_token"]) == 235


def test_application_without_rights_to_the_mailbox_is_refused_by_exchange(
    sim: ThreadedSimulator, device: Device
) -> None:
    """The permission in Entra is half of it: the service principal needs the mailbox in Exchange, too."""
    _app(sim, device).app_roles.add("SMTP.SendAsApp")
    assert _log_in(sim, device.ok("app_token", mailbox=SENDER)["access_token"]) == 535


def test_application_without_the_permission_is_refused_by_exchange(sim: ThreadedSimulator, device: Device) -> None:
    """Entra issues the token all the same; only the log-in at the mail server tells."""
    _app(sim, device).app_roles.clear()
    assert _log_in(sim, device.ok("app_token", mailbox=SENDER)["access_token"]) == 535


def test_application_token_with_a_certificate(sim: ThreadedSimulator, device: Device) -> None:
    """No secret at all: a certificate and the application permission."""
    app = _app(sim, device)
    app.certificates.append(_made(device)["certificate"])
    app.secrets.clear()
    assert device.ok("app_token", mailbox=SENDER)["access_token"]


def test_application_token_refusal_is_named(sim: ThreadedSimulator, device: Device) -> None:
    """A wrong secret is Microsoft's error with its number."""
    device.secrets = device.seal(client_secret="wrong")
    failure = device.refused("app_token", mailbox=SENDER)
    assert (failure.error, failure.codes) == ("invalid_client", (7000215,))
