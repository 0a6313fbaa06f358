"""Below SMTP: the TLS that is accepted, the bytes of a message on the wire, and faults by name."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path


def faults() -> tuple[type[Exception], ...]:
    """Everything that the network, TLS or aiosmtplib raises for what the other side did."""
    from aiosmtplib.errors import SMTPException

    return (OSError, TimeoutError, ValueError, SMTPException)


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or newer, certificate and name checked, against one CA file or the system's authorities."""
    context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def stuff_dots(message: bytes) -> bytes:
    """A message with CRLF line ends made transparent (RFC 5321 §4.5.2), ending in CRLF."""
    stuffed = message.replace(b"\r\n.", b"\r\n..")
    if stuffed.startswith(b"."):
        stuffed = b"." + stuffed
    return stuffed if stuffed.endswith(b"\r\n") else stuffed + b"\r\n"


def fault_of(error: BaseException) -> tuple[str, str]:
    """(kind for `network_problem`, words) of a fault below SMTP, from the deepest cause that says something."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(chain) < 8:
        chain.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    for link in chain:
        if (kind := _kind_of(link)) is not None:
            return kind, str(link) or type(link).__name__
    return "network", str(error) or type(error).__name__


def _kind_of(error: BaseException) -> str | None:
    match error:
        case ssl.SSLCertVerificationError():
            return {9: "tls-time", 10: "tls-time", 62: "name", 64: "name"}.get(error.verify_code, "tls")
        case ssl.SSLError():
            return "version" if any(w in str(error).upper() for w in ("VERSION", "UNSUPPORTED_PROTOCOL")) else "tls"
        case socket.gaierror():
            return "dns"
        case ConnectionRefusedError():
            return "refused"
        case ConnectionResetError() | BrokenPipeError() | ConnectionAbortedError():
            return "reset"
        case TimeoutError():
            return "timeout"
        case OSError() if error.errno is not None:
            return "network"
    return "reset" if type(error).__name__ == "SMTPServerDisconnected" and error.__cause__ is None else None
