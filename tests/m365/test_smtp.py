"""The simulated Exchange: what it offers, which tokens it takes, and every refusal on order."""

from __future__ import annotations

import asyncio
import smtplib
import socket
import ssl
import time

import aiosmtplib
import pytest

from qemu.m365 import ThreadedSimulator
from qemu.m365.smtp_replies import NAMED
from tests.m365.smtp_client import GATEWAY, connection, log_in, message, session, token_for, xoauth2


def test_login_is_offered_only_after_starttls(sim: ThreadedSimulator) -> None:
    """EHLO shows STARTTLS and no AUTH in clear, then Exchange's list; MAIL and AUTH in clear are refused."""
    with smtplib.SMTP(*sim.endpoints.smtp, timeout=10) as client:
        client.ehlo("gw.test")
        assert client.has_extn("starttls")
        assert not client.has_extn("auth")
        assert client.docmd("AUTH", "XOAUTH2")[0] == 530
        assert client.docmd("MAIL", "FROM:<a@b.c>") == (530, b"5.7.57 Client not authenticated to send mail.")
    with connection(sim.endpoints) as client:
        assert client.esmtp_features["auth"].split() == ["LOGIN", "XOAUTH2"]
        assert client.esmtp_features["size"] == "157286400"
        assert {"pipelining", "dsn", "enhancedstatuscodes", "8bitmime", "smtputf8"} <= set(client.esmtp_features)
        assert client.docmd("MAIL", "FROM:<a@b.c>")[0] == 530


@pytest.mark.parametrize("two_steps", [False, True])
def test_good_token_logs_in_with_one_and_two_steps(sim: ThreadedSimulator, two_steps: bool) -> None:
    """Both forms of AUTH XOAUTH2 end in 235 2.7.0."""
    with connection(sim.endpoints) as client:
        assert log_in(client, token_for(sim), two_steps=two_steps) == (235, b"2.7.0 Authentication successful")


def test_bad_tokens_are_refused_with_535_5_7_3(sim: ThreadedSimulator) -> None:
    """Wrong audience, expired, wrong scope, garbage, a stranger's mailbox: all are 535 5.7.3 on the wire."""
    good = token_for(sim)
    bad = {
        "audience": token_for(sim, aud="https://graph.microsoft.com"),
        "expired": token_for(sim, seconds=-1),
        "scope": token_for(sim, granted=("IMAP.AccessAsUser.All",)),
        "signature": good[:-4] + ("AAAA" if good[-4:] != "AAAA" else "BBBB"),
        "garbage": "not.a.token",
        "other user": token_for(sim, "admin@contoso.example"),
    }
    with connection(sim.endpoints) as client:
        for name, token in bad.items():
            code, text = log_in(client, token)
            assert (code, text[:6]) == (535, b"5.7.3 "), name


def test_retired_signing_key_ends_its_tokens(sim: ThreadedSimulator) -> None:
    """A rotated key still verifies old tokens until it is withdrawn."""
    old = token_for(sim)
    sim.world.keys.rotate()
    with connection(sim.endpoints) as client:
        assert log_in(client, old)[0] == 235
    sim.world.keys.retire()
    with connection(sim.endpoints) as client:
        assert log_in(client, old)[0] == 535
        assert log_in(client, token_for(sim))[0] == 235


def test_delegate_logs_in_to_the_shared_mailbox(sim: ThreadedSimulator) -> None:
    """The sender's token opens the shared mailbox it may send as, and nobody else's."""
    with connection(sim.endpoints) as client:
        assert log_in(client, token_for(sim), "alerts@contoso.example")[0] == 235
        text = message(sender="alerts@contoso.example")
        client.sendmail("alerts@contoso.example", ["a@example.org"], text)
    assert sim.world.mail.arrived[0].mailbox == "alerts@contoso.example"
    with connection(sim.endpoints) as client:
        assert log_in(client, token_for(sim), "admin@contoso.example")[0] == 535


def test_from_of_a_stranger_is_send_as_denied(sim: ThreadedSimulator) -> None:
    """Header or envelope sender without the right: 554 5.2.252 SendAsDenied after the final dot, nothing stored."""
    with session(sim.endpoints, token_for(sim)) as client:
        with pytest.raises(smtplib.SMTPDataError) as header:
            client.sendmail(GATEWAY, ["a@example.org"], message(sender="boss@contoso.example"))
        with pytest.raises(smtplib.SMTPDataError) as envelope:
            client.sendmail("boss@contoso.example", ["a@example.org"], message())
        client.sendmail("alerts@contoso.example", ["a@example.org"], message(sender="alerts@contoso.example"))
    for refused in (header, envelope):
        assert refused.value.smtp_code == 554
        assert b"5.2.252 SendAsDenied; gateway@contoso.example not allowed to send as boss@" in refused.value.smtp_error
    assert len(sim.world.mail.arrived) == 1


