"""Short helpers around `smtplib` for the simulated Exchange."""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from collections.abc import Iterator

from qemu.m365 import Endpoints, ThreadedSimulator

GATEWAY = "gateway@contoso.example"
OUTLOOK = "https://outlook.office.com"


def token_for(
    sim: ThreadedSimulator,
    upn: str = GATEWAY,
    aud: str = OUTLOOK,
    seconds: int = 3600,
    granted: tuple[str, ...] = ("SMTP.Send",),
) -> str:
    """An access token made directly by the simulator's issuer."""
    directory = sim.world.directory
    user = directory.user(upn)
    app = next(iter(directory.apps.values()))
    return sim.world.issuer.access_token(app, user, aud, list(granted), seconds)


def xoauth2(token: str, mailbox: str = GATEWAY) -> str:
    """The XOAUTH2 initial response before base64."""
    return f"user={mailbox}\x01auth=Bearer {token}\x01\x01"


def message(subject: str = "Hello", sender: str = GATEWAY) -> str:
    """A small message."""
    return f"From: {sender}\r\nTo: a@example.org\r\nSubject: {subject}\r\n\r\nBody\r\n"


@contextlib.contextmanager
def connection(ends: Endpoints) -> Iterator[smtplib.SMTP]:
    """An encrypted connection, not logged in."""
    client = smtplib.SMTP(*ends.smtp, timeout=10)
    try:
        client.ehlo("gw.test")
        client.starttls(context=ssl.create_default_context(cafile=ends.ca_file))
        client.ehlo("gw.test")
        yield client
    finally:
        client.close()


def log_in(client: smtplib.SMTP, token: str, mailbox: str = GATEWAY, *, two_steps: bool = False) -> tuple[int, bytes]:
    """The reply to AUTH XOAUTH2; never raises for a refusal. A 334 challenge is answered with an empty line."""

    def answer(challenge: bytes | None = None) -> str:
        return "" if challenge else xoauth2(token, mailbox)

    try:
        return client.auth("XOAUTH2", answer, initial_response_ok=not two_steps)
    except smtplib.SMTPAuthenticationError as error:
        return error.smtp_code, error.smtp_error if isinstance(error.smtp_error, bytes) else error.smtp_error.encode()


@contextlib.contextmanager
def session(ends: Endpoints, token: str) -> Iterator[smtplib.SMTP]:
    """A connection logged in as the gateway's mailbox."""
    with connection(ends) as client:
        code, text = log_in(client, token)
        assert code == 235, text
        yield client
