"""The SMTP session byte for byte: TLS or nothing, each stage's refusals, and nothing smuggled."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from notifyd.adapters.smtp import Deadlines, Envelope, Session, SessionFailed, SmtpTarget, probe
from notifyd.core.delivery import Outcome
from notifyd.core.secret import Secret
from notifyd.core.settings import Auth, Security
from notifyd.core.smtp_reply import Meaning, Stage
from qemu.m365 import ThreadedSimulator
from qemu.m365.authority import TlsMaterial
from tests.support.mail import SENDER, SHORT
from tests.support.scripted_smtp import DROP, ScriptedSmtp, scripted_smtp

TOKEN = Secret("planted-token-0123456789")
RAW = b"Subject: x\r\n\r\nhello\r\n"
NO_STARTTLS = "250-mail.test\r\n250 AUTH PLAIN LOGIN XOAUTH2"


def target(server: ScriptedSmtp, security: Security = Security.STARTTLS, deadlines: Deadlines = SHORT) -> SmtpTarget:
    return SmtpTarget("localhost", server.port, security, server.ca_file, deadlines=deadlines)


async def delivered(
    server: ScriptedSmtp, envelope: Envelope, security: Security = Security.STARTTLS, auth: Auth = Auth.OAUTH2
) -> Outcome:
    session = Session(target(server, security), oauth=auth is Auth.OAUTH2, now_wall=0.0)
    try:
        await session.open(auth, SENDER, TOKEN)
        return await session.send(envelope)
    finally:
        await session.close()


def one(*recipients: str, raw: bytes = RAW, **more: bool) -> Envelope:
    return Envelope(SENDER, recipients or ("a@example.org",), raw, **more)


# --- TLS or nothing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("replies", "code"),
    [
        ({"EHLO": NO_STARTTLS}, "tls.starttls-missing"),
        ({"STARTTLS": "454 4.7.0 TLS not available"}, None),
        ({"STARTTLS": "502 5.5.1 no such command"}, None),
        ({"STARTTLS": DROP}, "network.reset"),
    ],
)
async def test_without_starttls_no_token_and_no_mail_leaves(
    tls: TlsMaterial, replies: dict[str, str | list[str]], code: str | None
) -> None:
    """STARTTLS not offered, refused or cut: the session ends, and nothing secret was on the wire."""
    async with scripted_smtp(tls, replies) as server:
        problem = await probe(target(server), Auth.OAUTH2, SENDER, TOKEN, 0.0)
        assert problem is not None
        assert code is None or problem.code == code
        assert not any(line.startswith(("AUTH", "MAIL")) for line in server.lines)
        assert TOKEN.reveal().encode() not in server.clear


@pytest.mark.parametrize(
    ("certificate", "code"), [("expired", "clock.wrong"), ("wrong-name", "tls.name"), ("untrusted", "tls.tls")]
)
@pytest.mark.parametrize("security", [Security.STARTTLS, Security.TLS])
async def test_a_certificate_that_is_not_the_servers_ends_the_session(
    tls: TlsMaterial, certificate: str, code: str, security: Security
) -> None:
    """Expired, another name, another authority: named as such, nothing sent."""
    async with scripted_smtp(tls, certificate=certificate) as server:
        if security is Security.TLS:
            listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=server.context)
            server.port = listening.sockets[0].getsockname()[1]
        problem = await probe(target(server, security), Auth.OAUTH2, SENDER, TOKEN, 0.0)
        assert problem is not None
        assert problem.code == code
        assert not server.secured
        if security is Security.TLS:
            listening.close()


async def test_replies_injected_before_tls_are_not_believed(exchange: ThreadedSimulator) -> None:
    """A line smuggled in behind the 220 of STARTTLS is not taken for the answer to the encrypted EHLO."""
    exchange.order("smtp", "inject-after-starttls", text="250 AUTH XOAUTH2")
    ends = exchange.endpoints
    inside = SmtpTarget(*ends.smtp, Security.STARTTLS, Path(ends.ca_file), deadlines=SHORT)
    problem = await probe(inside, Auth.OAUTH2, SENDER, TOKEN, 0.0)
    assert problem is not None  # the token is not good there: what counts is that the login was really asked
    assert problem.code.startswith(("smtp.535", "network.", "tls."))


async def test_a_token_never_travels_without_tls(tls: TlsMaterial) -> None:
    """OAuth with security none is refused here too, whatever the settings let through."""
    async with scripted_smtp(tls) as server:
        problem = await probe(target(server, Security.NONE), Auth.OAUTH2, SENDER, TOKEN, 0.0)
        assert problem is not None
        assert not any(line.startswith("AUTH") for line in server.lines)


# --- login ------------------------------------------------------------------------------------------------------------


async def test_xoauth2_goes_in_one_line(tls: TlsMaterial) -> None:
    """The initial response comes with the command."""
    async with scripted_smtp(tls) as server:
        assert await probe(target(server), Auth.OAUTH2, SENDER, TOKEN, 0.0) is None
        (auth,) = [line for line in server.lines if line.startswith("AUTH")]
        assert b"auth=Bearer planted-token" in base64.b64decode(auth.split(" ")[2])


@pytest.mark.parametrize("token", [TOKEN, Secret("x" * 10_000)])
async def test_xoauth2_goes_in_two_steps_where_one_line_is_too_long(tls: TlsMaterial, token: Secret) -> None:
    """A server that chokes on the line, or a token over RFC 4954's limit, gets the two-step form."""
    replies: dict[str, str | list[str]] = {"AUTH": ["334 ", "235 ok"]}
    if token is TOKEN:
        replies = {"AUTH": ["500 5.5.2 line too long", "334 ", "235 ok"]}
    async with scripted_smtp(tls, replies) as server:
        assert await probe(target(server), Auth.OAUTH2, SENDER, token, 0.0) is None
        assert "AUTH XOAUTH2" in server.lines


