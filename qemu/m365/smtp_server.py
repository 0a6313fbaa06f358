"""One connection to the mail submission server: aiosmtpd with Exchange's manners and failures on order.

What becomes of senders, recipients and messages is `smtp_handler`'s.
"""

# ruff: noqa: N802 - aiosmtpd finds commands and mechanisms by these names

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
from typing import Any, Protocol, cast

from aiosmtpd.smtp import SMTP, AuthResult, Session

from qemu.m365 import smtp_auth
from qemu.m365.catalogue import SMTP_AT_STAGE
from qemu.m365.orders import Order
from qemu.m365.smtp_replies import NAMED, WORDING
from qemu.m365.world import World

HOSTNAME = "AM0PR08CA0001.outlook.office365.com"
# RFC 4954 §4 lets an authentication line have 12288 octets; refresh-token-sized ones are tried against clients too.
_AUTH_LINE = 49152
_LINE = 65536
_COMMAND_LINE = 2048
_FOREVER = 3600.0
# Delivery status notifications (RFC 3461) and RFC 4954's AUTH=: Exchange takes them, aiosmtpd does not know them.
_IGNORED_PARAMETERS = re.compile(r"\s+(?:RET|ENVID|NOTIFY|ORCPT|AUTH)=\S+", re.IGNORECASE)


class Gone(Exception):
    """The connection was cut on order; nothing more may be sent on it."""


class _Abortable(Protocol):
    def abort(self) -> None: ...
    def get_extra_info(self, name: str) -> Any: ...


