"""What Exchange decides about a login: token or password, mailbox, switches."""

from __future__ import annotations

import json
from dataclasses import dataclass

import jwt

from qemu.m365.directory import EXCHANGE_NAMES, User
from qemu.m365.smtp_replies import BAD, BASIC_OFF, MAILBOX_OFF, OK, TENANT_OFF
from qemu.m365.world import World


@dataclass(frozen=True)
class Verdict:
    """The reply to a login; `mailbox` is set when it is good. reason is for the log and tests, never on the wire."""

    reply: str
    reason: str
    mailbox: User | None = None
    delegate: User | None = None


def parse_xoauth2(blob: bytes) -> tuple[str, str] | None:
    """Mailbox and token out of an XOAUTH2 initial response, None when it is malformed."""
    try:
        text = blob.decode("utf-8")
    except UnicodeDecodeError:
        return None
    parts = text.split("\x01")
    if len(parts) != 4 or parts[2:] != ["", ""]:
        return None
    user, auth = parts[0], parts[1]
    if not user.startswith("user=") or not auth.startswith("auth=Bearer "):
        return None
    return user.removeprefix("user="), auth.removeprefix("auth=Bearer ")


def check_token(world: World, address: str, token: str) -> Verdict:
    """Whether a token opens a mailbox: signature, audience, time, permission, then the mailbox's own rules."""
    try:
        claims = world.keys.verify(token)
    except jwt.InvalidTokenError as error:
        return Verdict(BAD, f"token: {error}")
    now, directory = world.clock.now(), world.directory
    if claims.get("aud") not in EXCHANGE_NAMES:
        return Verdict(BAD, f"audience is {claims.get('aud')}")
    if not float(claims.get("nbf", 0)) - 300 <= now < float(claims.get("exp", 0)):
        return Verdict(BAD, "token is outside its time")
    if claims.get("tid") != directory.tenant_id:
        return Verdict(BAD, "token of another tenant")
    mailbox = directory.mailbox(address)
    if mailbox is None:
        return Verdict(BAD, "no such mailbox")
    if "scp" in claims:
        return _delegated(world, mailbox, str(claims["scp"]), str(claims.get("oid", "")))
    return _application(world, mailbox, claims.get("roles", []), str(claims.get("appid", "")))


def _delegated(world: World, mailbox: User, scopes: str, object_id: str) -> Verdict:
    if "SMTP.Send" not in scopes.split():
        return Verdict(BAD, "scope SMTP.Send is missing")
    person = next((u for u in world.directory.users.values() if u.object_id == object_id), None)
    if person is None or not person.enabled:
        return Verdict(BAD, "the token's user is gone or disabled")
    if person is not mailbox and mailbox.upn.lower() not in {a.lower() for a in person.send_as}:
        return Verdict(BAD, "the token's user has no right to that mailbox")
    return _switches(world, mailbox, person)


def _application(world: World, mailbox: User, roles: list[str], client_id: str) -> Verdict:
    app = world.directory.apps.get(client_id)
    if app is None or "SMTP.SendAsApp" not in roles:
        return Verdict(BAD, "role SMTP.SendAsApp is missing")
    if mailbox.upn.lower() not in {a.lower() for a in app.send_as_app}:
        return Verdict(BAD, "the service principal has no permission to that mailbox")
    return _switches(world, mailbox, mailbox)


def _switches(world: World, mailbox: User, delegate: User) -> Verdict:
    if mailbox.smtp_auth is False:
        return Verdict(MAILBOX_OFF, "SMTP AUTH is off for the mailbox")
    if mailbox.smtp_auth is None and world.directory.policy.smtp_auth_disabled:
        return Verdict(TENANT_OFF, "SMTP AUTH is off for the tenant")
    return Verdict(OK, "good", mailbox, delegate)


def check_password(world: World, address: str, password: str) -> Verdict:
    """A password login; refused as Microsoft 365 does unless the tenant's policy allows basic authentication."""
    if not world.directory.policy.basic_auth:
        return Verdict(BASIC_OFF, "basic authentication is disabled")
    mailbox = world.directory.mailbox(address)
    if mailbox is None or mailbox.password != password or not mailbox.enabled:
        return Verdict(BAD, "wrong user name or password")
    return _switches(world, mailbox, mailbox)


def challenge() -> str:
    """The JSON of the 334 error challenge."""
    return json.dumps({"status": "401", "schemes": "Bearer", "scope": "https://outlook.office.com/SMTP.Send"})
