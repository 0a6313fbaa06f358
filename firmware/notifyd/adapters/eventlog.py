"""The event log: takes every event, makes it a record, and carries it to the ring, the sinks and the followers.

`emit` never raises and never waits for a follower: a log that can break or slow down what it tells of is worse than
none. What may not be lost (`core.eventlog.must_be_durable_at_once`) is on the disk when `emit` returns; the rest is
written in batches by a timer that exists only while something is pending, so that an idle gateway neither wakes nor
writes.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import sys
import time as system_time
import traceback
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from notifyd.adapters.clock import boot_id as boot_id_of_kernel
from notifyd.adapters.event_ring import EventRing, Query, set_aside
from notifyd.adapters.structured import EventDict, make_logger, merge_contextvars
from notifyd.core.event_shape import Draft, draft, usual_level
from notifyd.core.eventlog import Level, Record, must_be_durable_at_once

Sink = Callable[[Record], None]

BATCH_S = 300.0  # at one event a minute: 288 small writes a day; the journal has the events at once anyway
NOTICE_BATCH_S = 10.0  # what an administrator would miss after a power cut
BATCH_RECORDS = 64  # a burst is written without waiting for the timer
MAX_PENDING = 256  # records in memory at most while the disk takes none
REOPEN_FIRST_S, REOPEN_MAX_S = 15.0, 900.0
MAX_QUERY = 1000  # records an answer holds at most
FOLLOW_STEP = 100  # records a follower takes from the ring at a time: its whole memory

_METHODS = {
    Level.EMERGENCY: "critical",
    Level.ALERT: "critical",
    Level.CRITICAL: "critical",
    Level.ERROR: "error",
    Level.WARNING: "warning",
    Level.NOTICE: "info",
    Level.INFO: "info",
    Level.DEBUG: "debug",
}


class EventLog:
    """The one event log of a process. Use it from the event loop's thread only.

    path: of the ring, usually `events.db`; None keeps the last 256 records in memory only.
    sinks: called with each record, in order; one that fails does not disturb the others.
    clock: gives wall-clock seconds. boot_id: 32 hex digits, the kernel's when not given.
    min_level: less urgent events are dropped at almost no cost.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        sinks: Iterable[Sink] = (),
        clock: Callable[[], float] = system_time.time,
        boot_id: str | None = None,
        min_level: Level = Level.INFO,
    ) -> None:
        self._path = path
        self._sinks = list(sinks)
        self._clock = clock
        self._boot_id = boot_id_of_kernel().replace("-", "") if boot_id is None else boot_id
        self._pending: deque[Record] = deque()
        self._waiters: set[asyncio.Future[None]] = set()
        self._closed = False
        self._lost = 0
        self._troubled = False
        self._numbered = False
        self.emitted = {level.value: 0 for level in Level}
        """How many records of each level there were since the start, for metrics."""
        self._timer: asyncio.TimerHandle | None = None
        self._reopen_s = REOPEN_FIRST_S
        self._retry_at = 0.0
        self._next_id = 1
        self._ring: EventRing | None = None
        min_number = getattr(logging, _METHODS[min_level].upper())
        self._logger = make_logger(self, (merge_contextvars, _trace, _shape), min_number)
        self._open()

    # ---- writing ------------------------------------------------------------------------------------------------

    def emit(
        self, event: str, message: str | None = None, *, level: Level | str | None = None, **fields: object
    ) -> Record | None:
        """Records one event; `core.event_definitions` has the names and fields. None when below the least level.

        message: instead of the definition's template. level: instead of the usual one. A field that is None is left
        out. `exc_info=True`, or an exception in it, adds a traceback without local values.
        """
        chosen = usual_level(event, level)
        record: Record | None = getattr(self._logger, _METHODS[chosen])(event, _level=chosen, _text=message, **fields)
        return record

    def add_sink(self, sink: Sink) -> None:
        """From now on each record also goes to `sink`."""
        self._sinks.append(sink)

    def _take(self, drafted: Draft) -> Record:
        """What structlog calls, whatever the level, with the outcome of the last processor."""
        record = Record(
            id=self._next_id,
            time=self._clock(),
            boot_id=self._boot_id,
            level=drafted.level,
            category=drafted.category,
            event=drafted.event,
            message=drafted.message,
            fields=drafted.fields,
        )
        self._next_id += 1
        self.emitted[record.level.value] += 1
        self._keep(record)
        for sink in self._sinks:
            with suppress(Exception):  # a broken consumer must not silence the others, nor the caller
                sink(record)
        self._wake_followers()
        return record

    debug = info = warning = error = critical = _take

    def _keep(self, record: Record) -> None:
        self._pending.append(record)
        while len(self._pending) > MAX_PENDING:
            self._pending.popleft()
            self._lost += self._path is not None
        if self._path is None or self._closed:
            return
        if must_be_durable_at_once(record) or len(self._pending) >= BATCH_RECORDS:
            self._flush_unless_backing_off()
        else:
            self._arm(NOTICE_BATCH_S if record.level.at_least(Level.NOTICE) else BATCH_S)

    # ---- reading ------------------------------------------------------------------------------------------------

    @property
    def last_id(self) -> int:
        """Id of the newest record, or just below the next one's; 0 when there was none ever."""
        return self._next_id - 1

    def query(
        self,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int = 100,
        level: Level | None = None,
        category: str | None = None,
        event: str | None = None,
        text: str | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> list[Record]:
        """Records that meet every given condition, at most `limit` (≤ 1000); see `event_ring.Query` for their meaning.

        With `after` oldest first, from there on; else newest first.
        """
        bounded = min(max(limit, 1), MAX_QUERY)
        return self._select(Query(after, before, bounded, level, category, event, text, since, until))

    async def subscribe(
        self,
        *,
        after: int | None = None,
        level: Level | None = None,
        category: str | None = None,
        event: str | None = None,
        text: str | None = None,
    ) -> AsyncIterator[Record]:
        """Records after the id `after` (default: from now on), each once, in order, and then new ones as they come.

        A follower has no buffer: it takes the next few records from the ring whenever it is ready for them, so one that
        stops reading costs nothing, and one that was away resumes by the id it saw last.
        """
        at = self.last_id if after is None else min(after, self.last_id)  # a log that began anew has smaller ids
        while True:
            seen = self.last_id
            step = self._select(Query(at, None, FOLLOW_STEP, level, category, event, text))
            for record in step:
                at = record.id
                yield record
            if len(step) < FOLLOW_STEP:
                at = max(at, seen)
                if self._closed:
                    return
                if self.last_id == seen:
                    await self._news()

    async def news_after(self, identifier: int) -> bool:
        """Waits for a record with a larger id: True when there is one, False when the log has been closed."""
        while self.last_id <= identifier and not self._closed:
            await self._news()
        return not self._closed

    def count(self, *, after: int, upto: int, level: Level | None = None) -> int:
        """How many records have ids in (after, upto] and are this urgent or more."""
        query = Query(after=after, before=upto + 1, level=level)
        stored = 0
        if self._ring is not None:
            try:
                stored = self._ring.count_matching(query)
            except sqlite3.Error as fault:
                self._ring_failed(fault)
        return stored + sum(map(query.accepts, self._pending))

    def _select(self, query: Query) -> list[Record]:
        pending = [record for record in self._pending if query.accepts(record)]
        if query.oldest_first:
            stored = self._stored(query)
            return (stored + pending)[: query.limit]
        newest = pending[::-1][: query.limit]
        return newest + self._stored(replace(query, limit=query.limit - len(newest)))

    def _stored(self, query: Query) -> list[Record]:
        if self._ring is None or query.limit <= 0:
            return []
        try:
            return self._ring.select(query)
        except sqlite3.Error as fault:
            self._ring_failed(fault)
            return []

    async def _news(self) -> None:
        """Returns at the next record, or when the log is closed."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def _wake_followers(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    # ---- the ring: batches, faults, end -------------------------------------------------------------------------

    def flush(self) -> bool:
        """Writes what is pending; True when all of it is on the disk."""
        self._disarm()
        if self._ring is None and self._path is not None:
            self._open()
        if self._ring is None:
            return False
        try:
            self._ring.append(self._pending)
        except sqlite3.Error as fault:
            self._ring_failed(fault)
            return False
        self._pending.clear()
        self._reopen_s = REOPEN_FIRST_S
        if self._troubled:
            self._troubled = False
            self.emit("store.recovered")
        if self._lost:
            lost, self._lost = self._lost, 0
            self.emit("store.events_lost", count=lost, reason="they were more than memory holds")
        return True

    def close(self) -> None:
        """Writes what is pending and ends; followers get the end of their stream."""
        if self._closed:
            return
        self.flush()
        self._closed = True
        self._disarm()
        self._wake_followers()
        if self._ring is not None:
            with suppress(sqlite3.Error):
                self._ring.close(next_id=self._next_id)
            self._ring = None

    def _open(self) -> None:
        """Opens the ring, or a new one in place of a damaged one; leaves it closed when the storage has a fault."""
        if self._path is None:
            return
        damage = ""
        try:
            try:
                self._ring = EventRing(self._path)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as fault:
                damage = str(fault)
                set_aside(self._path)
                self._ring = EventRing(self._path)
        except (sqlite3.Error, OSError) as fault:
            self._ring_failed(fault)
            return
        # Within a run the ids go on; the first opening puts them behind those of earlier runs.
        self._number_after(self._ring.last_id + 1 if self._numbered else self._ring.next_id)
        self._numbered = True
        if damage:
            self.emit("store.events_reset", reason=damage)

    def _number_after(self, next_id: int) -> None:
        """Puts what was emitted before the ring could be read behind what it holds."""
        first = self._pending[0].id if self._pending else self._next_id
        shift = max(0, next_id - first)
        if shift:
            self._pending = deque(replace(record, id=record.id + shift) for record in self._pending)
            self._next_id += shift

    def _ring_failed(self, fault: Exception) -> None:
        """The file is closed, since after a failed sync its state is unknown, and opened again later."""
        first = self._retry_at == 0.0
        if self._ring is not None:
            with suppress(sqlite3.Error):
                self._ring.close()
            self._ring = None
        damaged = isinstance(fault, sqlite3.DatabaseError) and not isinstance(fault, sqlite3.OperationalError)
        if damaged and self._path is not None:
            with suppress(OSError):
                set_aside(self._path)
        self._troubled = True
        self._retry_at = system_time.monotonic() + self._reopen_s
        self._arm(self._reopen_s)
        self._reopen_s = min(self._reopen_s * 2, REOPEN_MAX_S)
        if first:
            self.emit("store.events_reset" if damaged else "store.events_unwritable", reason=str(fault))

    def _flush_unless_backing_off(self) -> None:
        if system_time.monotonic() >= self._retry_at:
            self._retry_at = 0.0
            self.flush()

    def _arm(self, seconds: float) -> None:
        """Sees to it that the ring is written within `seconds`; at once where no loop runs."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._flush_unless_backing_off()
            return
        due = loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._retry_at = 0.0
        self.flush()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class LibraryHandler(logging.Handler):
    """Brings what libraries say through the standard `logging`, from warnings up, into the event log."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Called by `logging`."""
        with suppress(Exception):  # a malformed record of a library is not worth a crash
            trace = None if record.exc_info is None else record.exc_info[1]
            level = Level.ERROR if record.levelno >= logging.ERROR else Level.WARNING
            self._log.emit("service.library", level=level, logger=record.name, text=record.getMessage(), exc_info=trace)


def bridge_libraries(log: EventLog) -> LibraryHandler:
    """Makes the event log the only handler of the standard `logging`, with warnings as the least level."""
    handler = LibraryHandler(log)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.raiseExceptions = False
    return handler


def _trace(_logger: object, _method: str, event: EventDict) -> EventDict:
    """structlog processor: an exception as text, never with the values of local variables (they may be tokens)."""
    exc_info = event.pop("exc_info", None)
    if exc_info is True:
        exc_info = sys.exc_info()[1]
    if isinstance(exc_info, BaseException):
        event["exception"] = "".join(traceback.format_exception(exc_info)).replace("\n", " | ")
    return event


def _shape(_logger: object, _method: str, event: EventDict) -> tuple[tuple[Draft], dict[str, object]]:
    """structlog processor, the last one: defined, bounded, clean and without secrets."""
    name, level, text = event.pop("event"), event.pop("_level"), event.pop("_text")
    return (draft(str(name), level, text, event),), {}
