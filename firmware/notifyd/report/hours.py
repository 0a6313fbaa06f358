"""The last 24 hours as 24 values each, from samples and from events (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from notifyd.report.history import Sample

HOURS = 24
HOUR_S = 3600.0
LONGEST_GAP_S = 26 * HOUR_S  # between two samples; beyond, the gateway was off or its clock was wrong


def usable_pairs(samples: Sequence[Sample]) -> Iterable[tuple[Sample, Sample]]:
    """Neighbours whose distance is believable."""
    for before, after in pairwise(samples):
        if 0 < after.taken_at - before.taken_at <= LONGEST_GAP_S:
            yield before, after


def moved(before: Sample, after: Sample, interface: str) -> tuple[int, int]:
    """Bytes received and sent between two samples. A counter that began anew counts from nothing."""
    now = after.traffic.get(interface, (0, 0))
    then = before.traffic.get(interface, (0, 0)) if before.boot_id == after.boot_id else (0, 0)
    return tuple(new - old if new >= old else new for new, old in zip(now, then, strict=True))  # type: ignore[return-value]  # two of two


def traffic_by_hour(samples: Sequence[Sample], interface: str, end: float) -> tuple[list[float], list[float]]:
    """Bytes received and sent in each hour; what lies between two samples is spread evenly."""
    received, sent = [0.0] * HOURS, [0.0] * HOURS
    for before, after in usable_pairs(samples):
        rx, tx = moved(before, after, interface)
        for hour, share in _shares(before.taken_at, after.taken_at, end):
            received[hour] += rx * share
            sent[hour] += tx * share
    return received, sent


def traffic_since(samples: Sequence[Sample], interface: str, start: float) -> tuple[int, int]:
    """Bytes received and sent since a moment; the pair that spans it counts by its share after it."""
    received = sent = 0.0
    for before, after in usable_pairs(samples):
        rx, tx = moved(before, after, interface)
        share = min(1.0, max(0.0, (after.taken_at - start) / (after.taken_at - before.taken_at)))
        received += rx * share
        sent += tx * share
    return round(received), round(sent)


def cpu_by_hour(samples: Sequence[Sample], end: float) -> list[float]:
    """Share of processor time in use in each hour, 0 to 1; 0 where nothing is known."""
    busy, total = [0.0] * HOURS, [0.0] * HOURS
    for before, after in usable_pairs(samples):
        jiffies = _jiffies(before, after)
        if jiffies is None:
            continue
        for hour, share in _shares(before.taken_at, after.taken_at, end):
            busy[hour] += jiffies[0] * share
            total[hour] += jiffies[1] * share
    return [part / whole if whole > 0 else 0.0 for part, whole in zip(busy, total, strict=True)]


def cpu_average(samples: Sequence[Sample], start: float) -> float | None:
    """Share of processor time in use since a moment."""
    busy = total = 0
    for before, after in usable_pairs(samples):
        jiffies = _jiffies(before, after)
        if jiffies is not None and after.taken_at > start:
            busy, total = busy + jiffies[0], total + jiffies[1]
    return busy / total if total else None


def _jiffies(before: Sample, after: Sample) -> tuple[int, int] | None:
    values = (before.cpu_busy, before.cpu_total, after.cpu_busy, after.cpu_total)
    if before.boot_id != after.boot_id or any(value is None for value in values):
        return None
    busy = (after.cpu_busy or 0) - (before.cpu_busy or 0)
    total = (after.cpu_total or 0) - (before.cpu_total or 0)
    return (max(0, busy), total) if total > 0 else None


def covered_hours(samples: Sequence[Sample], end: float) -> int:
    """In how many of the hours something is known."""
    return len(
        {hour for before, after in usable_pairs(samples) for hour, _ in _shares(before.taken_at, after.taken_at, end)}
    )


def counted_by_hour(times: Iterable[float], end: float) -> list[float]:
    """How many of the moments fall in each hour."""
    counts = [0.0] * HOURS
    for moment in times:
        hour = int((moment - end) // HOUR_S) + HOURS
        if 0 <= hour < HOURS:
            counts[hour] += 1
    return counts


def _shares(start: float, stop: float, end: float) -> Iterable[tuple[int, float]]:
    """Which share of a span falls in which of the hours before `end`."""
    first = end - HOURS * HOUR_S
    for hour in range(HOURS):
        low, high = first + hour * HOUR_S, first + (hour + 1) * HOUR_S
        overlap = min(stop, high) - max(start, low)
        if overlap > 0:
            yield hour, overlap / (stop - start)


def round_up(value: float) -> float:
    """The next round number above a value: a scale that reads well."""
    if value <= 0:
        return 1.0
    magnitude = 1.0
    while magnitude * 10 <= value:
        magnitude *= 10
    while magnitude > value:
        magnitude /= 10
    return next(step * magnitude for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * magnitude >= value)


def change(now: float, before: Mapping[str, float], name: str) -> str:
    """The figure against the day before, as `▲ 12 %`; empty when there is nothing to compare."""
    if name not in before:
        return ""
    then = before[name]
    if then == now:
        return "="
    sign = "▲" if now > then else "▼"
    if then == 0:
        return sign
    percent = abs(now - then) / abs(then) * 100
    return f"{sign} {percent:.0f} %" if percent < 1000 else sign
