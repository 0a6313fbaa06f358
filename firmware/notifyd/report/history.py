"""What the report keeps from day to day: the hours' samples for the charts, and one line a day for comparisons.

Two small JSON files below NOTIFYD_DATA/report, each replaced as a whole, so that a power cut leaves the old one or the
new one. Both are bounded. A damaged file begins anew: it holds no more than figures.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from notifyd.report.gather import System

MAX_SAMPLES = 72  # three days of hours: a report that is a day late still has its charts
MAX_DAYS = 400


@dataclass(frozen=True, slots=True)
class Sample:
    """The figures of one moment that are worth a curve. traffic: interface → received and sent bytes since its boot."""

    taken_at: float
    boot_id: str
    cpu_busy: int | None = None
    cpu_total: int | None = None
    memory: float | None = None
    temperature: float | None = None
    sessions: int | None = None
    traffic: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, system: System) -> Sample:
        """The sample of a moment."""
        used = None
        if system.memory_total and system.memory_available is not None:
            used = round(1 - system.memory_available / system.memory_total, 4)
        return cls(
            taken_at=system.taken_at,
            boot_id=system.boot_id,
            cpu_busy=system.cpu_busy,
            cpu_total=system.cpu_total,
            memory=used,
            temperature=system.temperature,
            sessions=system.sessions,
            traffic={each.name: (each.rx_bytes, each.tx_bytes) for each in system.interfaces},
        )


@dataclass(frozen=True, slots=True)
class Day:
    """One report's main figures: name → number."""

    day: str
    made_at: float
    figures: Mapping[str, float]


class History:
    """The two files below `directory`, which is made when it is missing. Writing raises OSError."""

    def __init__(self, directory: Path) -> None:
        self._samples = directory / "samples.json"
        self._days = directory / "days.json"

    def samples(self) -> list[Sample]:
        """Oldest first."""
        return [sample for entry in _read(self._samples) if (sample := _sample(entry)) is not None]

    def add_sample(self, sample: Sample) -> list[Sample]:
        """Keeps one more; returns all."""
        kept = [*self.samples(), sample][-MAX_SAMPLES:]
        _write(self._samples, [asdict(each) for each in kept])
        return kept

    def days(self) -> list[Day]:
        """Oldest first."""
        return [day for entry in _read(self._days) if (day := _day(entry)) is not None]

    def add_day(self, day: Day) -> None:
        """Keeps one more; a second report of a day takes the first one's place."""
        kept = [each for each in self.days() if each.day != day.day]
        _write(self._days, [asdict(each) for each in [*kept, day][-MAX_DAYS:]])


def _sample(entry: Any) -> Sample | None:
    try:
        traffic = {str(name): (int(pair[0]), int(pair[1])) for name, pair in entry["traffic"].items()}
        return Sample(**{**entry, "taken_at": float(entry["taken_at"]), "traffic": traffic})
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return None


def _day(entry: Any) -> Day | None:
    try:
        figures = {str(name): float(value) for name, value in entry["figures"].items()}
        return Day(str(entry["day"]), float(entry["made_at"]), figures)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _read(path: Path) -> Sequence[Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) else []


def _write(path: Path, entries: Sequence[Any]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(entries, file, separators=(",", ":"))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
