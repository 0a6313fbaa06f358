"""Syslog messages and the table that says where they go."""

from __future__ import annotations

import re
from datetime import timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyd.core.collectors import Collector, Transport, parse_syslog
from notifyd.core.eventlog import Level, Record
from notifyd.core.rfc5424 import MAX_MESSAGE, Origin, family, line_framed, octet_counted, rfc5424

RECORD = Record(
    2_147_483_648,
    1_795_572_000.25,
    "b" * 32,
    Level.NOTICE,
    "token",
    "token.retrieved",
    "Microsoft 365 token retrieved",
    {"account": 'a"b\\c]d', "ok": True, "n": 3},
)


def test_a_message_is_laid_out_as_the_rfc_says() -> None:
    """Header, structured data with escapes and text, byte for byte."""
    assert rfc5424(RECORD, Origin(host="usg", process_id="42")) == (
        b"<141>1 2026-11-25T02:00:00.250Z usg notifyd 42 token.retrieved "
        b'[meta sequenceId="1"][notifyd@32473 category="token" boot="' + b"b" * 32 + b'" '
        b'account="a\\"b\\\\c\\]d" ok="true" n="3"] Microsoft 365 token retrieved'
    )


def test_the_layout_of_the_family_is_as_gateways_send_it() -> None:
    """Order and names of the fields as in real lines, time in local time."""
    record = Record(
        1,
        1_795_572_000.25,
        "",
        Level.WARNING,
        "auth",
        "auth.login_failed",
        'x "y"\n',
        {"user": "admin", "remote": "10.0.0.9"},
    )
    origin = Origin(host="usgflex700h", device_id="F4:4D:5C:94:F5:17", zone=timezone(timedelta(hours=1)))
    assert family(record, origin) == (
        b'<140>Nov 25 03:00:00 2026 usgflex700h src="10.0.0.9:0" dst="" msg="x \'y\' " note="auth.login_failed" '
        b'user="admin" devID="f44d5c94f517" cat="User" action=""'
    )


@given(
    host=st.text(max_size=300),
    message=st.text(max_size=3000),
    fields=st.dictionaries(st.text(min_size=1, max_size=40), st.text(max_size=1500), max_size=8),
    time=st.floats(-1e12, 1e15),
)
def test_any_record_makes_one_bounded_message_in_either_layout(
    host: str, message: str, fields: dict[str, str], time: float
) -> None:
    """Never longer than a collector takes, always decodable, with a header of printable ASCII."""
    record = Record(1, time, "", Level.INFO, "mail", "mail.sent", message, fields)
    sent = rfc5424(record, Origin(host=host))
    assert len(sent) <= MAX_MESSAGE
    sent.decode("utf-8")
    assert re.match(rb"<142>1 \d{4}-\d\d-\d\dT[\d:.]+Z [\x21-\x7e]{1,255} notifyd - mail\.sent \[meta ", sent)
    other = family(record, Origin(host=host))
    assert len(other) <= MAX_MESSAGE
    assert b"\n" not in other
    assert other.count(b'"') == 16 or len(other) > MAX_MESSAGE - 4


def test_frames() -> None:
    """Octet counting counts bytes; a line frame holds one line."""
    assert octet_counted("ä".encode()) == "2 ä".encode()
    assert line_framed(b"a\nb") == b"a b\n"


def test_a_collector_is_read_from_the_table() -> None:
    """Every key, with its defaults."""
    syslog = parse_syslog(
        {
            "facility": "local0",
            "enterprise": 12345,
            "collectors": [
                {"url": "udp://10.0.0.1"},
                {
                    "url": "tls://[fd00::1]:6515", "level": "err", "categories": ["mail"], "format": "family",
                    "framing": "newline", "ca_file": "/ca.pem", "backlog": 5,
                },
            ],
        }
    )  # fmt: skip
    assert syslog.facility == 16
    assert syslog.enterprise == 12345
    assert syslog.collectors[0] == Collector(Transport.UDP, "10.0.0.1", 514)
    second = syslog.collectors[1]
    assert second == Collector(
        Transport.TLS, "fd00::1", 6515, Level.ERROR, frozenset({"mail"}), True, True, "/ca.pem", "", "", 5
    )
    assert second.name == "tls://[fd00::1]:6515"
    assert parse_syslog({}).collectors == ()


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"facility": "loud"}, "syslog.facility"),
        ({"x": 1}, "syslog.x"),
        ({"enterprise": "1"}, "syslog.enterprise"),
        ({"collectors": {}}, "syslog.collectors"),
        ({"collectors": [1]}, r"syslog.collectors\[0\]"),
        ({"collectors": [{"url": "http://x"}]}, "url"),
        ({"collectors": [{"url": "tcp://"}]}, "url"),
        ({"collectors": [{"url": "tcp://x:99999"}]}, "url"),
        ({"collectors": [{"url": "tcp://x/path"}]}, "url"),
        ({"collectors": [{"url": "tcp://x", "level": "loud"}]}, "level"),
        ({"collectors": [{"url": "tcp://x", "categories": ["weather"]}]}, "categories"),
        ({"collectors": [{"url": "tcp://x", "format": "cef"}]}, "format"),
        ({"collectors": [{"url": "tcp://x", "backlog": 0}]}, "backlog"),
        ({"collectors": [{"url": "tcp://x", "prot": 0}]}, "prot"),
        ({"collectors": [{"url": "tcp://x"}] * 9}, "at most 8"),
    ],
)
def test_a_bad_table_is_refused_by_key(table: dict[str, object], named: str) -> None:
    """The administrator learns which key is wrong."""
    with pytest.raises(ValueError, match=named):
        parse_syslog(table)
