"""One SMTP submission session, on aiosmtplib: connect, TLS, AUTH, messages, and every reply as a decision.

The library is driven command by command and not through `sendmail()`: what a reply means depends on the stage it
answers, each recipient has its own fate, and a connection lost behind the final dot is neither success nor failure.
aiosmtplib is imported at the first session: a gateway that has nothing to mail does not carry it.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from notifyd.adapters.smtp_faults import fault_of, faults, stuff_dots, tls_context
from notifyd.core.delivery import Outcome
from notifyd.core.mime import unify_lines
from notifyd.core.problem import Problem
from notifyd.core.problems import network_problem, smtp_problem
from notifyd.core.secret import Secret
from notifyd.core.settings import Auth, Security
from notifyd.core.smtp_reply import Meaning, Reply, Stage, decode_challenge, meaning, read_reply, xoauth2

if TYPE_CHECKING:
    from aiosmtplib import SMTP

CHUNK_OCTETS = 64 * 1024
QUIT_S = 5.0
PROBE_S = 40.0
"""A probe runs while somebody watches a page; a session that delivers mail may take its time."""

ONE_LINE_OCTETS = 12_288
"""Longest AUTH command (RFC 4954 §4); a longer token goes in the two-step form."""

_NO_ONE_STEP = frozenset((500, 501, 502, 555))
"""Answers of servers and middleboxes that choke on the long one-line form."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds for each step (RFC 5321 §4.5.3.2; before MAIL shorter, since nothing can be lost there yet).

    block: for each 64 KiB of the message; final: for the reply to the final dot, where an early end makes duplicates.
    """

    connect: float = 30.0
    greeting: float = 60.0
    login: float = 60.0
    command: float = 300.0
    data: float = 120.0
    block: float = 180.0
    final: float = 600.0


@dataclass(frozen=True, slots=True)
class SmtpTarget:
    """Where mail goes. ca_file: the only authority to trust, None for the system's; local_hostname: for EHLO."""

    host: str
    port: int
    security: Security
    ca_file: Path | None = None
    local_hostname: str = "gateway"
    deadlines: Deadlines = field(default_factory=Deadlines)


class SessionFailed(Exception):
    """No mail can be sent in this session: it could not be set up, or it broke before a message was taken."""

    def __init__(self, stage: Stage, reply: Reply, what: Meaning, problem: Problem) -> None:
        super().__init__(f"{stage.value}: {reply}")
        self.stage = stage
        self.reply = reply
        self.meaning = what
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Envelope:
    """One transaction. raw: the message with CRLF line ends."""

    sender: str
    recipients: Sequence[str]
    raw: bytes
    utf8: bool = False
    eight_bit: bool = False


async def probe(
    target: SmtpTarget, auth: Auth, username: str, secret: Secret | None, now_wall: float
) -> Problem | None:
    """Log in and leave: None when the server lets us in, else why not. Sends no mail."""
    session = Session(target, oauth=auth is Auth.OAUTH2, now_wall=now_wall)
    try:
        async with asyncio.timeout(PROBE_S):
            await session.open(auth, username, secret)
    except SessionFailed as failed:
        return failed.problem
    except TimeoutError:
        return network_problem("timeout", target.host, f"no login within {PROBE_S:.0f} s", now_wall)
    finally:
        await session.close()
    return None


