"""What an event is: its level, its record and its message. The table of all events is `event_definitions`.

Nothing here touches a file or a clock. `adapters.eventlog` gives records their id, time and boot, and takes them to the
ring, the journal, syslog and the followers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from string import Formatter

FieldValue = str | int | float | bool | None
"""What a field of a record may hold: one line of text or a number, so that every consumer can carry it."""


class Level(StrEnum):
    """The severities of syslog (RFC 5424 §6.2.1), most urgent first; `severity` is the number on the wire."""

    EMERGENCY = "emergency"
    ALERT = "alert"
    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    NOTICE = "notice"
    INFO = "info"
    DEBUG = "debug"

    @property
    def severity(self) -> int:
        """0 for emergency to 7 for debug."""
        return _SEVERITY[self]

    def at_least(self, other: Level) -> bool:
        """True when this level is as urgent as `other`, or more."""
        return self.severity <= other.severity


_SEVERITY = {level: number for number, level in enumerate(Level)}

LEVELS: tuple[Level, ...] = tuple(Level)
"""Indexed by severity."""


def parse_level(text: str) -> Level:
    """A level by any of its usual names, case-insensitively (`err`, `warn`, `crit` … count).

    Raises ValueError for an unknown name.
    """
    name = text.strip().lower()
    return Level(_ALIASES.get(name, name))


_ALIASES = {
    "emerg": "emergency",
    "panic": "emergency",
    "crit": "critical",
    "err": "error",
    "warn": "warning",
    "information": "info",
    "informational": "info",
}


class Category(StrEnum):
    """What part of the gateway an event speaks of; the first word of its name."""

    TOKEN = "token"  # noqa: S105  # a category, not a credential
    SIGNIN = "signin"
    SETTINGS = "settings"
    SECRET = "secret"  # noqa: S105  # a category, not a credential
    MAIL = "mail"
    ALERT = "alert"
    REPORT = "report"
    AUTH = "auth"
    CLOCK = "clock"
    NETWORK = "network"
    STORE = "store"
    SERVICE = "service"
    SYSLOG = "syslog"


@dataclass(frozen=True, slots=True)
class Definition:
    """One kind of event.

    name: stable; `category.what`. Programs rely on it, messages may change.
    level: the usual one; whoever emits may raise or lower it when the case is better or worse than usual.
    message: a template over the fields, one line; `{expires_at}` and other `*_at` fields print as UTC dates.
    fields: name → what it holds. Other fields are kept too; these are the promised ones.
    action: what the administrator should do; empty when nothing.
    example: field values for the example line in `docs/events.md`.
    """

    name: str
    level: Level
    message: str
    fields: Mapping[str, str] = field(default_factory=dict)
    action: str = ""
    example: Mapping[str, FieldValue] = field(default_factory=dict)

    @property
    def category(self) -> Category:
        return Category(self.name.partition(".")[0])


@dataclass(frozen=True, slots=True)
class Record:
    """One event that happened.

    id: grows with every record, over restarts too; it may jump.
    time: wall-clock seconds since 1970, as wrong as the clock was.
    boot_id: which boot of the gateway it happened in (32 hex digits).
    """

    id: int
    time: float
    boot_id: str
    level: Level
    category: str
    event: str
    message: str
    fields: Mapping[str, FieldValue]

    def as_json(self) -> dict[str, object]:
        """The public form (design §4): `time` as RFC 3339 in UTC with milliseconds."""
        return {
            "id": self.id,
            "time": rfc3339(self.time),
            "boot_id": self.boot_id,
            "level": self.level.value,
            "category": self.category,
            "event": self.event,
            "message": self.message,
            "fields": dict(self.fields),
        }


def must_be_durable_at_once(record: Record) -> bool:
    """True for what may not be lost in a power cut: errors, and what happened to token, settings and logins."""
    return record.level.at_least(Level.ERROR) or record.category in _DURABLE_CATEGORIES


_DURABLE_CATEGORIES = frozenset({Category.TOKEN, Category.SETTINGS, Category.AUTH})


def rfc3339(wall: float) -> str:
    """Wall-clock seconds as `2026-11-25T01:02:03.004Z`; what no calendar can hold becomes its nearest end."""
    moment = datetime.fromtimestamp(min(max(wall, 0.0), _END_OF_CALENDAR), UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


_END_OF_CALENDAR = 253_402_300_799.0  # 9999-12-31T23:59:59Z


def render_message(template: str, fields: Mapping[str, FieldValue]) -> str:
    """The template with its fields put in; a field that is missing prints as `?`, so that no event is lost for it."""
    parts: list[str] = []
    for literal, name, _spec, _conversion in Formatter().parse(template):
        parts.append(literal)
        if name is not None:
            parts.append(_spoken(name, fields.get(name)))
    return "".join(parts)


def _spoken(name: str, value: FieldValue) -> str:
    if value is None or value == "":
        return "?"
    if name.endswith("_at") and isinstance(value, int | float) and not isinstance(value, bool):
        return rfc3339(value)[:19].replace("T", " ") + " UTC"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
