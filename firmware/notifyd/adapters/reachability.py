"""Looks at the way to a mail or login host, one step at a time, for the administrator's diagnosis. Sends no secret."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

STEP_DEADLINE_S = 10.0
MAX_HEAD = 16 * 1024


@dataclass(frozen=True, slots=True)
class Look:
    """What a step saw. date: the HTTP `Date` header that came with it, if one did."""

    ok: bool
    evidence: str
    date: str = ""


async def resolve(host: str) -> Look:
    """The host's addresses."""
    try:
        async with asyncio.timeout(STEP_DEADLINE_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        return Look(False, _words(error))
    addresses = dict.fromkeys(str(item[4][0]) for item in found)
    return Look(True, ", ".join(list(addresses)[:6]))


async def connect(host: str, port: int) -> Look:
    """Whether something accepts a TCP connection there."""
    try:
        async with asyncio.timeout(STEP_DEADLINE_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, UnicodeError, TimeoutError) as error:
        return Look(False, _words(error))
    peer = writer.get_extra_info("peername")
    await _close(writer)
    return Look(True, f"{peer[0]} port {peer[1]} answers")


async def mail_tls(host: str, port: int, ca_file: str, *, implicit: bool) -> Look:
    """TLS with the mail server, by STARTTLS or from the first byte, with its certificate checked."""
    try:
        async with asyncio.timeout(STEP_DEADLINE_S):
            context = tls_context(ca_file)
            reader, writer = await asyncio.open_connection(host, port, ssl=context if implicit else None)
            try:
                if not implicit:
                    await _starttls(reader, writer, host, context)
                return Look(True, _describe(writer))
            finally:
                await _close(writer)
    except (OSError, UnicodeError, TimeoutError, ValueError) as error:
        return Look(False, _words(error))


async def login_host(url: str, ca_file: str) -> Look:
    """The OpenID description behind the https address `url`: status line, and the host's clock."""
    host, _, path = url.removeprefix("https://").partition("/")
    name, _, port = host.partition(":")
    try:
        async with asyncio.timeout(STEP_DEADLINE_S):
            reader, writer = await asyncio.open_connection(name, int(port or 443), ssl=tls_context(ca_file))
            try:
                writer.write(f"GET /{path} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\n\r\n".encode())
                await writer.drain()
                head = await reader.readuntil(b"\r\n\r\n")
            finally:
                await _close(writer)
    except (OSError, UnicodeError, TimeoutError, ValueError, EOFError, asyncio.LimitOverrunError) as error:
        return Look(False, _words(error))
    status, *headers = head.decode("latin-1").split("\r\n")
    date = next((line[5:].strip() for line in headers if line.lower().startswith("date:")), "")
    return Look(" 200" in status, status[:80], date)


def tls_context(ca_file: str) -> ssl.SSLContext:
    """TLS 1.2 or newer, names and chains checked, against `ca_file` or the system's roots."""
    context = ssl.create_default_context(cafile=ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


async def _starttls(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, context: ssl.SSLContext
) -> None:
    await _expect(reader, "220", "greeting")
    writer.write(b"EHLO [127.0.0.1]\r\n")
    offered = await _expect(reader, "250", "EHLO")
    if not any("STARTTLS" in line.upper() for line in offered):
        raise ValueError("the server does not offer STARTTLS")
    writer.write(b"STARTTLS\r\n")
    await _expect(reader, "220", "STARTTLS")
    await writer.start_tls(context, server_hostname=host)


async def _expect(reader: asyncio.StreamReader, code: str, step: str) -> Sequence[str]:
    lines: list[str] = []
    while len(lines) < 64:
        line = (await reader.readline()).decode("latin-1").rstrip("\r\n")
        lines.append(line)
        if line[3:4] != "-":
            break
    if not lines[-1].startswith(code):
        raise ValueError(f"{step}: the server says {lines[-1][:120]!r}")
    return lines


def _describe(writer: asyncio.StreamWriter) -> str:
    tls = writer.get_extra_info("ssl_object")
    certificate = writer.get_extra_info("peercert") or {}
    names = ", ".join(value for _, value in certificate.get("subjectAltName", ())[:4])
    return f"{tls.version()}, certificate for {names}, valid until {certificate.get('notAfter', '?')}"


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(2.0):
            await writer.wait_closed()


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return f"no answer within {STEP_DEADLINE_S:.0f} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
