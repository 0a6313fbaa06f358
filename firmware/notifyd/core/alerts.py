"""Alerts by mail: which events make one, and how a storm of them becomes one mail (pure).

A failure of mail never causes mail: events about mail, its token, the report and the alerts themselves are never
mailed, whatever the settings say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from notifyd.core.eventlog import Category, Level, Record, parse_level, rfc3339
from notifyd.core.report_settings import is_address

NEVER_MAILED = frozenset({Category.MAIL, Category.TOKEN, Category.REPORT, Category.ALERT, Category.SYSLOG})
MAILED = tuple(category.value for category in Category if category not in NEVER_MAILED)
GATHER_S = 20.0  # what breaks together is told together
MAX_LISTED = 50  # events that a mail lists; the rest it counts
MAX_KINDS = 100


class InvalidAlertSettings(ValueError):
    """Some values cannot be used; `errors` names each as (JSON pointer, what is wrong with it)."""

    def __init__(self, errors: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{pointer} {detail}" for pointer, detail in errors))
        self.errors = tuple(errors)


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """level: this urgent or more. categories: of MAILED; empty is all. interval_min: at most one mail in that time."""

    enabled: bool = False
    recipients: tuple[str, ...] = ()
    level: Level = Level.ERROR
    categories: tuple[str, ...] = ()
    interval_min: int = 15

    def as_json(self) -> dict[str, Any]:
        """The form that the API takes and gives."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return values | {
            "recipients": list(self.recipients), "level": self.level.value, "categories": list(self.categories)
        }  # fmt: skip

    def wants(self, record: Record) -> bool:
        """Whether a record is told of by mail."""
        return (
            self.enabled
            and record.category in MAILED
            and record.level.at_least(self.level)
            and (not self.categories or record.category in self.categories)
        )


@dataclass(frozen=True, slots=True)
class Digest:
    """Events that wait to be told. counts: by (event, level), all of them; listed: the first ones whole.

    due: boot-clock seconds at which the mail is to be made; None when nothing waits. sent: when the last was.
    """

    counts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    listed: tuple[Record, ...] = ()
    due: float | None = None
    sent: float | None = None
    last_id: int = 0


def gather(digest: Digest, record: Record, settings: AlertSettings, now: float) -> Digest:
    """The digest with one more event; unchanged when the event is not told of."""
    if not settings.wants(record):
        return digest
    key = (record.event, record.level.value)
    counts = dict(digest.counts)
    if key in counts or len(counts) < MAX_KINDS:
        counts[key] = counts.get(key, 0) + 1
    listed = (*digest.listed, record) if len(digest.listed) < MAX_LISTED else digest.listed
    due = digest.due
    if due is None:
        due = now + GATHER_S
        if digest.sent is not None:
            due = max(due, digest.sent + settings.interval_min * 60.0)
    return replace(digest, counts=counts, listed=listed, due=due, last_id=record.id)


def told(digest: Digest, now: float) -> Digest:
    """The digest after its mail was handed in."""
    return Digest(sent=now, last_id=digest.last_id)


def joined(first: Digest, second: Digest) -> Digest:
    """Both as one, when the first one's mail was refused."""
    counts = dict(first.counts)
    for key, count in second.counts.items():
        counts[key] = counts.get(key, 0) + count
    return replace(
        first,
        counts=counts,
        listed=(*first.listed, *second.listed)[:MAX_LISTED],
        last_id=max(first.last_id, second.last_id),
    )


def compose(digest: Digest, host: str) -> tuple[str, str]:
    """Subject and text of the mail."""
    total = sum(digest.counts.values())
    worst = min((record.level for record in digest.listed), key=lambda level: level.severity)
    first = digest.listed[0]
    what = first.message if total == 1 else f"{total} events, first: {first.message}"
    subject = f"{host}: {worst.value}: {what}"[:200]
    lines = [f"{host} reports {total} event{'s' if total > 1 else ''}.", ""]
    lines += [
        f"{rfc3339(record.time)}  {record.level.value:<9} {record.event}: {record.message}" for record in digest.listed
    ]
    if total > len(digest.listed):
        lines += ["", f"{total - len(digest.listed)} more are not listed. By kind:"]
        lines += [f"{count:>7}  {level:<9} {event}" for (event, level), count in sorted(digest.counts.items())]
    lines += ["", "See Log & Report > Log/Events for all of them. Alerts are set under Log & Report > Email Alerts."]
    return subject, "\n".join(lines)


def parse_alert_settings(body: Mapping[str, Any], current: AlertSettings) -> AlertSettings:
    """The settings that a request asks for; what it leaves out stays. Raises InvalidAlertSettings."""
    merged = current.as_json() | dict(body)
    errors = [(f"/{name}", "is not known here") for name in sorted(set(body) - set(current.as_json()))]
    values: dict[str, Any] = {}
    for name, check in _CHECKS.items():
        try:
            values[name] = check(merged[name])
        except (TypeError, ValueError) as error:
            errors.append((f"/{name}", str(error)))
    if not errors and values["enabled"] and not values["recipients"]:
        errors.append(("/recipients", "at least one is needed while alerts are on"))
    if errors:
        raise InvalidAlertSettings(errors)
    return AlertSettings(**values)


def alert_settings_from(document: Mapping[str, Any]) -> AlertSettings:
    """Stored settings; unusable ones become the defaults."""
    known = {name: value for name, value in document.items() if name in _CHECKS}
    try:
        return parse_alert_settings(known, AlertSettings())
    except InvalidAlertSettings:
        return AlertSettings()


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("must be true or false")
    return value


def _addresses(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or len(value) > 16:
        raise TypeError("must be a list of at most 16 mail addresses")
    for each in value:
        if not isinstance(each, str) or not is_address(each.strip()):
            raise ValueError(f"{str(each)[:100]!r} is not a mail address")
    return tuple(dict.fromkeys(each.strip() for each in value))


def _level(value: object) -> Level:
    try:
        return parse_level(str(value))
    except ValueError:
        raise ValueError("must be the name of a level, such as error") from None


def _categories(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or any(each not in MAILED for each in value):
        raise ValueError(f"must be of {', '.join(MAILED)}; events about mail are never mailed")
    return tuple(each for each in MAILED if each in value)


def _interval(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1440:
        raise ValueError("must be from 1 to 1440 minutes")
    return value


_CHECKS: Mapping[str, Any] = {
    "enabled": _flag,
    "recipients": _addresses,
    "level": _level,
    "categories": _categories,
    "interval_min": _interval,
}
