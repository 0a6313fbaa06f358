"""The mail submission server: aiosmtpd with Exchange's manners, checks, limits and failures on order."""

from __future__ import annotations

import asyncio
import base64
import binascii
import collections
import re
import socket
import ssl
import struct
from collections.abc import Callable
from email.utils import getaddresses
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from qemu.m365 import smtp_auth
from qemu.m365.mailstore import Arrived
from qemu.m365.orders import Order
from qemu.m365.smtp_replies import NAMED, STAGES
from qemu.m365.world import World

HOSTNAME = "AM0PR08CA0001.outlook.office365.com"
# RFC 4954 §4: a client may send an authentication line of that size.
_AUTH_LINE = 12288 * 4
_LINE = 65536
_FOREVER = 3600.0
_IGNORED_PARAMETERS = re.compile(r"\s+(?:RET|ENVID|NOTIFY|ORCPT|AUTH)=\S+", re.IGNORECASE)


class Gone(Exception):
    """The connection was cut on order; nothing more may be sent on it."""


class Handler:
    """Hooks of aiosmtpd: what a good session does with senders, recipients and messages."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def handle_MAIL(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:  # noqa: N802 - aiosmtpd's name
        """A sender was named."""
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 Sender OK"

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:  # noqa: N802 - aiosmtpd's name
        """A recipient was named."""
        order = self.world.orders.take("smtp", stage="rcpt-address", address=address.lower())
        if order is not None:
            return order.text("text", "550 5.1.1 User unknown")
        if len(envelope.rcpt_tos) >= self.world.mail.limits.recipients_per_message:
            return "452 4.5.3 Too many recipients"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Recipient OK"

    async def handle_DATA(self, server: ExchangeSmtp, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        """A whole message came."""
        reply = await server.at_stage("message")
        if reply:
            return reply
        message = Arrived(
            server.mailbox, envelope.mail_from or "", list(envelope.rcpt_tos), bytes(envelope.content or b""), self.world.clock.now()
        )
        refusal = self._refusal(server, message) or await self._within_rate(server.mailbox)
        if refusal:
            return refusal
        self.world.mail.store(message)
        self.world.log.add("smtp.message", self.world.clock.now(), id=message.id, mailbox=server.mailbox)
        reply = await server.at_stage("stored")
        return reply or f"250 2.0.0 OK <{message.id}@{HOSTNAME}> [Hostname={HOSTNAME}]"

    def _refusal(self, server: ExchangeSmtp, message: Arrived) -> str:
        """What Exchange says of a message it will not take, empty when it takes it."""
        owner = self.world.directory.mailbox(server.mailbox)
        if owner is not None and owner.mailbox_full:
            return NAMED["mailbox-full"][1]
        if len(message.raw) > self.world.mail.limits.message_bytes:
            return NAMED["too-large"][1]
        if self.world.mail.recipients_left(server.mailbox) < len(message.recipients):
            return NAMED["quota"][1]
        named = [a for _, a in getaddresses(message.parsed().get_all("From", []))] or [message.mail_from]
        for address in (message.mail_from, *named):
            if address and address.lower() not in server.may_send_as:
                return NAMED["send-as-denied"][1].replace("gateway@contoso.example", server.mailbox).replace("other@contoso.example", address)
        return ""

    async def _within_rate(self, mailbox: str) -> str:
        """Wait or refuse as the limits say; empty when the message may be stored now."""
        store, account = self.world.mail, self.world.mail.account(mailbox)
        if store.limits.over_rate == "ignore":
            return ""
        if store.wait_needed(mailbox) > 0:
            if store.limits.over_rate == "refuse":
                account.refused_rate += 1
                return NAMED["rate"][1]
            account.delayed += 1
        while (wait := store.wait_needed(mailbox)) > 0:
            await self.world.clock.sleep(wait)
        return ""


class ExchangeSmtp(SMTP):
    """One connection."""

    line_length_limit = _LINE

    def __init__(self, world: World, handler: Handler, context: ssl.SSLContext, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            handler,
            data_size_limit=world.mail.limits.message_bytes,
            enable_SMTPUTF8=True,
            hostname=HOSTNAME,
            ident="Microsoft ESMTP MAIL Service ready",
            tls_context=context,
            auth_exclude_mechanism=("PLAIN",),
            loop=loop,
        )
        self.world = world
        self.mailbox = ""
        self.may_send_as: set[str] = set()
        self.command_size_limits = collections.defaultdict(lambda: 2048, AUTH=_AUTH_LINE)
        self._auth_order: Order | None = None
        self._opening = True
        self._ready_sent = False
        self.on_lost: Callable[[ExchangeSmtp], None] = lambda connection: None

    # ---- orders ---------------------------------------------------------------------------------------------------

    async def at_stage(self, stage: str) -> str:
        """Play an order for this stage. Returns the ordered reply, empty to go on. Raises Gone."""
        self.world.log.add(f"smtp.{stage}", self.world.clock.now())
        order = self.world.orders.take("smtp", stage=stage)
        if order is None:
            return ""
        if order.what == "reply":
            return order.text("text", "451 4.7.500 Server busy. Please try again later.")
        if order.what == "latency":
            await asyncio.sleep(order.number("seconds", 1))
        elif order.what == "hang":
            await asyncio.sleep(order.number("seconds", _FOREVER))
        elif order.what in ("drop", "reset"):
            self._cut(reset=order.what == "reset")
            raise Gone
        return ""

    def _cut(self, *, reset: bool) -> None:
        transport = self._original_transport or self.transport
        if transport is None:
            return
        if reset and (connection := transport.get_extra_info("socket")) is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    async def _ordered(self, stage: str) -> bool:
        """Answer this command by an order, when there is one for it."""
        reply = await self.at_stage(stage)
        if not reply:
            return False
        await self.push(reply)
        if reply.startswith("421") and self.transport is not None:
            self.transport.close()
        return True

    async def handle_exception(self, error: Exception) -> str:
        """Anything unforeseen ends the session as Exchange would."""
        return "421 4.3.0 Temporary server error" if not isinstance(error, Gone) else "421 4.4.2 gone"

    async def push(self, status: Any) -> None:
        """Send a reply; the first one is the banner, which orders may replace."""
        if self._opening:
            self._opening = False
            try:
                if await self._banner():
                    return
            except Gone:
                return
        if self._writer.transport.is_closing():
            return
        if self._ready_sent:
            self._ready_sent = False
            return
        await super().push(status)

    async def _banner(self) -> bool:
        order = self.world.orders.take("smtp", what="huge-banner")
        if order is not None:
            line = b"220-" + b"x" * 500 + b"\r\n"
            self._writer.write(line * (int(order.number("bytes", 8 << 20)) // len(line)) + b"220 ready\r\n")
            await self._writer.drain()
            return True
        reply = await self.at_stage("connect")
        if not reply:
            return False
        await super().push(reply)
        if reply[0] in "45" and self.transport is not None:
            self.transport.close()
        return True

    # ---- commands -------------------------------------------------------------------------------------------------

    async def smtp_EHLO(self, hostname: str) -> None:
        """EHLO, with Exchange's list."""
        if not hostname:
            await self.push("501 5.5.4 Invalid domain name")
            return
        if await self._ordered("ehlo"):
            return
        session = self.session
        if session is None:
            return
        self._set_rset_state()
        session.extended_smtp, session.host_name = True, hostname
        peer = session.peer[0] if session.peer else ""
        size = self.world.mail.limits.message_bytes
        lines = [f"{HOSTNAME} Hello [{peer}]", f"SIZE {size}", "PIPELINING", "DSN", "ENHANCEDSTATUSCODES"]
        if self._tls_protocol:
            lines.append("AUTH LOGIN XOAUTH2")
        elif self.world.orders.take("smtp", what="strip-starttls") is None:
            lines.append("STARTTLS")
        else:
            # What a man in the middle does: no encryption, but a login for the taking.
            lines.append("AUTH LOGIN XOAUTH2")
        lines += ["8BITMIME", "SMTPUTF8"]
        for line in lines[:-1]:
            await self.push(f"250-{line}")
        await self.push(f"250 {lines[-1]}")

    async def smtp_STARTTLS(self, arg: str) -> None:
        """STARTTLS, perhaps with a line smuggled in behind the reply."""
        if await self._ordered("starttls"):
            return
        injected = self.world.orders.take("smtp", what="inject-after-starttls")
        if injected is not None:
            self._writer.write(b"220 2.0.0 SMTP server ready\r\n")
            self._writer.write(injected.text("text", "250 injected").encode() + b"\r\n")
            await self._writer.drain()
            self._ready_sent = True
        await super().smtp_STARTTLS(arg)

    async def smtp_AUTH(self, arg: str) -> None:
        """AUTH; before TLS it is refused as by Exchange."""
        if not self._tls_protocol:
            await self.push("530 5.7.57 Client not authenticated to send mail.")
            return
        self._auth_order = self.world.orders.take("smtp", what="challenge")
        if not await self._ordered("auth"):
            await super().smtp_AUTH(arg)

    async def auth_XOAUTH2(self, _: Any, args: list[str]) -> AuthResult:  # noqa: N802 - aiosmtpd's name
        """SASL XOAUTH2 in one line or two."""
        blob = await self._initial_response(args)
        if blob is None:
            return AuthResult(success=False, handled=True)
        parsed = smtp_auth.parse_xoauth2(blob)
        if parsed is None:
            return AuthResult(success=False, handled=False, message="501 5.5.4 Unable to parse XOAUTH2 response")
        return await self._conclude(smtp_auth.check_token(self.world, *parsed), parsed[0])

    async def auth_LOGIN(self, _: Any, args: list[str]) -> AuthResult:  # noqa: N802 - aiosmtpd's name
        """SASL LOGIN, for the password method."""
        name = base64.b64decode(args[1]) if len(args) == 2 else await self.challenge_auth("Username:")
        password = await self.challenge_auth("Password:")
        if not isinstance(name, bytes) or not isinstance(password, bytes):
            return AuthResult(success=False, handled=True)
        allowed = self.world.directory.policy.basic_auth
        address = name.decode("utf-8", "replace")
        verdict = smtp_auth.check_password(self.world, address, password.decode("utf-8", "replace"), allowed=allowed)
        return await self._conclude(verdict, address)

    async def _initial_response(self, args: list[str]) -> bytes | None:
        if len(args) == 1:
            answer = await self.challenge_auth(b"", encode_to_b64=False)
            return answer if isinstance(answer, bytes) else None
        try:
            return base64.b64decode(args[1], validate=True)
        except binascii.Error:
            await self.push("501 5.5.2 Cannot decode base64")
            return None

    async def _conclude(self, verdict: smtp_auth.Verdict, address: str) -> AuthResult:
        world = self.world
        good = verdict.mailbox is not None and world.mail.connect(verdict.mailbox.upn)
        world.log.add(
            "smtp.login", world.clock.now(), mailbox=address, ok=good, reason=verdict.reason, reply=verdict.reply[:9]
        )
        if verdict.mailbox is None:
            if self._auth_order is not None or world.directory.policy.xoauth2_challenge:
                await self.challenge_auth(smtp_auth.challenge())
            return AuthResult(success=False, handled=False, message=verdict.reply)
        if not good:
            return AuthResult(success=False, handled=False, message=NAMED["connections"][1])
        self.mailbox = verdict.mailbox.upn.lower()
        self.may_send_as = verdict.mailbox.addresses()
        for other in verdict.mailbox.send_as | (verdict.delegate.send_as if verdict.delegate else set()):
            self.may_send_as.add(other.lower())
        if verdict.delegate is not None:
            self.may_send_as |= verdict.delegate.addresses()
        return AuthResult(success=True, message=verdict.reply)

    async def smtp_MAIL(self, arg: str | None) -> None:
        """MAIL FROM, after login only."""
        if await self._ordered("mail"):
            return
        if not self.mailbox:
            await self.push("530 5.7.57 Client not authenticated to send mail.")
            return
        await super().smtp_MAIL(_IGNORED_PARAMETERS.sub("", arg or ""))

    async def smtp_RCPT(self, arg: str | None) -> None:
        """RCPT TO."""
        if not await self._ordered("rcpt"):
            await super().smtp_RCPT(_IGNORED_PARAMETERS.sub("", arg or ""))

    async def smtp_DATA(self, arg: str) -> None:
        """DATA."""
        if not await self._ordered("data"):
            await super().smtp_DATA(arg)

    async def smtp_RSET(self, arg: str) -> None:
        """RSET."""
        if not await self._ordered("rset"):
            await super().smtp_RSET(arg)

    async def smtp_QUIT(self, arg: str) -> None:
        """QUIT."""
        if not await self._ordered("quit"):
            await super().smtp_QUIT(arg)

    def connection_lost(self, error: Exception | None) -> None:
        """Give the mailbox its connection back."""
        if self.mailbox:
            self.world.mail.disconnect(self.mailbox)
            self.mailbox = ""
        self.on_lost(self)
        super().connection_lost(error)

    def abort(self) -> None:
        """End the connection at once."""
        self._cut(reset=False)


def named_order(body: dict[str, Any]) -> dict[str, Any]:
    """An order in its long form: `what` may be a name of the table of replies."""
    if body.get("target") != "smtp" or body.get("what") not in NAMED:
        return body
    stage, text = NAMED[str(body["what"])]
    return {**body, "what": "reply", "stage": body.get("stage", stage), "text": body.get("text", text)}


__all__ = ["STAGES", "ExchangeSmtp", "Handler", "named_order"]
