"""The life of a mail: back-off, deadline, and the two clocks."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyd.core.outbox import Fate, Priority, QueueClock, Recipient, RecipientState, judge, retry_delay

PENDING, DELIVERED, REFUSED = RecipientState.PENDING, RecipientState.DELIVERED, RecipientState.REFUSED
CLOCK = QueueClock(1_000.0, 500.0, 50.0, "a", held=False)


@given(st.integers(1, 200), st.integers())
def test_back_off_doubles_from_a_minute_to_an_hour_within_a_fifth(failures: int, seed: int) -> None:
    """60 s, 120 s, … 3,600 s, each ±20 %."""
    nominal = min(60.0 * 2.0 ** min(failures - 1, 16), 3_600.0)
    assert 0.8 * nominal <= retry_delay(failures, random.Random(seed)) <= 1.2 * nominal


@given(st.lists(st.tuples(st.integers(0, 10**6), st.booleans(), st.booleans()), max_size=30))
def test_the_clocks_never_go_back_and_active_never_runs_while_held(steps: list[tuple[int, bool, bool]]) -> None:
    """Whatever boots and holds there are: powered ≥ active progress, both monotonic."""
    clock, boot, number = QueueClock(0.0, 0.0, 0.0, "boot-0", held=False), 0, 0
    for passed, reboot, held in steps:
        number, boot = (number + 1, passed) if reboot else (number, boot + passed)
        later = clock.at(boot, f"boot-{number}")
        assert later.powered >= clock.powered
        assert later.active >= clock.active
        if clock.held:
            assert later.active == clock.active
        assert later.powered - clock.powered >= later.active - clock.active
        clock = later.holding(held)


def test_time_without_power_is_not_counted() -> None:
    """A year on a shelf: only the seconds since the new boot count."""
    later = CLOCK.at(7.0, "another boot")
    assert (later.powered, later.active) == (1_007.0, 507.0)


def test_a_boot_clock_that_seems_to_go_back_changes_nothing() -> None:
    """The same boot cannot be younger than it was."""
    assert CLOCK.at(20.0, "a").powered == CLOCK.powered


@pytest.mark.parametrize(
    ("states", "at_once", "fate"),
    [
        ((DELIVERED, DELIVERED), True, Fate.SENT),
        ((DELIVERED, REFUSED), True, Fate.FAILED),
        ((REFUSED,), False, Fate.FAILED),
        ((DELIVERED, PENDING), True, Fate.AGAIN),
        ((PENDING,), False, Fate.LATER),
    ],
)
def test_the_fate_of_a_mail_follows_from_its_recipients(
    states: tuple[RecipientState, ...], at_once: bool, fate: Fate
) -> None:
    """Sent only when every recipient has it; failed loudly when any was refused for good."""
    recipients = [Recipient(f"{n}@example.org", state) for n, state in enumerate(states)]
    assert judge(recipients, CLOCK, 9_999.0, 1, random.Random(1), at_once=at_once).fate is fate


def test_a_mail_past_its_deadline_is_given_up_after_an_attempt() -> None:
    """The deadline is on the clock that stands still while mail is held."""
    late = judge([Recipient("a@example.org")], CLOCK, 500.0, 1, random.Random(1), at_once=True)
    assert late.fate is Fate.FAILED
    assert judge([Recipient("a@example.org")], CLOCK, 500.1, 1, random.Random(1), at_once=True).fate is Fate.AGAIN


def test_priorities_have_names_and_an_order() -> None:
    """Alerts before reports before bulk."""
    assert sorted(Priority, key=int) == [Priority.named(word) for word in ("alert", "report", "bulk")]
    with pytest.raises(ValueError, match="alert, report, bulk"):
        Priority.named("urgent")
