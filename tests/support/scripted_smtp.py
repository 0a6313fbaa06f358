"""An SMTP server that says exactly what a test wrote down, and keeps every byte that it was sent."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from qemu.m365.authority import TlsMaterial

DROP = "drop"
USUAL: Mapping[str, str] = {
    "connect": "220 mail.test ESMTP",
    "EHLO": "250-mail.test\r\n250-STARTTLS\r\n250-SIZE 1000000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
    "250 AUTH PLAIN LOGIN XOAUTH2",
    "STARTTLS": "220 2.0.0 go ahead",
    "AUTH": "235 2.7.0 ok",
    "MAIL": "250 2.1.0 ok",
    "RCPT": "250 2.1.5 ok",
    "DATA": "354 go on",
    "message": "250 2.0.0 taken",
    "RSET": "250 2.0.0 ok",
    "QUIT": "221 2.0.0 bye",
}  # fmt: skip


@dataclass
class ScriptedSmtp:
    """replies: per verb (or `connect`, `message`), a reply, a list of replies used up one after the other, or DROP.

    clear, secured: bytes received before and after TLS; lines: commands; messages: what came between DATA and the dot.
    """

    replies: dict[str, str | list[str]] = field(default_factory=dict)
    clear: bytearray = field(default_factory=bytearray)
    secured: bytearray = field(default_factory=bytearray)
    lines: list[str] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    port: int = 0
    ca_file: Path = Path()
    context: ssl.SSLContext | None = None

    def reply(self, verb: str) -> str:
        wanted = self.replies.get(verb, USUAL.get(verb, "500 5.5.1 what?"))
        if isinstance(wanted, list):
            return wanted.pop(0) if wanted else USUAL[verb]
        return wanted

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
            return
        finally:
            writer.close()

    async def _say(self, writer: asyncio.StreamWriter, verb: str) -> str:
        """Send the reply and return it; empty when the connection is to end."""
        text = self.reply(verb)
        if text == DROP:
            return ""
        writer.write(text.encode() + b"\r\n")
        await writer.drain()
        return "" if text.startswith("421") else text

    def take(self, message: bytes) -> None:
        """A whole message came; the reply to it follows."""
        self.messages.append(message)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        secured = False
        said = await self._say(writer, "connect")
        while said and (line := await reader.readline()):
            (self.secured if secured else self.clear).extend(line)
            self.lines.append(line.decode("utf-8", "replace").removesuffix("\r\n"))
            verb = line.split(b" ", 1)[0].strip().upper().decode("ascii", "replace") or "empty"
            verb = verb if verb in USUAL else "AUTH"
            said = await self._say(writer, verb)
            if verb == "STARTTLS" and said and self.context is not None:
                await writer.start_tls(self.context)
                secured = True
            elif verb == "DATA" and said.startswith("354"):
                message = await reader.readuntil(b"\r\n.\r\n")
                (self.secured if secured else self.clear).extend(message)
                self.take(message.removesuffix(b".\r\n"))
                said = await self._say(writer, "message")
            elif verb == "QUIT":
                said = ""


@asynccontextmanager
async def scripted_smtp(
    tls: TlsMaterial, replies: dict[str, str | list[str]] | None = None, certificate: str = "good"
) -> AsyncIterator[ScriptedSmtp]:
    """A running server with a certificate for localhost (`certificate`: see TlsMaterial.KINDS)."""
    server = ScriptedSmtp(replies or {}, ca_file=tls.ca_file, context=tls.context(certificate))
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield server