class Session:
    """One connection, for one mailbox, one message at a time."""

    def __init__(self, target: SmtpTarget, *, oauth: bool, now_wall: float) -> None:
        """now_wall: dates the problems found."""
        self._target = target
        self._oauth = oauth
        self.now_wall = now_wall
        self._smtp: SMTP | None = None
        self._stage = Stage.CONNECT

    @property
    def alive(self) -> bool:
        """Whether the connection still stands, as far as is known."""
        return self._smtp is not None and self._smtp.is_connected

    async def open(self, auth: Auth, username: str, secret: Secret | None) -> None:
        """Connect, secure and log in. Raises SessionFailed; the connection is closed then."""
        async with self._failing_as_session():
            await self._connect()
            await self._authenticate(auth, username, secret)

    async def send(self, envelope: Envelope) -> Outcome:
        """Send one message. Never raises for what the server or the network does; look at `alive` afterwards."""
        if self._smtp is None:
            raise RuntimeError("the session is not open")
        if (unfit := self._unfit(envelope)) is not None:
            return unfit
        try:
            return await self._transaction(envelope)
        except SessionFailed as failed:
            return Outcome(failed.stage, failed.reply, failed.meaning, problem=failed.problem)

    async def close(self) -> None:
        """QUIT when that makes sense, and close."""
        smtp, self._smtp = self._smtp, None
        if smtp is None:
            return
        if smtp.is_connected:
            try:
                await smtp.execute_command(b"QUIT", timeout=QUIT_S)
            except faults():
                pass  # the mail is settled; whatever happens to a goodbye changes nothing
        smtp.close()

    # --- setting up -------------------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        from aiosmtplib import SMTP

        target, limits = self._target, self._target.deadlines
        implicit = target.security is Security.TLS
        context = None if target.security is Security.NONE else tls_context(target.ca_file)
        self._stage = Stage.CONNECT
        self._smtp = SMTP(
            hostname=target.host,
            port=target.port,
            use_tls=implicit,
            start_tls=False,  # done below, where its refusal is told apart
            tls_context=context if implicit else None,
            local_hostname=_helo_name(target.local_hostname),
            timeout=max(limits.connect, limits.greeting),
        )
        async with asyncio.timeout(limits.connect + limits.greeting):
            await self._smtp.connect()
        await self._ehlo()
        if context is not None and not implicit:
            await self._start_tls(context)

    async def _ehlo(self) -> None:
        self._stage = Stage.EHLO
        await self._client.ehlo(timeout=self._target.deadlines.login)

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        self._stage = Stage.STARTTLS
        if not self._client.supports_extension("starttls"):
            raise self._failure(
                Reply(0, "", "STARTTLS is not offered"),
                network_problem("starttls-missing", self._target.host, "", self.now_wall),
            )
        await self._client.starttls(tls_context=context, timeout=self._target.deadlines.login)
        await self._ehlo()

    async def _authenticate(self, auth: Auth, username: str, secret: Secret | None) -> None:
        if auth is Auth.NONE:
            return
        self._stage = Stage.AUTH
        if auth is Auth.OAUTH2 and self._target.security is Security.NONE:
            raise self._failure(
                Reply(0, "", "no token without TLS"),
                network_problem("starttls-missing", self._target.host, "", self.now_wall),
            )
        secret = secret or Secret("")
        reply = await (self._xoauth2(username, secret) if auth is Auth.OAUTH2 else self._password(username, secret))
        if reply.code != 235:
            raise self._refusal(reply)

    async def _xoauth2(self, username: str, token: Secret) -> Reply:
        response = xoauth2(username, token)
        long = len(response.reveal()) + len("AUTH XOAUTH2 \r\n") > ONE_LINE_OCTETS
        reply = Reply(500, "", "") if long else await self._command(f"AUTH XOAUTH2 {response.reveal()}")
        if reply.code in _NO_ONE_STEP:
            reply = await self._command("AUTH XOAUTH2")
            if reply.code == 334:
                reply = await self._command(response.reveal())
        if reply.code != 334:
            return reply
        told = decode_challenge(reply.text)
        final = await self._command("")
        return Reply(final.code, final.enhanced, f"{final.text} ({told})" if told else final.text)

    async def _password(self, username: str, password: Secret) -> Reply:
        offered = {method.lower() for method in self._client.server_auth_methods}
        name, word = _base64(username), _base64(password.reveal())
        if "plain" in offered or "login" not in offered:
            return await self._command(f"AUTH PLAIN {_base64(chr(0).join(('', username, password.reveal())))}")
        reply = await self._command("AUTH LOGIN")
        for answer in (name, word):
            if reply.code != 334:
                break
            reply = await self._command(answer)
        return reply

    # --- one message ------------------------------------------------------------------------------------------------

    def _unfit(self, envelope: Envelope) -> Outcome | None:
        """What this server is known to refuse is not offered to it."""
        size = self._client.esmtp_extensions.get("size", "")
        reply = None
        if envelope.utf8 and not self._client.supports_extension("smtputf8"):
            reply = Reply(553, "5.6.7", "the mail server takes no addresses outside ASCII (no SMTPUTF8)")
        elif size.isdigit() and 0 < int(size) < len(envelope.raw):
            reply = Reply(552, "5.3.4", f"the mail server takes messages of up to {size} octets")
        if reply is None:
            return None
        problem = smtp_problem(reply.code, reply.enhanced, reply.text, Stage.MAIL.value, self.now_wall)
        return Outcome(Stage.MAIL, reply, Meaning.REFUSED, accepted=tuple(envelope.recipients), problem=problem)

    async def _transaction(self, envelope: Envelope) -> Outcome:
        everybody = tuple(envelope.recipients)
        async with self._failing_as_session():
            self._stage = Stage.MAIL
            reply = await self._command(f"MAIL FROM:<{envelope.sender}>{self._options(envelope)}")
            if (what := self._meaning(reply)) is not Meaning.DONE:
                return await self._ended(Outcome(Stage.MAIL, reply, what, everybody, problem=self._problem(reply)))
            accepted, refused, postponed = await self._recipients(everybody)
            if not accepted:
                last = [*refused.values(), *postponed.values()][-1]
                problem = self._problem(last)
                return await self._ended(
                    Outcome(Stage.RCPT, last, self._meaning(last), (), refused, postponed, problem=problem)
                )
            self._stage = Stage.DATA
            reply = await self._command("DATA", self._target.deadlines.data)
            if reply.code != 354:
                what, problem = self._meaning(reply), self._problem(reply)
                return await self._ended(
                    Outcome(Stage.DATA, reply, what, accepted, refused, postponed, problem=problem)
                )
        return await self._body(envelope.raw, accepted, refused, postponed)

    def _options(self, envelope: Envelope) -> str:
        options = ""
        if self._client.supports_extension("size"):
            options += f" SIZE={len(envelope.raw)}"
        if (envelope.eight_bit or envelope.utf8) and self._client.supports_extension("8bitmime"):
            options += " BODY=8BITMIME"
        return options + (" SMTPUTF8" if envelope.utf8 else "")

    async def _recipients(
        self, recipients: Sequence[str]
    ) -> tuple[tuple[str, ...], dict[str, Reply], dict[str, Reply]]:
        self._stage = Stage.RCPT
        accepted: list[str] = []
        refused: dict[str, Reply] = {}
        postponed: dict[str, Reply] = {}
        for address in recipients:
            reply = await self._command(f"RCPT TO:<{address}>")
            match self._meaning(reply):
                case Meaning.DONE:
                    accepted.append(address)
                case Meaning.REFUSED:
                    refused[address] = reply
                case Meaning.RECONNECT:
                    raise self._refusal(reply)
                case Meaning.SPLIT if accepted:
                    break  # enough for one transaction; the rest stays for the next one
                case _:
                    postponed[address] = reply
        return tuple(accepted), refused, postponed

    async def _body(
        self, raw: bytes, accepted: tuple[str, ...], refused: Mapping[str, Reply], postponed: Mapping[str, Reply]
    ) -> Outcome:
        self._stage = Stage.BODY
        try:
            reply = await self._write(raw)
        except faults() as error:
            kind, detail = fault_of(error)
            problem = network_problem(kind, self._target.host, f"behind the message: {detail}", self.now_wall)
            reply = Reply(0, "", f"the connection was lost before the reply to the message ({kind})")
            self._abandon()
            return Outcome(
                Stage.BODY, reply, Meaning.RECONNECT, accepted, refused, postponed, unknown=True, problem=problem
            )
        what = self._meaning(reply)
        problem_of_reply = None if what is Meaning.DONE else self._problem(reply)
        return Outcome(Stage.BODY, reply, what, accepted, refused, postponed, problem=problem_of_reply)

    async def _write(self, raw: bytes) -> Reply:
        protocol = self._client.protocol
        if protocol is None:
            raise ConnectionResetError("the connection is gone")
        limits = self._target.deadlines
        stuffed = stuff_dots(unify_lines(raw))
        for at in range(0, len(stuffed), CHUNK_OCTETS):
            protocol.write(stuffed[at : at + CHUNK_OCTETS])
            async with asyncio.timeout(limits.block):
                await protocol._drain_helper()  # what StreamWriter.drain() calls; a writer would close the transport
        code, text = await protocol.execute_command(b".", timeout=limits.final)
        if code == 421:
            self._abandon()
        return read_reply(code, text)

    async def _ended(self, outcome: Outcome) -> Outcome:
        """A transaction refused half-way: take it back, so that the next one starts clean."""
        if self.alive:
            try:
                await self._command("RSET", self._target.deadlines.login)
            except faults():
                self._abandon()  # the refusal stands; only this session is of no more use
        return outcome

    # --- replies and faults -----------------------------------------------------------------------------------------

    @property
    def _client(self) -> SMTP:
        if self._smtp is None:
            raise ConnectionResetError("the connection is gone")
        return self._smtp

    async def _command(self, line: str, deadline: float | None = None) -> Reply:
        limits = self._target.deadlines
        usual = limits.command if self._stage in (Stage.MAIL, Stage.RCPT) else limits.login
        code, text = await self._client.execute_command(line.encode(), timeout=usual if deadline is None else deadline)
        return read_reply(code, text)

    def _meaning(self, reply: Reply) -> Meaning:
        return meaning(reply, self._stage, oauth=self._oauth)

    def _problem(self, reply: Reply) -> Problem:
        return smtp_problem(reply.code, reply.enhanced, reply.text, self._stage.value, self.now_wall)

    def _refusal(self, reply: Reply) -> SessionFailed:
        return SessionFailed(self._stage, reply, self._meaning(reply), self._problem(reply))

    def _failure(self, reply: Reply, problem: Problem) -> SessionFailed:
        return SessionFailed(self._stage, reply, Meaning.RECONNECT, problem)

    def _abandon(self) -> None:
        if self._smtp is not None:
            self._smtp.close()

    @asynccontextmanager
    async def _failing_as_session(self) -> AsyncIterator[None]:
        """Every fault of library and network leaves as SessionFailed, with the connection closed."""
        try:
            yield
        except SessionFailed:
            self._abandon()
            raise
        except faults() as error:
            self._abandon()
            raise self._translate(error) from error
        except BaseException:
            self._abandon()
            raise

    def _translate(self, error: Exception) -> SessionFailed:
        code = getattr(error, "code", None)
        if isinstance(code, int) and code > 0:
            return self._refusal(read_reply(code, str(getattr(error, "message", ""))))
        kind, detail = fault_of(error)
        return self._failure(Reply(0, "", detail), network_problem(kind, self._target.host, detail, self.now_wall))


def _helo_name(name: str) -> str:
    kept = "".join(c for c in name if c.isascii() and (c.isalnum() or c in "-.")).strip("-.")
    return kept or "gateway"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
