"""Email Daily Report: what the administrator can set, as values that check themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

SECTIONS = ("system", "traffic", "security", "mail", "events", "services")
LANGUAGES = ("en",)
MAX_RECIPIENTS = 16
WEEKDAYS = (1, 2, 3, 4, 5, 6, 7)  # ISO 8601: Monday is 1

_ADDRESS = re.compile(r"[^@\s,;<>\"()\x00-\x1f\x7f]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_OPTION = re.compile(r"%(%|[a-z]+)")


class InvalidReportSettings(ValueError):
    """Some values cannot be used; `errors` names each as (JSON pointer, what is wrong with it)."""

    def __init__(self, errors: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{pointer} {detail}" for pointer, detail in errors))
        self.errors = tuple(errors)


@dataclass(frozen=True, slots=True)
class ReportSettings:
    """Settings of the daily report.

    subject, title: may hold %hostname, %date, %time, %model, %version and %% (see `expand`).
    time: local time of day, `HH:MM`. time_zone: IANA name, empty for the gateway's own.
    weekdays: ISO numbers of the days it is sent on. sections: what it tells of.
    reset_counters: traffic counts from the last report on, instead of over the last 24 hours.
    """

    enabled: bool = False
    recipients: tuple[str, ...] = ()
    subject: str = "%hostname: daily report of %date"
    title: str = "Daily report"
    time: str = "07:00"
    time_zone: str = ""
    weekdays: tuple[int, ...] = WEEKDAYS
    language: str = "en"
    sections: tuple[str, ...] = SECTIONS
    attach_csv: bool = False
    attach_events: bool = False
    reset_counters: bool = False

    def as_json(self) -> dict[str, Any]:
        """The form that `PUT /api/v1/report/settings` takes and `GET` gives."""
        document = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in document.items()}

    @property
    def minute_of_day(self) -> int:
        """Minutes after midnight, local time."""
        hour, _, minute = self.time.partition(":")
        return int(hour) * 60 + int(minute)


def parse_report_settings(body: Mapping[str, Any], current: ReportSettings) -> ReportSettings:
    """The settings that a request asks for; what it leaves out stays. Raises InvalidReportSettings."""
    known = {field.name for field in fields(ReportSettings)}
    errors = [(f"/{name}", "is not known here") for name in sorted(set(body) - known)]
    merged = current.as_json() | {name: value for name, value in body.items() if name in known}
    values: dict[str, Any] = {}
    for name, check in _CHECKS.items():
        try:
            values[name] = check(merged[name])
        except (TypeError, ValueError) as error:
            errors.append((f"/{name}", str(error)))
    if not errors and values["enabled"] and not values["recipients"]:
        errors.append(("/recipients", "at least one is needed while the report is on"))
    if errors:
        raise InvalidReportSettings(errors)
    return ReportSettings(**values)


def report_settings_from(document: Mapping[str, Any]) -> ReportSettings:
    """Stored settings; a value that this version cannot use becomes its default."""
    defaults = ReportSettings()
    usable: dict[str, Any] = {}
    for name, check in _CHECKS.items():
        try:
            usable[name] = check(document[name])
        except (KeyError, TypeError, ValueError):
            usable[name] = getattr(defaults, name)
    return ReportSettings(**usable)


def expand(template: str, values: Mapping[str, str]) -> str:
    """The text with its `%` options put in; one that is not known stays as it is."""

    def put(match: re.Match[str]) -> str:
        name = match[1]
        return "%" if name == "%" else values.get(name, match[0])

    return " ".join(_OPTION.sub(put, template).split())


def is_address(text: str) -> bool:
    """True for one plain mail address."""
    return len(text) <= 254 and _ADDRESS.fullmatch(text) is not None and ".." not in text


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("must be true or false")
    return value


def _addresses(value: object) -> tuple[str, ...]:
    given = re.split(r"[\s,;]+", value.strip()) if isinstance(value, str) else value
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
        raise TypeError("must be a list of mail addresses")
    addresses = tuple(dict.fromkeys(each.strip() for each in given if each.strip()))
    if len(addresses) > MAX_RECIPIENTS:
        raise ValueError(f"must have at most {MAX_RECIPIENTS} addresses")
    for each in addresses:
        if not is_address(each):
            raise ValueError(f"{each[:100]!r} is not a mail address")
    return addresses


def _line(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("must be text")
    if not value.strip() or len(value) > 200 or not value.isprintable():
        raise ValueError("must be one line of at most 200 characters")
    return value.strip()


def _time(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"([01]?\d|2[0-3]):[0-5]\d", value.strip()):
        raise ValueError("must be a time of day, such as 07:00")
    return value.strip().zfill(5)


def _zone(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("must be text")
    if value:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("must be the name of a time zone, such as Europe/Berlin") from None
    return value


def _weekdays(value: object) -> tuple[int, ...]:
    if (
        not isinstance(value, list | tuple)
        or not value
        or any(type(day) is not int or day not in WEEKDAYS for day in value)
    ):
        raise ValueError("must be at least one day from 1 (Monday) to 7 (Sunday)")
    return tuple(sorted(set(value)))


def _language(value: object) -> str:
    if value not in LANGUAGES:
        raise ValueError(f"must be one of {', '.join(LANGUAGES)}")
    return str(value)


def _sections(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value or any(each not in SECTIONS for each in value):
        raise ValueError(f"must be at least one of {', '.join(SECTIONS)}")
    return tuple(section for section in SECTIONS if section in value)


_CHECKS: Mapping[str, Any] = {
    "enabled": _flag,
    "recipients": _addresses,
    "subject": _line,
    "title": _line,
    "time": _time,
    "time_zone": _zone,
    "weekdays": _weekdays,
    "language": _language,
    "sections": _sections,
    "attach_csv": _flag,
    "attach_events": _flag,
    "reset_counters": _flag,
}
