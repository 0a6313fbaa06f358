"""What Exchange's replies decide."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyd.core.secret import Secret
from notifyd.core.smtp_reply import TEXT_LIMIT, Meaning, Stage, decode_challenge, meaning, read_reply, xoauth2

TABLE = [
    (Stage.AUTH, 535, "5.7.3 Authentication unsuccessful [SN2PR00CA0018]", Meaning.TOKEN),
    (Stage.AUTH, 535, "5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled", Meaning.STOP),
    (Stage.AUTH, 454, "4.7.0 Temporary authentication failure", Meaning.RECONNECT),
    (Stage.AUTH, 432, "4.3.2 Concurrent connections limit exceeded", Meaning.CONNECTIONS),
    (Stage.AUTH, 421, "4.3.2 Service not active", Meaning.RECONNECT),
    (Stage.AUTH, 421, "4.7.66 TLS 1.0 and 1.1 are not supported", Meaning.STOP),
    (Stage.BODY, 432, "4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", Meaning.CONNECTIONS),
    (Stage.CONNECT, 421, "4.4.2 Connection dropped due to timeout", Meaning.RECONNECT),
    (Stage.BODY, 421, "4.4.2 Message submission rate for this client has exceeded the limit", Meaning.RATE),
    (Stage.MAIL, 451, "4.7.500 Server busy. Please try again later (AS77)", Meaning.BUSY),
    (Stage.MAIL, 451, "4.7.651 Access denied", Meaning.BUSY),
    (Stage.RCPT, 452, "4.5.3 Too many recipients", Meaning.SPLIT),
    (Stage.RCPT, 450, "4.2.0 Greylisted", Meaning.LATER),
    (Stage.RCPT, 550, "5.1.1 User unknown", Meaning.REFUSED),
    (Stage.RCPT, 550, "5.4.1 Recipient address rejected", Meaning.REFUSED),
    (Stage.RCPT, 550, "5.2.2 Mailbox full", Meaning.REFUSED),
    (Stage.BODY, 554, "5.2.252 SendAsDenied; gateway@x not allowed to send as root@x", Meaning.STOP),
    (Stage.BODY, 554, "5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiException", Meaning.STOP),
    (Stage.BODY, 554, "5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException", Meaning.QUOTA),
    (Stage.BODY, 554, "5.2.2 STOREDRV.Submission.Exception:QuotaExceededException", Meaning.STOP),
    (Stage.BODY, 550, "5.2.251 Sender throttled due to continuous mailbox full errors", Meaning.STOP),
    (Stage.BODY, 550, "5.2.255 Sender throttled due to continuous invalid recipients errors", Meaning.STOP),
    (Stage.BODY, 550, "5.1.8 Access denied, bad outbound sender", Meaning.STOP),
    (Stage.BODY, 550, "5.7.705 Access denied, tenant has exceeded threshold", Meaning.STOP),
    (Stage.MAIL, 550, "5.7.60 SMTP; Client does not have permissions to send as this sender", Meaning.STOP),
    (Stage.MAIL, 530, "5.7.57 Client not authenticated to send mail", Meaning.STOP),
    (Stage.MAIL, 552, "5.3.4 Message size exceeds fixed limit", Meaning.REFUSED),
    (Stage.BODY, 554, "5.6.0 Corrupt message content", Meaning.REFUSED),
    (Stage.BODY, 250, "2.0.0 OK", Meaning.DONE),
    (Stage.BODY, 0, "", Meaning.RECONNECT),
]


@pytest.mark.parametrize(("stage", "code", "text", "expected"), TABLE)
def test_exchanges_replies_are_understood(stage: Stage, code: int, text: str, expected: Meaning) -> None:
    """Each known reply of Exchange leads to the action that docs/mail-queue.md promises."""
    assert meaning(read_reply(code, text), stage, oauth=True) is expected


def test_a_wrong_password_stops_and_never_asks_for_a_token() -> None:
    """535 without OAuth is a setting to correct: repeating it locks accounts."""
    assert meaning(read_reply(535, "5.7.8 Error: authentication failed"), Stage.AUTH, oauth=False) is Meaning.STOP


@given(st.integers(200, 599), st.text(max_size=3_000), st.sampled_from(list(Stage)), st.booleans())
def test_no_reply_is_without_a_decision_and_none_gets_out_unclean(
    code: int, text: str, stage: Stage, oauth: bool
) -> None:
    """Whatever a server sends: one decision, a bounded line of printable text."""
    reply = read_reply(code, text)
    decision = meaning(reply, stage, oauth=oauth)
    assert (decision is Meaning.DONE) == (code < 400)
    assert reply.text.isprintable()
    assert len(reply.text) <= TEXT_LIMIT
    assert reply.enhanced == "" or reply.enhanced[0] in "245"


def test_the_enhanced_code_is_found_on_each_line_and_inside_the_text() -> None:
    """Multi-line replies repeat it; STOREDRV texts hide it."""
    reply = read_reply(535, "5.7.139 Authentication unsuccessful\n5.7.139 see https://aka.ms")
    assert (reply.enhanced, reply.text) == ("5.7.139", "Authentication unsuccessful see https://aka.ms")
    assert read_reply(432, "Mailbox; 4.3.2 STOREDRV.ClientSubmit").enhanced == "4.3.2"


def test_xoauth2_is_the_documented_string() -> None:
    """user, auth=Bearer, two ^A at the end; printed it is a placeholder."""
    made = xoauth2("a@contoso.example", Secret("tok.en"))
    assert base64.b64decode(made.reveal()) == b"user=a@contoso.example\x01auth=Bearer tok.en\x01\x01"
    assert "tok" not in f"{made!r}{made}"


@given(st.text(max_size=200))
def test_a_strange_challenge_is_no_words(text: str) -> None:
    """Only JSON in base64 says something."""
    assert isinstance(decode_challenge(text), str)
    challenge = base64.b64encode(b'{"status":"401","schemes":"Bearer"}').decode()
    assert decode_challenge(challenge) == "status 401, schemes Bearer"