async def test_a_334_challenge_is_answered_with_an_empty_line_and_its_words_are_told(tls: TlsMaterial) -> None:
    """Google's form of the refusal: the JSON in the challenge goes into the problem's detail."""
    challenge = base64.b64encode(b'{"status":"401","schemes":"Bearer"}').decode()
    async with scripted_smtp(tls, {"AUTH": [f"334 {challenge}", "535 5.7.3 no"]}) as server:
        problem = await probe(target(server), Auth.OAUTH2, SENDER, TOKEN, 0.0)
        assert problem is not None
        assert problem.code == "smtp.535-5.7.3"
        assert "status 401" in problem.detail
        assert "" in server.lines


@pytest.mark.parametrize("offered", ["PLAIN LOGIN", "LOGIN"])
async def test_passwords_go_by_plain_or_login(tls: TlsMaterial, offered: str) -> None:
    """What the server offers is used; the result is the user's name and password."""
    replies: dict[str, str | list[str]] = {"EHLO": f"250-x\r\n250-STARTTLS\r\n250 AUTH {offered}"}
    if offered == "LOGIN":
        replies["AUTH"] = ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "235 ok"]
    async with scripted_smtp(tls, replies) as server:
        assert await probe(target(server), Auth.PASSWORD, "ann", Secret("päss"), 0.0) is None
        sent = [base64.b64decode(word) for line in server.lines for word in line.split(" ")[-1:] if len(word) > 7]
        assert b"\0ann\0p\xc3\xa4ss" in sent or b"p\xc3\xa4ss" in sent


async def test_a_relay_without_login_is_just_used(tls: TlsMaterial) -> None:
    """auth none, security none: a relay in the LAN."""
    async with scripted_smtp(tls) as server:
        outcome = await delivered(server, one(), Security.NONE, Auth.NONE)
        assert outcome.meaning is Meaning.DONE
        assert not any(line.startswith(("AUTH", "STARTTLS")) for line in server.lines)


# --- every stage's refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", ["421 4.3.2 not active", "554 5.3.2 no", "451 4.7.500 Server busy", DROP])
@pytest.mark.parametrize("verb", ["connect", "EHLO", "STARTTLS", "AUTH"])
async def test_a_refusal_before_mail_ends_the_session_and_names_its_stage(
    tls: TlsMaterial, verb: str, reply: str
) -> None:
    """4yz, 5yz and a drop at connect, EHLO, STARTTLS and AUTH: SessionFailed with stage, problem and decision."""
    async with scripted_smtp(tls, {verb: reply}) as server:
        session = Session(target(server), oauth=True, now_wall=0.0)
        with pytest.raises(SessionFailed) as caught:
            await session.open(Auth.OAUTH2, SENDER, TOKEN)
        assert caught.value.stage.value.lower() == verb.lower()
        assert caught.value.meaning is not Meaning.DONE
        assert caught.value.problem.title
        assert not session.alive
        await session.close()


@pytest.mark.parametrize(
    ("verb", "stage"), [("MAIL", Stage.MAIL), ("RCPT", Stage.RCPT), ("DATA", Stage.DATA), ("message", Stage.BODY)]
)
@pytest.mark.parametrize(("reply", "what"), [("450 4.2.0 later", Meaning.LATER), ("554 5.6.0 never", Meaning.REFUSED)])
async def test_a_refusal_of_a_mail_leaves_the_session_usable(
    tls: TlsMaterial, verb: str, stage: Stage, reply: str, what: Meaning
) -> None:
    """One mail refused at any stage; the next one in the same session goes through."""
    async with scripted_smtp(tls, {verb: [reply]}) as server:
        session = Session(target(server), oauth=True, now_wall=0.0)
        await session.open(Auth.OAUTH2, SENDER, TOKEN)
        first = await session.send(one())
        assert (first.stage, first.meaning) == (stage, what)
        assert first.problem is not None
        assert session.alive
        assert (await session.send(one())).meaning is Meaning.DONE
        await session.close()


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "message"])
@pytest.mark.parametrize("reply", [DROP, "421 4.4.2 bye"])
async def test_a_connection_that_ends_is_certain_before_the_message_and_uncertain_behind_it(
    tls: TlsMaterial, verb: str, reply: str
) -> None:
    """Only a drop after the message leaves its fate unknown; a 421 there is an answer."""
    async with scripted_smtp(tls, {verb: reply}) as server:
        outcome = await delivered(server, one())
        assert outcome.meaning is Meaning.RECONNECT
        assert outcome.unknown == (verb == "message" and reply == DROP)


