"""Things to say in time: the client secret's end, and reminders of what still needs a person."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

WARN_DAYS = (60, 30, 14, 7, 1, 0)
"""Days before the end of the client secret at which to warn; 0: it has ended."""

REMIND_S = (24 * 3600.0, 3 * 24 * 3600.0, 7 * 24 * 3600.0)
"""A problem that needs a person is told at once, again after a day, after three more, and then weekly."""

PLAUSIBLE_WALL = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
"""Before this a clock is not set: this program did not exist."""


def days_left(expires_on: date, wall: float) -> int | None:
    """Whole days until the secret ends (UTC, negative afterwards); None while the clock cannot be believed."""
    if wall < PLAUSIBLE_WALL:
        return None
    return (expires_on - datetime.fromtimestamp(wall, UTC).date()).days


def warning_due(left: int, warned: int | None) -> int | None:
    """The threshold to warn of now, or None. warned: the smallest threshold already warned of."""
    reached = [threshold for threshold in WARN_DAYS if left <= threshold]
    if not reached:
        return None
    smallest = min(reached)
    return smallest if warned is None or smallest < warned else None


def next_warning_wall(expires_on: date, warned: int | None) -> float | None:
    """Wall clock of the next threshold's day, or None when all have been told."""
    coming = [threshold for threshold in WARN_DAYS if warned is None or threshold < warned]
    if not coming:
        return None
    day = expires_on - timedelta(days=max(coming))
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def remind_after(reminders: int) -> float:
    """Seconds to wait before the next reminder, after this many."""
    return REMIND_S[min(reminders, len(REMIND_S) - 1)]
