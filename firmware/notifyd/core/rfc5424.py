"""Records as syslog messages: RFC 5424 with structured data, and the layout that gateways of this family send.

Pure functions from a record to bytes; `adapters.syslog` carries them (RFC 5426 over UDP, RFC 6587 over TCP, RFC 5425
over TLS).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from notifyd.core.eventlog import FieldValue, Record, rfc3339

BOM = b"\xef\xbb\xbf"
MAX_MESSAGE = 8192  # RFC 5424 §6.1: 2048 should be taken, larger may be; rsyslog's and syslog-ng's own default is 8192
NIL = "-"

FACILITIES = {
    "kern": 0, "user": 1, "mail": 2, "daemon": 3, "auth": 4, "syslog": 5, "lpr": 6, "news": 7, "uucp": 8, "cron": 9,
    "authpriv": 10, "ftp": 11, "local0": 16, "local1": 17, "local2": 18, "local3": 19, "local4": 20, "local5": 21,
    "local6": 22, "local7": 23,
}  # fmt: skip

_NOT_PRINTUSASCII = re.compile(r"[^\x21-\x7e]+")
_NOT_SD_NAME = re.compile(r'[^\x21-\x7e]+|[= "\]]')
_FAMILY_CATEGORIES = {"auth": "User", "network": "Interface", "report": "Daily Report"}


@dataclass(frozen=True, slots=True)
class Origin:
    """Who speaks.

    enterprise: private enterprise number for the structured data's id; 32473 is reserved for examples (RFC 5612).
    device_id: the gateway's MAC address as 12 hexadecimal digits, for the family's layout.
    zone: local time for the family's layout, which has no zone of its own.
    """

    host: str
    facility: int = FACILITIES["local1"]
    process_id: str = NIL
    app: str = "notifyd"
    enterprise: int = 32473
    device_id: str = ""
    zone: tzinfo = UTC

    def priority(self, record: Record) -> int:
        """PRI (RFC 5424 §6.2.1): facility * 8 + severity."""
        return self.facility * 8 + record.level.severity


def rfc5424(record: Record, origin: Origin) -> bytes:
    """One RFC 5424 message: MSGID is the event's name, the fields are structured data, the record's id is `meta`'s.

    The byte order mark of §6.4 is there only when the text has more than ASCII, since some receivers print it.
    """
    head = " ".join(
        (
            f"<{origin.priority(record)}>1",
            rfc3339(record.time),
            _header(origin.host, 255),
            _header(origin.app, 48),
            _header(origin.process_id, 128),
            _header(record.event, 32),
            _structured_data(record, origin.enterprise),
        )
    )
    text = record.message.encode("utf-8", "replace")
    mark = b"" if text.isascii() else BOM
    message = head.encode("ascii", "replace") if head.isascii() else head.encode("utf-8", "replace")
    return _cut(message + b" " + mark + text)


def family(record: Record, origin: Origin) -> bytes:
    """One message as `<pri>Mon dd hh:mm:ss yyyy host src="" dst="" msg="" note="" user="" devID="" cat="" …`."""
    moment = datetime.fromtimestamp(min(max(record.time, 0.0), 253_402_300_799.0), UTC).astimezone(origin.zone)
    source = _text(record.fields.get("remote"))
    pairs = (
        ("src", f"{source}:0" if source else ""),
        ("dst", ""),
        ("msg", record.message),
        ("note", record.event),
        ("user", _text(record.fields.get("user"))),
        ("devID", re.sub("[^0-9a-f]", "", origin.device_id.lower())[:12]),
        ("cat", _FAMILY_CATEGORIES.get(record.category, "System")),
        ("action", ""),
    )
    stamp = f"{_MONTHS[moment.month - 1]} {moment.day:2d} {moment:%H:%M:%S} {moment.year}"
    layout = " ".join(f'{name}="{_family_value(value)}"' for name, value in pairs)
    return _cut(
        f"<{origin.priority(record)}>{stamp} {_family_value(_header(origin.host, 255))} {layout}".encode(
            "utf-8", "replace"
        )
    )


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def octet_counted(message: bytes) -> bytes:
    """A frame with its length in front (RFC 6587 §3.4.1; the only one RFC 5425 allows)."""
    return b"%d %s" % (len(message), message)


def line_framed(message: bytes) -> bytes:
    """A frame ended by a line feed (RFC 6587 §3.4.2), for collectors that know no other."""
    return message.replace(b"\n", b" ") + b"\n"


def _structured_data(record: Record, enterprise: int) -> str:
    sequence = (record.id - 1) % 2_147_483_647 + 1  # RFC 5424 §7.3.1: begins anew after its largest value
    ours: list[tuple[str, FieldValue]] = [("category", record.category), ("boot", record.boot_id)]
    seen = {"category", "boot"}
    for name, value in record.fields.items():
        plain = _NOT_SD_NAME.sub("_", name)[:32] or "_"
        if plain not in seen:
            seen.add(plain)
            ours.append((plain, value))
    parameters = " ".join(f'{name}="{_parameter(value)}"' for name, value in ours)
    return f'[meta sequenceId="{sequence}"][notifyd@{enterprise} {parameters}]'


def _parameter(value: FieldValue) -> str:
    """PARAM-VALUE (§6.3.3): the quotation mark, the backslash and the closing bracket are escaped."""
    return re.sub(r'(["\\\]])', r"\\\1", _text(value))


def _header(value: str, limit: int) -> str:
    return _NOT_PRINTUSASCII.sub("_", value)[:limit] or NIL


def _text(value: FieldValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _family_value(value: str) -> str:
    """The layout has no escape: what would end a value is replaced."""
    return re.sub(r"[\x00-\x1f\x7f]+", " ", value).replace('"', "'")


def _cut(message: bytes) -> bytes:
    """At most MAX_MESSAGE bytes, cut between two characters; what follows the cut is lost (§6.1)."""
    if len(message) <= MAX_MESSAGE:
        return message
    return message[:MAX_MESSAGE].decode("utf-8", "ignore").encode()
