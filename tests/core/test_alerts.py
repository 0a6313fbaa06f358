"""Alerts by mail: what is told, what never is, and how a storm becomes one mail."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyd.core.alerts import (
    GATHER_S,
    MAILED,
    MAX_LISTED,
    NEVER_MAILED,
    AlertSettings,
    Digest,
    InvalidAlertSettings,
    alert_settings_from,
    compose,
    gather,
    joined,
    parse_alert_settings,
    told,
)
from notifyd.core.event_definitions import ALL
from notifyd.core.eventlog import Level, Record

ON = AlertSettings(enabled=True, recipients=("a@b.example",), level=Level.DEBUG)


def record(number: int = 1, event: str = "store.full", level: Level = Level.ERROR) -> Record:
    return Record(number, 1.8e9, "", level, event.partition(".")[0], event, f"message {number}", {})


@pytest.mark.parametrize("definition", ALL, ids=lambda definition: definition.name)
def test_an_event_about_mail_never_mails(definition: Any) -> None:
    """The loop guard, for every event there is: with everything switched on, mail trouble stays off the mail."""
    told_of = ON.wants(record(event=definition.name, level=definition.level))
    assert told_of == (definition.category not in NEVER_MAILED)
    if definition.name.startswith(("mail.", "token.", "alert.", "report.")):
        assert not told_of


def test_only_what_was_asked_for() -> None:
    """Level and category narrow; off is off."""
    settings = AlertSettings(True, ("a@b.example",), Level.ERROR, ("store",))
    assert settings.wants(record())
    assert not settings.wants(record(level=Level.WARNING))
    assert not settings.wants(record(event="auth.locked"))
    assert not AlertSettings(level=Level.DEBUG).wants(record())


def test_a_storm_is_one_mail_and_then_one_an_interval() -> None:
    """10,000 events in an hour: at most one mail in the interval, every event counted, the first ones listed."""
    digest, mails, counted = Digest(), 0, 0
    for number in range(10_000):
        now = number * 0.36
        if digest.due is not None and now >= digest.due:
            mails += 1
            counted += sum(digest.counts.values())
            assert len(digest.listed) <= MAX_LISTED
            digest = told(digest, now)
        digest = gather(digest, record(number), ON, now)
    assert mails <= 3600 / (ON.interval_min * 60) + 1
    assert counted + sum(digest.counts.values()) == 10_000


def test_the_first_event_is_told_soon() -> None:
    """Within seconds, with what broke together."""
    digest = gather(Digest(), record(1), ON, 100.0)
    assert digest.due == 100.0 + GATHER_S
    assert gather(digest, record(2), ON, 105.0).due == digest.due


def test_one_event_and_many_read_well() -> None:
    """A single event is the subject; many are counted by kind; the text says where to look."""
    subject, text = compose(gather(Digest(), record(1), ON, 0.0), "usg")
    assert subject == "usg: error: message 1"
    assert "reports 1 event." in text
    digest = Digest()
    for number in range(MAX_LISTED + 10):
        digest = gather(digest, record(number), ON, 0.0)
    subject, text = compose(digest, "usg")
    assert subject == "usg: error: 60 events, first: message 0"
    assert "10 more are not listed" in text
    assert "     60  error     store.full" in text


def test_a_refused_digest_is_not_lost() -> None:
    """Its events go with the next ones."""
    first = gather(Digest(), record(1), ON, 0.0)
    second = gather(told(first, 1.0), record(2), ON, 2.0)
    both = joined(first, second)
    assert [each.id for each in both.listed] == [1, 2]
    assert both.counts == {("store.full", "error"): 2}
    assert both.last_id == 2


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"enabled": True}, "/recipients"),
        ({"recipients": ["x"]}, "/recipients"),
        ({"level": "loud"}, "/level"),
        ({"categories": ["mail"]}, "/categories"),
        ({"interval_min": 0}, "/interval_min"),
        ({"interval_min": True}, "/interval_min"),
        ({"enabled": 1}, "/enabled"),
        ({"x": 1}, "/x"),
    ],
)
def test_settings_are_refused_by_field(change: dict[str, Any], pointer: str) -> None:
    """Each wrong value is named; that mail events are never mailed is said."""
    with pytest.raises(InvalidAlertSettings) as caught:
        parse_alert_settings(change, AlertSettings())
    assert [each for each, _ in caught.value.errors] == [pointer]


@given(
    st.builds(
        AlertSettings,
        enabled=st.just(True),
        recipients=st.just(("a@b.example",)),
        level=st.sampled_from(Level),
        categories=st.sets(st.sampled_from(MAILED)).map(lambda chosen: tuple(c for c in MAILED if c in chosen)),
        interval_min=st.integers(1, 1440),
    )
)
def test_settings_survive_storing(settings: AlertSettings) -> None:
    """What was stored comes back."""
    assert alert_settings_from(settings.as_json()) == settings
