"""The event log as its users meet it: durable, bounded, never in the way."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from notifyd.adapters import eventlog as module
from notifyd.adapters.event_ring import EventRing, Query
from notifyd.adapters.eventlog import MAX_PENDING, EventLog, bridge_libraries
from notifyd.adapters.structured import bound_contextvars
from notifyd.core.eventlog import Level, Record

BOOT = "b" * 32


def stored_in(path: Path) -> list[Record]:
    """What another process would find in the file now."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        rows = db.execute("SELECT id, event FROM events ORDER BY id").fetchall()
    finally:
        db.close()
    return [Record(row[0], 0.0, BOOT, Level.INFO, "", row[1], "", {}) for row in rows]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest.fixture
def log(path: Path) -> Iterator[EventLog]:
    log = EventLog(path, boot_id=BOOT)
    yield log
    log.close()


async def test_errors_and_token_events_are_on_disk_at_once_others_wait(log: EventLog, path: Path) -> None:
    """A reader of the file sees a durable event as soon as emit returns, and with it all before it."""
    log.emit("mail.sent", mail_id="1", to="a@b.example")
    assert stored_in(path) == []
    log.emit("token.refreshed", account="a@b.example", expires_at=0)
    assert [record.event for record in stored_in(path)] == ["mail.sent", "token.refreshed"]
    log.emit("mail.failed", mail_id="1", to="a@b.example", title="no")
    assert len(stored_in(path)) == 3


async def test_pending_events_are_seen_before_they_are_stored(log: EventLog, path: Path) -> None:
    """A page shows an event at once; reading does not cause a write."""
    log.emit("mail.failed", mail_id="1", to="x", title="t")
    log.emit("mail.sent", mail_id="2", to="x")
    log.emit("mail.sent", mail_id="3", to="x")
    assert [record.id for record in log.query()] == [3, 2, 1]
    assert [record.id for record in log.query(after=1)] == [2, 3]
    assert [record.id for record in log.query(limit=2)] == [3, 2]
    assert [record.id for record in log.query(before=3, limit=5)] == [2, 1]
    assert len(stored_in(path)) == 1


async def test_an_idle_log_has_no_timer_and_a_busy_one_has_one(log: EventLog) -> None:
    """Nothing wakes the gateway when nothing is pending; a notice is written sooner than an info."""
    assert log._timer is None
    log.emit("mail.sent", mail_id="1", to="x")
    assert log._timer is not None
    far = log._timer.when()
    log.emit("mail.sent", mail_id="2", to="x")
    assert log._timer.when() == far
    log.emit("mail.deferred", mail_id="2", to="x", title="t")
    assert log._timer.when() < far
    log.emit("mail.failed", mail_id="2", to="x", title="t")
    assert log._timer is None


