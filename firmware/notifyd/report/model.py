"""What a report is made of, whatever form it is shown in."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Tone(StrEnum):
    """How a value should strike the reader."""

    PLAIN = "plain"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Fact:
    """One figure with its name. change: against the day before, already as text."""

    label: str
    value: str
    change: str = ""
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text; `numeric` are the columns whose values stand right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture of the last 24 hours. hours: labels below it, evenly spaced. legend: name and `#rrggbb`."""

    name: str
    title: str
    scale: str
    hours: tuple[str, ...]
    legend: tuple[tuple[str, str], ...]
    png: bytes
    summary: str


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the report."""

    key: str
    title: str
    facts: tuple[Fact, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """The whole of it. figures: what the next day is compared with."""

    title: str
    subject: str
    host: str
    day: str
    period: str
    footer: str
    attention: tuple[tuple[Tone, str], ...]
    sections: tuple[Section, ...]
    missing: str = ""
    figures: dict[str, float] = field(default_factory=dict)
