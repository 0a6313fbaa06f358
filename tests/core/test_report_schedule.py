"""When the daily report is due: DST, leap days, clocks that jump, days slept through."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyd.core import report_schedule
from notifyd.core.instant import Instant
from notifyd.core.report_schedule import AHEAD_S, Decision, ScheduleState, moment
from notifyd.core.report_settings import ReportSettings

BERLIN = ZoneInfo("Europe/Berlin")
ON = ReportSettings(enabled=True, recipients=("a@b.example",), time="07:00")


def at(text: str, zone: ZoneInfo = BERLIN) -> float:
    """Wall-clock seconds of a local time."""
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


def decide(
    settings: ReportSettings, zone: ZoneInfo, state: ScheduleState, now: float, boot: float | None = None
) -> Decision:
    """The decision at a wall-clock moment; the boot clock goes with it unless given."""
    return report_schedule.decide(settings, zone, state, Instant(now if boot is None else boot, now))


def made(decision: Decision) -> ScheduleState:
    """The state after the report that was due was made."""
    assert decision.day is not None
    return replace(decision.state, done=decision.day)


def run(
    settings: ReportSettings, zone: ZoneInfo, state: ScheduleState, start: float, end: float
) -> list[tuple[date, float]]:
    """Follows the schedule's own wake-ups; returns each report's day and moment."""
    reports = []
    now = start
    while now < end:
        decision = decide(settings, zone, state, now)
        state = decision.state
        if decision.day is not None:
            reports.append((decision.day, now))
            state = made(decision)
        assert decision.wake_at is not None
        assert decision.wake_at > now
        now = decision.wake_at
    return reports


def test_off_means_nothing_and_no_wake_up() -> None:
    """A report that is off costs nothing."""
    decision = decide(replace(ON, enabled=False), BERLIN, ScheduleState(0), at("2026-11-25T12:00"))
    assert decision.day is None
    assert decision.wake_at is None


def test_turning_it_on_after_its_time_waits_for_tomorrow() -> None:
    """What lies before the settings were saved was not promised."""
    now = at("2026-11-25T12:00")
    decision = decide(ON, BERLIN, ScheduleState(since=now), now)
    assert decision.day is None
    assert decision.wake_at == at("2026-11-26T07:00")


@pytest.mark.parametrize(
    ("zone", "first", "days"),
    [
        ("Europe/Berlin", "2027-03-20T12:00", 20),
        ("Europe/Berlin", "2026-10-20T12:00", 20),
        ("Australia/Lord_Howe", "2026-10-01T12:00", 10),
        ("America/St_Johns", "2027-03-10T12:00", 10),
        ("Asia/Kathmandu", "2028-02-25T12:00", 10),
        ("Pacific/Apia", "2026-12-25T12:00", 14),
        ("UTC", "2028-02-25T12:00", 10),
    ],
)
@pytest.mark.parametrize("time", ["00:00", "02:30", "03:00", "07:00", "23:59"])
def test_every_day_has_exactly_one_report(zone: str, first: str, days: int, time: str) -> None:
    """Over DST changes, a leap day and a year's end: each local day once, at the local time when that exists."""
    where = ZoneInfo(zone)
    start = at(first, where)
    settings = replace(ON, time=time)
    reports = run(settings, where, ScheduleState(since=start), start, start + days * 86_400 - 7200)
    listed = [day for day, _ in reports]
    assert listed == [listed[0] + timedelta(days=number) for number in range(len(listed))]
    assert len(listed) in (days - 1, days)
    for day, when in reports:
        local = datetime.fromtimestamp(when, where)
        assert local.date() == day
        shifted = local.strftime("%H:%M") != time
        assert not shifted or datetime.fromtimestamp(when, UTC).astimezone(where).dst() != timedelta(0)


def test_a_time_that_dst_leaves_out_and_one_that_it_repeats() -> None:
    """02:30 on the day it does not exist is 03:30; on the day it exists twice it is the first."""
    settings = replace(ON, time="02:30")
    assert moment(settings, BERLIN, date(2027, 3, 28)) == datetime(2027, 3, 28, 1, 30, tzinfo=UTC).timestamp()
    assert moment(settings, BERLIN, date(2026, 10, 25)) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()


def test_a_leap_day_has_its_report() -> None:
    """29 February is a day like any other."""
    start = at("2028-02-28T12:00")
    days = [day for day, _ in run(ON, BERLIN, ScheduleState(since=start), start, at("2028-03-02T00:00"))]
    assert days == [date(2028, 2, 29), date(2028, 3, 1)]