def test_switches_of_mailbox_and_tenant_answer_535_5_7_139(sim: ThreadedSimulator) -> None:
    """The mailbox's own switch beats the tenant's, and each has its text."""
    user = sim.world.directory.users[GATEWAY]
    with connection(sim.endpoints) as client:
        sim.world.directory.policy.smtp_auth_disabled = True
        assert b"disabled for the Tenant" in log_in(client, token_for(sim))[1]
        user.smtp_auth = False
        assert b"disabled for the Mailbox" in log_in(client, token_for(sim))[1]
        user.smtp_auth = True
        assert log_in(client, token_for(sim))[0] == 235


def test_password_login_is_off_as_at_microsoft_and_can_be_allowed(sim: ThreadedSimulator) -> None:
    """AUTH LOGIN is refused with 5.7.139 until the policy allows it; then the right password works."""
    with connection(sim.endpoints) as client:
        with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            client.login(GATEWAY, "Simulated-Pa55")
        assert b"basic authentication is disabled" in refused.value.smtp_error
        sim.world.directory.policy.basic_auth = True
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login(GATEWAY, "wrong")
        assert client.login(GATEWAY, "Simulated-Pa55")[0] == 235


def test_challenge_334_carries_json_and_ends_in_535(sim: ThreadedSimulator) -> None:
    """With the challenge ordered, a refused token gets a 334 with JSON first."""
    sim.order("smtp", "challenge")
    seen: list[bytes] = []

    def answer(challenge: bytes | None = None) -> str:
        if challenge:
            seen.append(challenge)
            return ""
        return xoauth2("bad")

    with connection(sim.endpoints) as client, pytest.raises(smtplib.SMTPAuthenticationError) as refused:
        client.auth("XOAUTH2", answer)
    assert b'"status": "401"' in seen[0]
    assert refused.value.smtp_code == 535


@pytest.mark.parametrize("name", NAMED)
def test_every_named_reply_comes_at_its_stage(sim: ThreadedSimulator, name: str) -> None:
    """Each of Exchange's refusals can be ordered by name and meets the client at its stage, once."""
    stage, text = NAMED[name]
    sim.order("smtp", name)
    code = int(text[:3])
    with connection(sim.endpoints) as client:
        if stage == "auth":
            assert log_in(client, token_for(sim)) == (code, text[4:].encode())
        else:
            assert log_in(client, token_for(sim))[0] == 235
            replies = [
                client.docmd("MAIL", f"FROM:<{GATEWAY}>"),
                client.docmd("RCPT", "TO:<a@example.org>") if stage != "mail" else (0, b""),
                client.data(message()) if stage == "message" else (0, b""),
            ]
            assert (code, text[4:].encode()) in replies
    assert not sim.world.orders.open()
    assert not sim.world.mail.arrived


def test_one_recipient_can_be_refused_while_others_go(sim: ThreadedSimulator) -> None:
    """An order with an address touches that recipient only."""
    sim.order("smtp", "unknown-recipient", address="bad@example.org", times=None)
    with session(sim.endpoints, token_for(sim)) as client:
        refused = client.sendmail(GATEWAY, ["good@example.org", "Bad@example.org"], message())
    assert refused == {"Bad@example.org": (550, b"5.1.1 User unknown")}
    assert sim.world.mail.arrived[0].recipients == ["good@example.org"]


@pytest.mark.parametrize(
    ("stage", "what"),
    [
        (stage, what)
        for stage in ("connect", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "body", "message", "stored")
        for what in ("drop", "reset", "partial-reply")
        # There is no reply in the midst of the text.
        if (stage, what) != ("body", "partial-reply")
    ],
)
def test_connection_can_end_at_any_stage(sim: ThreadedSimulator, stage: str, what: str) -> None:
    """The connection breaks at the ordered stage; only `stored` leaves a message behind."""
    # smtplib would take "250 2." at the end of the stream for a whole reply; one digit is none for anybody.
    sim.order("smtp", what, stage=stage, **({"text": "2"} if what == "partial-reply" else {}))
    broken = pytest.raises((smtplib.SMTPException, ConnectionError, ssl.SSLError, AssertionError))
    with broken, session(sim.endpoints, token_for(sim)) as client:
        client.sendmail(GATEWAY, ["a@example.org"], message() + "x" * 2000 + "\r\n")
    assert len(sim.world.mail.arrived) == (1 if stage == "stored" else 0)
    assert not sim.world.orders.open()


