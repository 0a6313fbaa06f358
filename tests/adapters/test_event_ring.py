"""The ring of stored events: bounds, queries, damage."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifyd.adapters.event_ring import ID_JUMP, EventRing, Query, set_aside
from notifyd.core.eventlog import LEVELS, Level, Record

BOOT = "0" * 32
DAY = 86_400.0


def record(number: int, **changes: object) -> Record:
    values: dict[str, object] = {
        "id": number,
        "time": 1_795_500_000.0 + number,
        "boot_id": BOOT,
        "level": Level.INFO,
        "category": "mail",
        "event": "mail.sent",
        "message": f"Mail {number} sent",
        "fields": {"mail_id": str(number)},
    }
    return Record(**(values | changes))  # type: ignore[arg-type]  # the test's own values, by name


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[EventRing]:
    ring = EventRing(tmp_path / "events.db")
    yield ring
    ring.close()


def test_what_is_appended_comes_back_as_it_was(ring: EventRing) -> None:
    """Every part of a record survives, also text beyond ASCII and numbers that are not text."""
    stored = record(1, message="Grüße 日本", fields={"n": 3, "x": 1.5, "yes": True, "text": "ä"}, boot_id="f" * 32)
    ring.append([stored, record(2)])
    assert ring.select(Query(after=0)) == [stored, record(2)]


def test_the_number_of_records_is_bounded(tmp_path: Path) -> None:
    """The oldest go; the newest always stay."""
    ring = EventRing(tmp_path / "events.db", max_records=1000)
    for start in range(1, 5001, 50):
        ring.append([record(number) for number in range(start, start + 50)])
        assert ring.count <= 1000
    assert ring.count >= 850
    assert ring.select(Query(limit=1))[0].id == 5000
    ring.close()
    again = EventRing(tmp_path / "events.db", max_records=1000)
    assert again.count == ring.count
    again.close()


def test_the_size_of_the_file_is_bounded(tmp_path: Path) -> None:
    """Large records cannot make the file larger than its bound and the room of one batch."""
    path = tmp_path / "events.db"
    ring = EventRing(path, max_bytes=1_000_000)
    for number in range(1, 2001):
        ring.append([record(number, message="x" * 2000, fields={f"f{i}": "y" * 200 for i in range(10)})])
    ring.close()
    assert path.stat().st_size < 1_300_000
    assert sum(part.stat().st_size for part in tmp_path.iterdir()) < 1_600_000


def test_age_bounds_the_ring_from_its_front(tmp_path: Path) -> None:
    """Records older than the bound go, a tenth of the ring at a time."""
    ring = EventRing(tmp_path / "events.db", max_records=100)
    ring.append([record(number, time=number) for number in range(1, 51)])
    ring.append([record(51, time=500 * DAY)])
    assert ring.select(Query(after=0))[0].id == 11
    ring.close()


def test_a_clock_that_jumps_ahead_and_back_does_not_empty_the_ring(tmp_path: Path) -> None:
    """One record dated 2038 costs no more than a tenth of the ring."""
    ring = EventRing(tmp_path / "events.db", max_records=100)
    ring.append([record(number) for number in range(1, 101)])
    ring.append([record(101, time=2_147_000_000.0)])
    ring.append([record(102)])
    assert ring.count >= 80
    ring.close()


def test_ids_go_on_after_a_clean_end_and_jump_after_an_unclean_one(tmp_path: Path) -> None:
    """A follower never sees an id twice, even that of a record that was lost in a crash."""
    path = tmp_path / "events.db"
    ring = EventRing(path)
    assert ring.next_id == 1
    ring.append([record(1)])
    ring.close(next_id=2)
    ring = EventRing(path)
    assert ring.next_id == 2
    ring.close()
    for runs in (1, 2):  # also when nothing was stored in between
        ring = EventRing(path)
        assert ring.next_id == 2 + runs * ID_JUMP
        ring.close()
    ring = EventRing(path)
    ring.append([record(2 + 4 * ID_JUMP)])
    ring.close()
    ring = EventRing(path)
    assert ring.next_id > 2 + 4 * ID_JUMP
    ring.close()


def test_a_foreign_or_newer_file_is_refused(tmp_path: Path) -> None:
    """A file of a newer notifyd is not written to; neither is one that is no database."""
    path = tmp_path / "events.db"
    EventRing(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(sqlite3.DatabaseError, match="schema 99"):
        EventRing(path)
    path.write_bytes(b"not a database, but long enough to be looked at " * 100)
    with pytest.raises(sqlite3.DatabaseError):
        EventRing(path)
    set_aside(path)
    EventRing(path).close()
    assert path.with_name("events.db.damaged").exists()


def test_a_failed_append_leaves_nothing_behind(ring: EventRing) -> None:
    """A batch is stored whole or not at all, and the ring can be used afterwards."""
    ring.append([record(1)])
    with pytest.raises(sqlite3.IntegrityError):
        ring.append([record(2, boot_id="a" * 32), record(1)])
    assert ring.count == 1
    ring.append([record(2, boot_id="b" * 32)])
    assert [r.boot_id for r in ring.select(Query(after=0))] == [BOOT, "b" * 32]


records = st.lists(
    st.builds(
        lambda level, category, message, time: {"level": level, "category": category, "message": message, "time": time},
        st.sampled_from(LEVELS),
        st.sampled_from(["mail", "token", "auth"]),
        st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
        | st.sampled_from(["a%b_c\\", "A%B", "Ä"]),
        st.floats(0, 1000),
    ),
    max_size=30,
)
queries = st.builds(
    Query,
    after=st.none() | st.integers(-1, 32),
    before=st.none() | st.integers(-1, 32),
    limit=st.integers(1, 40),
    level=st.none() | st.sampled_from(LEVELS),
    category=st.none() | st.sampled_from(["mail", "token"]),
    text=st.none() | st.sampled_from(["", "a", "%", "_", "\\", "A%b", "ä", "mail"]),
    since=st.none() | st.floats(0, 1000),
    until=st.none() | st.floats(0, 1000),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(values=records, query=queries)
def test_the_database_and_memory_agree_on_every_query(
    tmp_path: Path, values: list[dict[str, object]], query: Query
) -> None:
    """A record is found by the same conditions whether it is stored already or still pending."""
    path = tmp_path / "events.db"
    path.unlink(missing_ok=True)
    ring = EventRing(path)
    stored = [record(number, **value) for number, value in enumerate(values, 1)]
    ring.append(stored)
    expected = [each for each in stored if query.accepts(each)]
    if not query.oldest_first:
        expected.reverse()
    found = ring.select(query)
    ring.close()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    assert found == expected[: query.limit]