async def test_a_batch_is_written_when_its_time_has_come(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one-shot timer writes what is pending and is gone."""
    monkeypatch.setattr(module, "BATCH_S", 0.01)
    log = EventLog(path, boot_id=BOOT)
    log.emit("mail.sent", mail_id="1", to="x")
    async with asyncio.timeout(10):
        while not stored_in(path):
            await asyncio.sleep(0.005)
    assert log._timer is None
    log.close()


def test_without_a_loop_every_event_is_written_at_once(log: EventLog, path: Path) -> None:
    """Short-lived programs have no timers to wait for."""
    log.emit("mail.sent", mail_id="1", to="x")
    assert len(stored_in(path)) == 1


async def test_a_burst_is_written_in_batches_and_bounded(log: EventLog, path: Path) -> None:
    """Thousand events at once cost a few writes and hold no more than a batch in memory."""
    for number in range(1000):
        log.emit("mail.sent", mail_id=str(number), to="x")
        assert len(log._pending) <= module.BATCH_RECORDS
    assert len(stored_in(path)) >= 1000 - module.BATCH_RECORDS


async def test_close_and_open_goes_on_without_a_gap(path: Path) -> None:
    """Ids go on over a clean restart and nothing pending is lost."""
    log = EventLog(path, boot_id=BOOT)
    log.emit("mail.sent", mail_id="1", to="x")
    log.close()
    log = EventLog(path, boot_id=BOOT)
    record = log.emit("mail.sent", mail_id="2", to="x")
    assert record is not None
    assert record.id == 2
    assert [each.id for each in log.query(after=0)] == [1, 2]
    log.close()


async def test_a_follower_gets_everything_once_in_order(log: EventLog) -> None:
    """First what was stored after its id, then what happens, while batches are written in between."""
    for number in range(250):
        log.emit("mail.sent", mail_id=str(number), to="x")
    seen: list[int] = []

    async def follow() -> None:
        async for record in log.subscribe(after=100):
            seen.append(record.id)
            if record.id == 400:
                return

    task = asyncio.create_task(follow())
    for number in range(150):
        log.emit("mail.sent", mail_id=str(number), to="x")
        if number % 10 == 0:
            await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await task
    assert seen == list(range(101, 401))


async def test_a_follower_with_conditions_sees_only_what_it_asked_for(log: EventLog) -> None:
    """Conditions hold for the past and for the live part."""
    log.emit("mail.failed", mail_id="1", to="x", title="t")
    log.emit("mail.sent", mail_id="2", to="x")
    stream = log.subscribe(after=0, level=Level.ERROR, category="mail")
    assert (await anext(stream)).id == 1
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    log.emit("token.expired", account="x")
    log.emit("mail.failed", mail_id="3", to="x", title="t")
    async with asyncio.timeout(10):
        assert (await waiting).id == 4
    await stream.aclose()  # type: ignore[attr-defined]  # an async generator behind the iterator's type


async def test_the_end_of_the_log_is_the_end_of_its_followers(log: EventLog) -> None:
    """Nobody waits for events of a service that has stopped; cancelled followers leave nothing behind."""

    async def collect() -> list[int]:
        return [record.id async for record in log.subscribe()]

    ends, cancelled = asyncio.create_task(collect()), asyncio.create_task(collect())
    await asyncio.sleep(0)
    assert len(log._waiters) == 2
    cancelled.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await cancelled
    assert len(log._waiters) == 1
    log.emit("mail.sent", mail_id="1", to="x")
    await asyncio.sleep(0)
    log.close()
    async with asyncio.timeout(10):
        assert await ends == [1]
    assert not log._waiters


async def test_a_reader_that_stops_reading_cannot_grow_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """6,000 events with 20 stopped followers cost no memory, and a follower resumes without a loss."""
    monkeypatch.setattr(EventRing, "append", relaxed(EventRing.append))
    log = EventLog(path, boot_id=BOOT)
    streams = [log.subscribe(after=0) for _ in range(20)]
    log.emit("mail.sent", mail_id="first", to="x")
    for stream in streams:
        assert (await anext(stream)).id == 1

    def flood(count: int) -> None:
        for number in range(count):
            log.emit("mail.sent", mail_id=str(number), to="someone@contoso.example", reply="250 2.0.0 OK" * 20)

    flood(2000)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    flood(6_000)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 300_000
    resumed = [(await anext(streams[0])).id for _ in range(500)]
    assert resumed == list(range(2, 502))
    for stream in streams:
        await stream.aclose()  # type: ignore[attr-defined]  # an async generator behind the iterator's type
    log.close()


def relaxed(append):  # type: ignore[no-untyped-def]  # wraps a method for one test only
    """The same method without waiting for the disk, which is not what the test measures."""

    def quick(self: EventRing, records: list[Record]) -> None:
        self._db.execute("PRAGMA synchronous=OFF")
        append(self, records)

    return quick


async def test_a_broken_consumer_silences_nobody(path: Path) -> None:
    """A sink that raises costs the others nothing and the emitter neither."""
    got: list[Record] = []

    def broken(record: Record) -> None:
        raise OSError("gone")

    log = EventLog(path, sinks=[broken, got.append], boot_id=BOOT)
    log.emit("service.started", version="1")
    assert [record.event for record in got] == ["service.started"]
    log.close()


async def test_a_damaged_file_is_set_aside_and_said_so(path: Path) -> None:
    """The service starts, logs, and tells of the damage; the old file is kept for a look."""
    path.write_bytes(b"SQLite format 3\x00" + os.urandom(8000))
    log = EventLog(path, boot_id=BOOT)
    log.emit("service.started", version="1")
    assert [record.event for record in log.query(after=0)] == ["store.events_reset", "service.started"]
    assert path.with_name("events.db.damaged").exists()
    log.close()


async def test_a_disk_that_takes_nothing_does_not_stop_anyone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events wait in memory up to a bound, the rest is counted and told, and all is stored once it can be."""
    log = EventLog(path, boot_id=BOOT)
    log.emit("service.started", version="1")
    log.flush()
    real = EventRing.append
    tries = 0

    def full(self: EventRing, records: list[Record]) -> None:
        nonlocal tries
        tries += 1
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(EventRing, "append", full)
    for number in range(400):
        log.emit("mail.failed", mail_id=str(number), to="x", title="t")
    assert tries == 1
    assert len(log.query(event="store.events_unwritable")) <= 1
    assert len(log._pending) == MAX_PENDING
    assert log.query()[0].fields["mail_id"] == "399"
    assert log._timer is not None

    monkeypatch.setattr(EventRing, "append", real)
    log._on_timer()
    kept = log.query(after=0, limit=1000)
    assert [record.event for record in kept[-2:]] == ["store.recovered", "store.events_lost"]
    assert kept[-1].fields["count"] == 401 - MAX_PENDING
    assert [record.id for record in kept] == sorted({record.id for record in kept})
    log.close()


async def test_a_ring_that_opens_later_takes_what_came_before(tmp_path: Path) -> None:
    """Events from before the storage was there are numbered after those it holds."""
    directory = tmp_path / "data"
    directory.mkdir()
    path = directory / "events.db"
    first = EventLog(path, boot_id=BOOT)
    for _ in range(5):
        first.emit("mail.sent", mail_id="1", to="x")
    first.close()
    directory.rename(tmp_path / "away")
    log = EventLog(path, boot_id=BOOT)
    log.emit("service.started", version="2")
    assert log.query(event="service.started")
    (tmp_path / "away").rename(directory)
    assert log.flush()
    ids = [record.id for record in log.query(after=0)]
    assert ids == sorted(set(ids))
    assert ids[:5] == [1, 2, 3, 4, 5]
    log.close()


async def test_without_a_path_the_newest_stay_in_memory() -> None:
    """Tools that need no file keep a bounded number of records."""
    log = EventLog(None, boot_id=BOOT)
    for number in range(MAX_PENDING + 10):
        log.emit("mail.failed", mail_id=str(number), to="x", title="t")
    assert len(log.query(limit=1000)) == MAX_PENDING
    log.close()


async def test_an_exception_is_told_without_the_values_of_variables(log: EventLog) -> None:
    """The traceback has the places, never what the variables held; and what its text held is redacted."""
    token = "eyJ0eXAiOiJKV1QifQ.eyJzZWNyZXQiOjF9.c2lnbmF0dXJl"
    try:
        raise ValueError(f"bad answer: access_token={token}")
    except ValueError as fault:
        record = log.emit("service.fault", reason=fault, where="test", exc_info=True)
    assert record is not None
    text = json.dumps(record.as_json())
    assert "ValueError" in str(record.fields["exception"])
    assert "test_eventlog.py" in text
    assert token not in text
    assert token[:20] not in text


async def test_what_libraries_say_is_kept_from_warnings_up(log: EventLog) -> None:
    """Foreign loggers cannot flood the log, and their words are redacted like all others."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        bridge_libraries(log)
        foreign = logging.getLogger("msal.oauth2cli")
        foreign.debug("refresh_token=0.AXabcdefghijklmnopqrstuvw")
        foreign.info("hello")
        foreign.warning("code=0.AXabcdefghijklmnopqrstuvw was %s", "bad\r\nforged")
        foreign.error("wrong format %d", "x")
    finally:
        root.handlers[:], root.level = before
    (record,) = log.query(event="service.library")
    assert record.fields == {"logger": "msal.oauth2cli", "text": "code=[secret] was bad forged"}


async def test_bound_context_goes_into_every_event_of_a_task(log: EventLog) -> None:
    """A request's user and address are on every event it causes, and on no other's."""

    async def request() -> None:
        with bound_contextvars(user="admin", remote="192.168.1.33"):
            await asyncio.sleep(0)
            log.emit("settings.cleared")

    await asyncio.gather(request(), asyncio.create_task(asyncio.sleep(0)))
    log.emit("clock.right")
    right, cleared = log.query()
    assert cleared.message == "Mail server settings cleared by admin"
    assert right.fields == {}


async def test_debug_events_are_dropped_unless_wanted(path: Path) -> None:
    """Below the least level nothing is recorded."""
    quiet = EventLog(path, boot_id=BOOT)
    assert quiet.emit("mail.accepted", mail_id="1", to="x") is None
    quiet.close()
    loud = EventLog(path, boot_id=BOOT, min_level=Level.DEBUG)
    assert loud.emit("mail.accepted", mail_id="1", to="x") is not None
    loud.close()


WRITER = textwrap.dedent("""
    import asyncio, sys
    from pathlib import Path
    from notifyd.adapters.eventlog import EventLog

    async def main():
        log = EventLog(Path(sys.argv[1]), boot_id="c" * 32)
        number = 0
        while True:
            number += 1
            if number % 3 == 0:
                record = log.emit("token.refreshed", account=str(number), expires_at=0)
                sys.stdout.write(f"{record.id}\\n")
                sys.stdout.flush()
            else:
                log.emit("mail.sent", mail_id=str(number), to="x")
            await asyncio.sleep(0)

    asyncio.run(main())
""")


def test_kill_9_loses_nothing_that_was_promised_durable(path: Path) -> None:
    """25 times killed while writing: each token event whose emit had returned is there, ids never repeat."""
    chance = random.Random(7)
    command = [sys.executable, "-c", WRITER, str(path)]
    environment = os.environ | {"PYTHONPATH": str(Path(module.__file__).parents[2])}
    promised: set[int] = set()
    for _ in range(25):
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as writer:
            assert writer.stdout is not None
            for _ in range(chance.randrange(1, 40)):
                promised.add(int(writer.stdout.readline()))
            writer.send_signal(signal.SIGKILL)
            rest = writer.stdout.read().decode()
            lines = rest.split("\n")[:-1]
            assert not promised & {int(each) for each in lines}
            promised |= {int(each) for each in lines}
    ring = EventRing(path)
    kept = {record.id for record in ring.select(Query(after=0, limit=1_000_000))}
    ring.close()
    assert promised <= kept
    assert len(promised) > 100
