"""What Exchange does with senders, recipients and whole messages: rights, limits, storing."""

# ruff: noqa: N802 - aiosmtpd finds hooks by these names

from __future__ import annotations

from email.utils import getaddresses

from aiosmtpd.smtp import Envelope, Session

from qemu.m365.mailstore import Arrived
from qemu.m365.smtp_replies import NAMED
from qemu.m365.smtp_server import HOSTNAME, ExchangeSmtp
from qemu.m365.world import World


class Handler:
    """Hooks of aiosmtpd."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def handle_MAIL(
        self, server: ExchangeSmtp, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """A sender was named; whether the mailbox may use it is said at the end, as Exchange does."""
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 Sender OK"

    async def handle_RCPT(
        self, server: ExchangeSmtp, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """A recipient was named."""
        reply = await server.at_stage("rcpt", address=address.lower())
        if reply:
            return reply
        if len(envelope.rcpt_tos) >= self.world.mail.limits.recipients_per_message:
            return NAMED["too-many-recipients"][1]
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Recipient OK"

    async def handle_DATA(self, server: ExchangeSmtp, session: Session, envelope: Envelope) -> str:
        """A whole message came."""
        reply = await server.at_stage("message")
        if reply:
            return reply
        content = envelope.content
        raw = content if isinstance(content, bytes) else str(content or "").encode("utf-8", "surrogateescape")
        sender, recipients = envelope.mail_from or "", list(envelope.rcpt_tos)
        message = Arrived(server.mailbox, sender, recipients, raw, self.world.clock.now())
        refusal = self._refusal(server, message) or await self._within_rate(server.mailbox)
        if refusal:
            return refusal
        message.time = self.world.clock.now()
        self.world.mail.store(message)
        self.world.log.add("smtp.accepted", self.world.clock.now(), id=message.id, mailbox=message.mailbox)
        reply = await server.at_stage("stored")
        return reply or f"250 2.0.0 OK <{message.id}@{HOSTNAME}> [Hostname={HOSTNAME}]"

    def _refusal(self, server: ExchangeSmtp, message: Arrived) -> str:
        """What Exchange says of a message it will not take, empty when it takes it."""
        owner = self.world.directory.mailbox(server.mailbox)
        if owner is not None and owner.mailbox_full:
            return NAMED["mailbox-full"][1]
        if self.world.mail.recipients_left(server.mailbox) < len(message.recipients):
            return NAMED["quota"][1]
        named = [address for _, address in getaddresses(message.parsed().get_all("From", []))]
        for address in (message.mail_from, *named):
            if address and address.lower() not in server.may_send_as:
                usual = NAMED["send-as-denied"][1].replace("gateway@contoso.example", server.mailbox)
                return usual.replace("other@contoso.example", address)
        return ""

    async def _within_rate(self, mailbox: str) -> str:
        """Wait or refuse as the limits say; empty when the message may be stored now."""
        store, account = self.world.mail, self.world.mail.account(mailbox)
        if store.limits.over_rate == "ignore" or store.wait_needed(mailbox) <= 0:
            return ""
        if store.limits.over_rate == "refuse":
            account.refused_rate += 1
            return NAMED["rate"][1]
        account.delayed += 1
        while (wait := store.wait_needed(mailbox)) > 0:
            await self.world.clock.sleep(wait)
        return ""
