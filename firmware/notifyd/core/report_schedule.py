"""When the daily report is due: time zones, DST, clocks that jump, and days on which the gateway was off.

Pure: the clocks and the zone come in. What is remembered between calls is `ScheduleState`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from notifyd.core.instant import Instant
from notifyd.core.report_settings import ReportSettings

LOOK_BACK_DAYS = 400  # missed reports are counted that far; more only says "long ago"
AHEAD_S = 36 * 3600.0  # so long a last report in the future means a clock not set yet; then that its date was wrong


@dataclass(frozen=True, slots=True)
class ScheduleState:
    """What a schedule has to remember.

    since: wall clock when the report was turned on or its time changed; nothing before it was promised.
    done: the day of the last report that was made.
    ahead_since: boot clock when `done` was first seen to lie ahead; not kept over a restart.
    """

    since: float
    done: date | None = None
    ahead_since: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now.

    day: the report of this day is due; None when none is. missed: reports before it that did not happen.
    wake_at: wall clock of the next decision; None when the report is off.
    state: to be remembered; after the report of `day` was made, with `done=day`.
    """

    day: date | None
    missed: int
    wake_at: float | None
    state: ScheduleState


def decide(settings: ReportSettings, zone: tzinfo, state: ScheduleState, now: Instant) -> Decision:
    """Whether a report is due, and when to look again. A time that was slept through is made up for once."""
    if not settings.enabled:
        return Decision(None, 0, None, state)
    latest = _latest_day(settings, zone, now.wall)
    following = moment(settings, zone, _next_day(settings, latest + timedelta(days=1)))
    if state.done is not None and state.done > latest:
        return _wait_for_the_clock(state, latest, following, now.boot)
    state = replace(state, ahead_since=None)
    if state.done == latest or moment(settings, zone, latest) <= state.since:
        return Decision(None, 0, following, state)
    return Decision(latest, _missed(settings, zone, state, latest), following, state)


def moment(settings: ReportSettings, zone: tzinfo, day: date) -> float:
    """The wall-clock moment of a day's report.

    A time that DST leaves out is the same number of minutes after the gap begins; of one that it repeats, the first.
    """
    local = datetime.combine(day, time(*divmod(settings.minute_of_day, 60)), zone)
    return local.astimezone(UTC).timestamp()


def _wait_for_the_clock(state: ScheduleState, latest: date, following: float, boot: float) -> Decision:
    """The last report lies ahead: the clock is not set yet after a start, or it was far ahead when that was made."""
    if state.ahead_since is None:
        return Decision(None, 0, following, replace(state, ahead_since=boot))
    if boot - state.ahead_since < AHEAD_S:
        return Decision(None, 0, following, state)
    return Decision(None, 0, following, replace(state, done=latest, ahead_since=None))


def _latest_day(settings: ReportSettings, zone: tzinfo, now: float) -> date:
    """The day of the last report time that is not after now."""
    day = datetime.fromtimestamp(max(now, 0.0), UTC).astimezone(zone).date() + timedelta(days=1)
    while moment(settings, zone, day) > now or day.isoweekday() not in settings.weekdays:
        if day <= date(1969, 12, 1):
            return day
        day -= timedelta(days=1)
    return day


def _next_day(settings: ReportSettings, day: date) -> date:
    while day.isoweekday() not in settings.weekdays:
        day += timedelta(days=1)
    return day


def _missed(settings: ReportSettings, zone: tzinfo, state: ScheduleState, latest: date) -> int:
    count, day = 0, latest - timedelta(days=1)
    for _ in range(LOOK_BACK_DAYS):
        if (state.done is not None and day <= state.done) or moment(settings, zone, day) <= state.since:
            break
        count += day.isoweekday() in settings.weekdays
        day -= timedelta(days=1)
    return count