def test_hang_keeps_the_client_waiting(sim: ThreadedSimulator) -> None:
    """A hung stage says nothing until the client gives up."""
    sim.order("smtp", "hang", stage="mail")
    with session(sim.endpoints, token_for(sim)) as client:
        assert client.sock is not None
        client.sock.settimeout(0.3)
        with pytest.raises((TimeoutError, smtplib.SMTPServerDisconnected)):
            client.mail(GATEWAY)


def test_stripped_starttls_offers_a_login_in_clear(sim: ThreadedSimulator) -> None:
    """The attack a client must not fall for: no STARTTLS, but AUTH."""
    sim.order("smtp", "strip-starttls")
    with smtplib.SMTP(*sim.endpoints.smtp, timeout=10) as client:
        client.ehlo("gw.test")
        assert not client.has_extn("starttls")
        assert client.has_extn("auth")


def test_injected_line_follows_the_starttls_reply_in_clear(sim: ThreadedSimulator) -> None:
    """Bytes smuggled in before the handshake arrive together with the 220."""
    sim.order("smtp", "inject-after-starttls", text="250 2.0.0 smuggled")
    with socket.create_connection(sim.endpoints.smtp, timeout=10) as raw:
        raw.recv(500)
        raw.sendall(b"EHLO gw\r\n")
        while b"250 SMTPUTF8" not in raw.recv(500):
            pass
        raw.sendall(b"STARTTLS\r\n")
        assert raw.recv(500) == b"220 2.0.0 SMTP server ready\r\n250 2.0.0 smuggled\r\n"


async def _aio_session(sim: ThreadedSimulator, context: ssl.SSLContext) -> None:
    host, port = sim.endpoints.smtp
    client = aiosmtplib.SMTP(hostname=host, port=port, start_tls=True, tls_context=context, timeout=10)
    await client.connect()
    await client.auth_xoauth2(GATEWAY, token_for(sim))
    await client.sendmail(GATEWAY, ["ä@example.org"], message(), mail_options=["SMTPUTF8"])
    await client.quit()


def test_aiosmtplib_sends_with_smtputf8(sim: ThreadedSimulator) -> None:
    """The client the product uses goes through, with an internationalised address."""
    asyncio.run(_aio_session(sim, ssl.create_default_context(cafile=sim.endpoints.ca_file)))
    assert sim.world.mail.arrived[0].recipients == ["ä@example.org"]


@pytest.mark.parametrize("kind", ["expired", "future", "wrong-name", "untrusted"])
def test_bad_certificates_on_order(sim: ThreadedSimulator, kind: str) -> None:
    """A verifying client refuses each bad certificate; the next handshake shows the good one."""
    sim.order("tls", kind, part="smtp")
    with pytest.raises(ssl.SSLCertVerificationError), connection(sim.endpoints):
        pass
    with connection(sim.endpoints) as client:
        assert log_in(client, token_for(sim))[0] == 235


def test_huge_banner_is_eight_megabytes(sim: ThreadedSimulator) -> None:
    """A server that never ends its greeting, for clients with a bound."""
    sim.order("smtp", "huge-banner")
    with socket.create_connection(sim.endpoints.smtp, timeout=10) as raw:
        count, deadline = 0, time.monotonic() + 20
        while count < 8 << 20 and time.monotonic() < deadline:
            count += len(raw.recv(1 << 16))
    assert count >= 8 << 20


def test_size_of_the_message_is_limited(sim: ThreadedSimulator) -> None:
    """Declared and real sizes beyond the limit are 552 5.3.4."""
    sim.world.mail.limits.message_bytes = 5000
    with session(sim.endpoints, token_for(sim)) as client:
        assert client.docmd("MAIL", f"FROM:<{GATEWAY}> SIZE=6000")[:1] == (552,)
        client.docmd("MAIL", f"FROM:<{GATEWAY}>")
        client.docmd("RCPT", "TO:<a@example.org>")
        code, text = client.data(message() + "x" * 60 * 100)
        assert (code, text[:5]) == (552, b"5.3.4")


def test_parameters_of_delivery_status_are_taken(sim: ThreadedSimulator) -> None:
    """DSN is offered, so RET, ENVID, NOTIFY and ORCPT are accepted."""
    with session(sim.endpoints, token_for(sim)) as client:
        options = {"mail_options": ["RET=HDRS", "ENVID=x1", "BODY=8BITMIME"], "rcpt_options": ["NOTIFY=FAILURE"]}
        client.sendmail(GATEWAY, ["a@example.org"], message(), **options)
    assert len(sim.world.mail.arrived) == 1
