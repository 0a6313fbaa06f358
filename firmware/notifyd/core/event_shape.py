"""Brings whatever was emitted into the form of a record: defined, one line, bounded, and without secrets.

Total: any name and any values give a draft, because the place that reports a fault must not fail itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import Enum

from notifyd.core.event_definitions import DEFINITIONS
from notifyd.core.eventlog import Category, FieldValue, Level, parse_level, render_message
from notifyd.core.redact import clean_text, is_secret_name, redact_field, redact_text
from notifyd.core.secret import REDACTED, Secret

MAX_FIELDS = 32
MAX_FIELD_CHARS = 1000  # the longest server reply worth keeping; a record stays below 64 KiB whatever happens
MAX_TRACE_CHARS = 6000
MAX_MESSAGE_CHARS = 2000

_EVENT_NAME = re.compile(r"[a-z][a-z0-9]{1,15}\.[a-z][a-z0-9_]{1,39}")
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9_]+")
_CATEGORIES = frozenset(Category)


@dataclass(frozen=True, slots=True)
class Draft:
    """A record before the log gave it its id, time and boot."""

    level: Level
    category: str
    event: str
    message: str
    fields: Mapping[str, FieldValue]


def usual_level(event: str, wish: Level | str | None = None) -> Level:
    """The level an event is emitted at: the wish when it names a level, else the definition's, else warning."""
    if wish is not None:
        try:
            return parse_level(str(wish))
        except ValueError:
            return Level.WARNING
    definition = DEFINITIONS.get(event)
    return Level.WARNING if definition is None else definition.level


def draft(event: str, level: Level, message: str | None, fields: Mapping[str, object]) -> Draft:
    """The event as it may be stored and shown. An undefined name is kept when it looks like one."""
    shown = shaped_fields(fields)
    said = "" if message is None else redact_text(clean_text(message, MAX_MESSAGE_CHARS))
    if not _EVENT_NAME.fullmatch(event):
        shown = {
            **shown,
            "name": clean_text(redact_text(event), 100),
            "text": shown.get("text", said[:MAX_FIELD_CHARS]),
        }
        event = "service.undefined"
    if message is not None:
        text = said
    elif event in DEFINITIONS:
        text = clean_text(render_message(DEFINITIONS[event].message, shown), MAX_MESSAGE_CHARS)
    else:
        text = event
    category = event.partition(".")[0]
    return Draft(level, category if category in _CATEGORIES else Category.SERVICE.value, event, text, shown)


def shaped_fields(fields: Mapping[str, object]) -> dict[str, FieldValue]:
    """The fields as flat, bounded, clean values; None is left out, what does not fit is cut."""
    shaped: dict[str, FieldValue] = {}
    for name, value in fields.items():
        if value is None:
            continue
        if len(shaped) == MAX_FIELDS:
            break
        plain = _NOT_IN_A_NAME.sub("_", str(name).lower())[:40].strip("_") or "field"
        shaped[plain] = _shaped_value(plain, value)
    return shaped


def _shaped_value(name: str, value: object) -> FieldValue:
    if isinstance(value, bool):
        return value
    if isinstance(value, Secret):
        return REDACTED
    if isinstance(value, int | float) and not isinstance(value, Enum):
        if is_secret_name(name):
            return REDACTED
        return value if math.isfinite(value) and abs(value) < 1e18 else str(value)[:40]
    limit = MAX_TRACE_CHARS if name == "exception" else MAX_FIELD_CHARS
    return redact_field(name, clean_text(_as_text(value), limit))


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes | bytearray):
        return value.decode("utf-8", "replace")
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(_as_text(part) for part in list(value)[:100])
    try:
        return str(value)
    except Exception as fault:  # whatever __str__ raises, the event is worth more
        return f"unprintable {type(value).__name__} ({type(fault).__name__})"
