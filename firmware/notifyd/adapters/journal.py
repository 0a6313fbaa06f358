"""Sinks for the system's log: the journal with its native protocol, or one line an event on stderr.

The native protocol is a datagram of `NAME=value` lines (systemd.io/JOURNAL_NATIVE_PROTOCOL): every field of an event
can be searched for (`journalctl NOTIFYD_EVENT=token.retrieved`), which a line of text would lose.
"""

from __future__ import annotations

import socket
import struct
import sys
from pathlib import Path
from typing import TextIO

from notifyd.core.eventlog import Record, rfc3339

JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
IDENTIFIER = "notifyd"


class Journal:
    """A sink that writes to the journal's socket. The journal being away loses the record there, and only there."""

    def __init__(self, path: Path = JOURNAL_SOCKET) -> None:
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def __call__(self, record: Record) -> None:
        """Sends the record. Raises OSError when the journal does not take it; the event log goes on."""
        self._socket.sendto(journal_datagram(record), self._path)

    def close(self) -> None:
        """Gives the socket back."""
        self._socket.close()


class Lines:
    """A sink that prints one line an event, for a terminal and for a service manager that collects stderr."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream

    def __call__(self, record: Record) -> None:
        """Prints the record."""
        self._stream.write(line(record) + "\n")
        self._stream.flush()


def system_sink() -> Journal | Lines:
    """The journal where there is one, else lines on stderr."""
    return Journal() if JOURNAL_SOCKET.exists() else Lines()


def line(record: Record) -> str:
    """One record as one line of text: time, level, event, message and the fields that the message may not show."""
    fields = " ".join(f"{name}={_quoted(value)}" for name, value in record.fields.items())
    text = f"{rfc3339(record.time)} {record.level.value:<8} {record.event}: {record.message}"
    return f"{text} [{fields}]" if fields else text


def _quoted(value: object) -> str:
    text = str(value)
    if text and not any(char in text for char in ' "=[]\\'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def journal_datagram(record: Record) -> bytes:
    """The record in the native form; its fields are named `NOTIFYD_…` so that they cannot pose as the journal's."""
    pairs = [
        ("MESSAGE", record.message),
        ("PRIORITY", str(record.level.severity)),
        ("SYSLOG_IDENTIFIER", IDENTIFIER),
        ("NOTIFYD_ID", str(record.id)),
        ("NOTIFYD_EVENT", record.event),
        ("NOTIFYD_CATEGORY", record.category),
    ]
    pairs += [(f"NOTIFYD_FIELD_{name.upper()}", str(value)) for name, value in record.fields.items()]
    return b"".join(_pair(name, value) for name, value in pairs)


def _pair(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "replace")
    if b"\n" in data:
        return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return name.encode() + b"=" + data + b"\n"