def test_only_the_chosen_weekdays() -> None:
    """Monday and Friday, over three weeks."""
    start = at("2026-11-25T12:00")
    settings = replace(ON, weekdays=(1, 5))
    days = [day for day, _ in run(settings, BERLIN, ScheduleState(since=start), start, start + 21 * 86_400)]
    assert [day.isoweekday() for day in days] == [5, 1, 5, 1, 5, 1]


def test_days_slept_through_are_made_up_for_once() -> None:
    """Off from Monday to Friday noon: one report on Friday, which says that four were missed, then the usual ones."""
    state = ScheduleState(since=at("2026-11-01T00:00"), done=date(2026, 11, 22))
    now = at("2026-11-27T12:00")
    decision = decide(ON, BERLIN, state, now)
    assert decision.day == date(2026, 11, 27)
    assert decision.missed == 4
    again = decide(ON, BERLIN, made(decision), now + 1)
    assert again.day is None
    assert again.wake_at == at("2026-11-28T07:00")


def test_missed_days_count_only_chosen_weekdays() -> None:
    """A weekend that was not asked for is not missed."""
    state = ScheduleState(since=0.0, done=date(2026, 11, 20))
    settings = replace(ON, weekdays=(1, 2, 3, 4, 5))
    assert decide(settings, BERLIN, state, at("2026-11-24T12:00")).missed == 1


def test_a_clock_that_is_not_set_yet_sends_nothing_and_forgets_nothing() -> None:
    """Boot in 1970 or at the firmware's build date, then the true time: no second report of the same day."""
    state = ScheduleState(since=at("2026-11-01T00:00"), done=date(2026, 11, 25))
    for boot, wrong in enumerate((0.0, 60.0, at("2026-01-01T00:00"))):
        decision = decide(ON, BERLIN, state, wrong, boot)
        assert decision.day is None
        state = decision.state
    decision = decide(ON, BERLIN, state, at("2026-11-25T12:00"), 5)
    assert decision.day is None
    assert decide(ON, BERLIN, decision.state, at("2026-11-26T07:00"), 70_000).day == date(2026, 11, 26)


def test_a_clock_that_was_years_ahead_does_not_silence_the_report() -> None:
    """A report made in 2038 by mistake: after a day and a half of true time the daily ones go on."""
    state = ScheduleState(since=at("2026-11-01T00:00"), done=date(2026, 11, 24))
    wild = decide(ON, BERLIN, state, at("2038-01-18T12:00"))
    assert wild.day == date(2038, 1, 18)
    assert wild.missed == 400
    start = at("2026-11-25T12:00")
    reports = run(ON, BERLIN, made(wild), start, start + 10 * 86_400)
    assert [day for day, _ in reports] == [date(2026, 11, 28) + timedelta(days=number) for number in range(8)]
    assert AHEAD_S < 2 * 86_400


def test_a_changed_time_is_not_made_up_for() -> None:
    """Moving the time back in the afternoon does not send a second report the same day."""
    state = ScheduleState(since=at("2026-11-25T15:00"), done=date(2026, 11, 25))
    assert decide(replace(ON, time="14:00"), BERLIN, state, at("2026-11-25T15:01")).day is None
    later = decide(replace(ON, time="18:00"), BERLIN, state, at("2026-11-25T18:00"))
    assert later.day is None, "one report a day, whatever the time is set to"


@given(
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Tokyo", "Australia/Lord_Howe", "UTC"]),
    time=st.builds("{:02d}:{:02d}".format, st.integers(0, 23), st.integers(0, 59)),
    weekdays=st.sets(st.integers(1, 7), min_size=1),
    steps=st.lists(st.floats(-40 * 86_400, 40 * 86_400), max_size=30),
)
def test_whatever_the_clock_does_a_day_is_reported_at_most_once(
    zone: str, time: str, weekdays: set[int], steps: list[float]
) -> None:
    """Random jumps in both directions: no day twice in a row of decisions, and never a storm."""
    settings = replace(ON, time=time, weekdays=tuple(sorted(weekdays)))
    where = ZoneInfo(zone)
    now = 1_795_572_000.0
    state = ScheduleState(since=now)
    previous: date | None = None
    for boot, step in enumerate(steps):
        now = max(0.0, now + step)
        first = decide(settings, where, state, now, boot)
        state = first.state
        if first.day is not None:
            assert first.day != previous
            assert first.day.isoweekday() in weekdays
            previous = first.day
            state = made(first)
        second = decide(settings, where, state, now, boot)
        assert second.day is None
        assert second.wake_at is not None
        assert second.wake_at > now
        state = second.state
