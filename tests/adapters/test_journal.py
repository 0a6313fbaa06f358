"""The journal's datagrams and the lines on stderr."""

from __future__ import annotations

import io
import socket
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyd.adapters.journal import Journal, Lines, journal_datagram, line
from notifyd.core.event_shape import shaped_fields
from notifyd.core.eventlog import Level, Record

RECORD = Record(
    7,
    1_795_572_000.25,
    "b" * 32,
    Level.NOTICE,
    "token",
    "token.retrieved",
    "Microsoft 365 token retrieved for gateway@contoso.example",
    {"account": "gateway@contoso.example", "note": 'a "quoted" [text]', "empty": ""},
)


def read_datagram(data: bytes) -> dict[str, str]:
    """What journald reads from a datagram: `NAME=value` lines, or `NAME`, 64-bit length and value."""
    fields = {}
    while data:
        head, _, rest = data.partition(b"\n")
        if b"=" in head:
            name, _, value = head.partition(b"=")
            data = rest
        else:
            name, (length,) = head, struct.unpack("<Q", rest[:8])
            value, data = rest[8 : 8 + length], rest[8 + length + 1 :]
        fields[name.decode()] = value.decode()
    return fields


def test_the_journal_gets_every_field_by_name() -> None:
    """Message, priority and identifier as the journal wants them, ours under names of our own."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "socket"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
            server.bind(str(path))
            journal = Journal(path)
            journal(RECORD)
            fields = read_datagram(server.recv(65536))
            journal.close()
    assert fields["MESSAGE"] == RECORD.message
    assert fields["PRIORITY"] == "5"
    assert fields["SYSLOG_IDENTIFIER"] == "notifyd"
    assert fields["NOTIFYD_EVENT"] == "token.retrieved"
    assert fields["NOTIFYD_FIELD_ACCOUNT"] == "gateway@contoso.example"


def test_a_journal_that_is_away_is_an_error_for_its_caller_only(tmp_path: Path) -> None:
    """The sink says so; the event log goes on with the others."""
    journal = Journal(tmp_path / "none")
    with pytest.raises(OSError, match="No such file"):
        journal(RECORD)
    journal.close()


@given(st.text(), st.dictionaries(st.text(min_size=1), st.text(), max_size=5))
def test_no_field_can_pose_as_another(message: str, fields: dict[str, str]) -> None:
    """Whatever a value holds, the reader sees exactly our names, each with our value."""
    shown = shaped_fields(fields)
    record = Record(1, 0.0, "", Level.INFO, "mail", "mail.sent", message, shown)
    read = read_datagram(journal_datagram(record))
    assert read["MESSAGE"] == message.encode("utf-8", "replace").decode()
    expected = {f"NOTIFYD_FIELD_{name.upper()}": str(value) for name, value in shown.items()}
    assert {name: value for name, value in read.items() if name.startswith("NOTIFYD_FIELD_")} == expected


def test_a_line_shows_time_level_event_message_and_fields() -> None:
    """One line a person and a program can read."""
    stream = io.StringIO()
    Lines(stream)(RECORD)
    assert stream.getvalue() == (
        "2026-11-25T02:00:00.250Z notice   token.retrieved: Microsoft 365 token retrieved for gateway@contoso.example "
        '[account=gateway@contoso.example note="a \\"quoted\\" [text]" empty=""]\n'
    )
    assert line(Record(1, 0.0, "", Level.INFO, "mail", "mail.sent", "m", {})).endswith("mail.sent: m")