class ExchangeSmtp(SMTP):
    """One connection. `mailbox` is who is logged in, empty before."""

    line_length_limit = _LINE

    def __init__(self, world: World, handler: object, context: ssl.SSLContext, loop: asyncio.AbstractEventLoop) -> None:
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
        self.on_lost: Callable[[ExchangeSmtp], None] = lambda connection: None
        self.command_size_limits = collections.defaultdict(lambda: _COMMAND_LINE, AUTH=_AUTH_LINE)
        self._challenge_ordered = False
        self._greeted = False
        self._ready_sent = False

    # ---- orders ---------------------------------------------------------------------------------------------------

    async def at_stage(self, stage: str, **facts: str) -> str:
        """Play an order for this stage. Returns the ordered reply, empty to go on. Raises Gone."""
        self.world.log.add(f"smtp.{stage}", self.world.clock.now(), mailbox=self.mailbox)
        order = self.world.orders.take("smtp", SMTP_AT_STAGE, stage=stage, **facts)
        if order is None:
            return ""
        if order.what == "reply":
            return order.text("text", "451 4.7.500 Server busy. Please try again later.")
        if order.what == "latency":
            await asyncio.sleep(order.number("seconds", 1))
            return ""
        await self._break_off(order)
        raise Gone

    async def _break_off(self, order: Order) -> None:
        if order.what == "hang":
            await asyncio.sleep(order.number("seconds", _FOREVER))
        if order.what == "partial-reply":
            self._writer.write(order.text("text", "250 2.").encode())
            await self._writer.drain()
        self.abort(reset=order.what == "reset")

    def abort(self, *, reset: bool = False) -> None:
        """End the connection at once, with a TCP reset if asked."""
        transport = cast("_Abortable | None", self._original_transport or self.transport)
        if transport is None:
            return
        connection = transport.get_extra_info("socket")
        if reset and connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    async def _ordered(self, stage: str) -> bool:
        """Answer this command by an order, when there is one for it."""
        reply = await self.at_stage(stage)
        if reply:
            await self.push(reply)
        return bool(reply)

    async def handle_exception(self, error: Exception) -> str:
        """Anything unforeseen ends the session as Exchange would; after Gone nothing is sent any more."""
        return "421 4.3.0 Temporary server error, closing transmission channel"

    async def push(self, status: Any) -> None:
        """Send a reply, in Exchange's words; after a 421 the connection ends. The first reply is the banner."""
        if not self._greeted:
            self._greeted = True
            status = await self._banner(status)
        if self._writer.transport.is_closing():
            return
        if self._ready_sent:
            self._ready_sent = False
            return
        await super().push(WORDING.get(status, status) if isinstance(status, str) else status)
        if str(status).startswith("421") and self.transport is not None:
            self.transport.close()

    async def _banner(self, usual: Any) -> Any:
        order = self.world.orders.take("smtp", ("huge-banner",))
        if order is not None:
            line = b"220-" + b"x" * 500 + b"\r\n"
            self._writer.write(line * (int(order.number("bytes", 8 << 20)) // len(line) + 1))
        try:
            reply = await self.at_stage("connect")
        except Gone:
            return usual
        if reply and self.transport is not None and not reply.startswith("220"):
            await super().push(reply)
            self.transport.close()
        return reply or usual

    # ---- commands -------------------------------------------------------------------------------------------------

    async def smtp_EHLO(self, hostname: str) -> None:
        """EHLO, with Exchange's list."""
        session = self.session
        if not hostname or session is None:
            await self.push("501 5.5.4 Invalid domain name")
            return
        if await self._ordered("ehlo"):
            return
        self.envelope = self._create_envelope()
        session.extended_smtp, session.host_name = True, hostname
        lines = self._extensions(session)
        for line in lines[:-1]:
            await self.push(f"250-{line}")
        await self.push(f"250 {lines[-1]}")

    def _extensions(self, session: Session) -> list[str]:
        peer = session.peer[0] if session.peer else ""
        login = "AUTH LOGIN XOAUTH2"
        # Without STARTTLS the list is what a man in the middle shows: no encryption, and a login for the taking.
        stripped = not self._tls_protocol and self.world.orders.take("smtp", ("strip-starttls",)) is not None
        offered = login if self._tls_protocol or stripped else "STARTTLS"
        size = f"SIZE {self.world.mail.limits.message_bytes}"
        first = [f"{HOSTNAME} Hello [{peer}]", size, "PIPELINING", "DSN", "ENHANCEDSTATUSCODES"]
        return [*first, offered, "8BITMIME", "SMTPUTF8"]

    async def smtp_STARTTLS(self, arg: str) -> None:
        """STARTTLS, perhaps with a line smuggled in behind the reply."""
        if await self._ordered("starttls"):
            return
        injected = self.world.orders.take("smtp", ("inject-after-starttls",))
        if injected is not None:
            text = injected.text("text", "250 2.0.0 injected")
            self._writer.write(f"220 2.0.0 SMTP server ready\r\n{text}\r\n".encode())
            await self._writer.drain()
            self._ready_sent = True
        await super().smtp_STARTTLS(arg)

    async def smtp_AUTH(self, arg: str) -> None:
        """AUTH; before TLS it is refused as by Exchange."""
        if not self._tls_protocol:
            await self.push("530 5.7.57 Client not authenticated to send mail.")
            return
        challenge = self.world.orders.take("smtp", ("challenge",))
        self._challenge_ordered = challenge is not None or self.world.directory.policy.xoauth2_challenge
        if not await self._ordered("auth"):
            await super().smtp_AUTH(arg)

    async def auth_XOAUTH2(self, _: Any, args: list[str]) -> AuthResult:
        """SASL XOAUTH2 in one line or two."""
        blob = await self._initial_response(args)
        if blob is None:
            return AuthResult(success=False, handled=True)
        parsed = smtp_auth.parse_xoauth2(blob)
        if parsed is None:
            return AuthResult(success=False, handled=False, message="501 5.5.4 Unable to parse XOAUTH2 response")
        return await self._conclude(smtp_auth.check_token(self.world, *parsed), parsed[0])

    async def auth_LOGIN(self, _: Any, args: list[str]) -> AuthResult:
        """SASL LOGIN, for the password method."""
        name = await self._initial_response(args, "Username:")
        password = await self.challenge_auth("Password:") if name is not None else None
        if name is None or not isinstance(password, bytes):
            return AuthResult(success=False, handled=True)
        address = name.decode("utf-8", "replace")
        verdict = smtp_auth.check_password(self.world, address, password.decode("utf-8", "replace"))
        return await self._conclude(verdict, address)

    async def _initial_response(self, args: list[str], prompt: str = "") -> bytes | None:
        """The client's first word, sent along with AUTH or asked for; None when it was refused already."""
        if len(args) == 1:
            answer = await self.challenge_auth(prompt)
            return answer if isinstance(answer, bytes) else None
        try:
            return base64.b64decode(args[1], validate=True)
        except binascii.Error:
            await self.push("501 5.5.2 Cannot decode base64")
            return None

    async def _conclude(self, verdict: smtp_auth.Verdict, address: str) -> AuthResult:
        world, owner = self.world, verdict.mailbox
        good = owner is not None and world.mail.connect(owner.upn)
        facts = {"mailbox": address, "ok": good, "reason": verdict.reason, "reply": verdict.reply[:11]}
        world.log.add("smtp.login", world.clock.now(), **facts)
        if owner is None:
            if self._challenge_ordered:
                await self.challenge_auth(smtp_auth.challenge())
            return AuthResult(success=False, handled=False, message=verdict.reply)
        if not good:
            return AuthResult(success=False, handled=False, message=NAMED["connections"][1])
        self.mailbox = owner.upn.lower()
        people = (owner, verdict.delegate or owner)
        self.may_send_as = {a for user in people for a in (*user.addresses(), *(s.lower() for s in user.send_as))}
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
        """RCPT TO; orders for it are played by the handler, which knows the address."""
        await super().smtp_RCPT(_IGNORED_PARAMETERS.sub("", arg or ""))

    async def smtp_DATA(self, arg: str) -> None:
        """DATA, perhaps broken off in the midst of the text."""
        if await self._ordered("data"):
            return
        order = self.world.orders.take("smtp", ("drop", "reset", "hang"), stage="body")
        if order is None:
            await super().smtp_DATA(arg)
            return
        await self.push("354 Start mail input; end with <CRLF>.<CRLF>")
        await self._reader.readexactly(int(order.number("after", 64)))
        await self._break_off(order)
        raise Gone

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