async def test_a_refusal_of_quit_changes_nothing(tls: TlsMaterial) -> None:
    """The mail was settled before."""
    async with scripted_smtp(tls, {"QUIT": DROP}) as server:
        assert (await delivered(server, one())).meaning is Meaning.DONE


async def test_recipients_have_their_own_fates_in_one_transaction(tls: TlsMaterial) -> None:
    """Accepted, refused, postponed, and the rest left for the next transaction after "too many"."""
    replies = ["250 ok", "550 5.1.1 unknown", "450 4.2.0 later", "250 ok", "452 4.5.3 too many", "250 no"]
    async with scripted_smtp(tls, {"RCPT": list(replies)}) as server:
        outcome = await delivered(server, one(*(f"{n}@example.org" for n in range(6))))
        assert outcome.accepted == ("0@example.org", "3@example.org")
        assert set(outcome.refused) == {"1@example.org"}
        assert set(outcome.postponed) == {"2@example.org"}
        assert sum(line.startswith("RCPT") for line in server.lines) == 5


async def test_a_silent_server_is_given_up_at_the_deadline_of_the_command(tls: TlsMaterial) -> None:
    """Each command has a deadline of its own."""
    async with scripted_smtp(tls, {"AUTH": ["250-still\r\n250-going"]}) as server:
        quick = Deadlines(connect=2, greeting=2, login=0.3, command=2, data=2, block=2, final=2)
        problem = await probe(target(server, deadlines=quick), Auth.OAUTH2, SENDER, TOKEN, 0.0)
        assert problem is not None
        assert problem.code == "network.timeout"


# --- the bytes on the wire --------------------------------------------------------------------------------------------

HOSTILE = [
    b".\r\nMAIL FROM:<evil@example.org>\r\n",
    b"\n.\nMAIL FROM:<evil@example.org>\n",
    b"\r.\rMAIL FROM:<evil@example.org>\r",
    b"\r\n.\rMAIL FROM:<evil@example.org>",
    b"\n.\r\nRCPT TO:<evil@example.org>\r\n",
    b"..\r\n...\r\n. .\r\n",
]


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_no_body_can_end_itself_and_speak_as_a_client(tls: TlsMaterial, hostile: bytes) -> None:
    """SMTP smuggling: whatever line ends surround a dot, the server sees one message and no further command."""
    async with scripted_smtp(tls) as server:
        outcome = await delivered(server, one(raw=b"Subject: x\r\n\r\n" + hostile))
        assert outcome.meaning is Meaning.DONE
        assert [line.split(" ")[0] for line in server.lines if line.split(" ")[0] != "AUTH"] == [
            "EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT", "DATA", "QUIT",
        ]  # fmt: skip
        (message,) = server.messages
        assert b"\r" not in message.replace(b"\r\n", b"")
        assert b"\n" not in message.replace(b"\r\n", b"")


@pytest.mark.parametrize("char", ["\r", "\n", "\0", "\r\nRCPT TO:<evil@example.org>", "\x1c", "\x85"])
async def test_an_address_with_a_control_character_never_becomes_a_command(tls: TlsMaterial, char: str) -> None:
    """The last line of defence: even an unchecked address cannot start a new command."""
    async with scripted_smtp(tls) as server:
        await delivered(server, one(f"a{char}@example.org"))
        assert not any("evil" in line and line.startswith("RCPT") for line in server.lines)
        assert sum(line.startswith("RCPT") for line in server.lines) <= 1


async def test_size_8bitmime_and_smtputf8_are_used_where_they_are_offered(tls: TlsMaterial) -> None:
    """The MAIL command carries what the server can use, and UTF-8 addresses go as they are."""
    async with scripted_smtp(tls) as server:
        await delivered(server, one("jörg@example.org", utf8=True, eight_bit=True))
        (mail,) = [line for line in server.lines if line.startswith("MAIL")]
        assert mail == f"MAIL FROM:<{SENDER}> SIZE={len(RAW)} BODY=8BITMIME SMTPUTF8"
        assert "RCPT TO:<jörg@example.org>" in server.lines


async def test_what_the_server_cannot_take_is_refused_without_offering_it(tls: TlsMaterial) -> None:
    """Too large for SIZE, or UTF-8 addresses without SMTPUTF8: a refusal of our own, with the reason."""
    async with scripted_smtp(tls, {"EHLO": "250-x\r\n250-STARTTLS\r\n250 SIZE 1000"}) as server:
        large = await delivered(server, one(raw=RAW + b"x" * 1_000), auth=Auth.NONE)
        foreign = await delivered(server, one("jörg@example.org", utf8=True), auth=Auth.NONE)
        assert [o.meaning for o in (large, foreign)] == [Meaning.REFUSED] * 2
        assert (large.reply.enhanced, foreign.reply.enhanced) == ("5.3.4", "5.6.7")
        assert not any(line.startswith("MAIL") for line in server.lines)
