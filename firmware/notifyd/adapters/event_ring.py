"""The ring of stored events: one SQLite file bounded by number, size and age.

It is apart from the service's own database so that damage here can be answered by starting anew, and so that a flood of
events cannot fill the pages that settings and mail need.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from notifyd.core.eventlog import LEVELS, FieldValue, Level, Record

SCHEMA_VERSION = 1
MAX_RECORDS = 100_000
MAX_BYTES = 48 * 1024 * 1024  # 100,000 records of a usual 300 bytes and some room; also the bound on a small partition
MAX_AGE_S = 400 * 86_400.0  # a year and a month: "what happened last year this time"
TRIM_SLACK = 256  # trimming in steps writes fewer pages than trimming one record each time
ID_JUMP = 10_000  # ids reserved at a time: a follower may have seen some of records that a crash kept from the disk

_SCHEMA = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    boot INTEGER NOT NULL,
    level INTEGER NOT NULL,
    category TEXT NOT NULL,
    event TEXT NOT NULL,
    message TEXT NOT NULL,
    fields TEXT NOT NULL
);
CREATE TABLE boots (number INTEGER PRIMARY KEY, boot_id TEXT NOT NULL UNIQUE);
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
_INSERT = "INSERT INTO events (id, time, level, category, event, message, fields, boot) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_SELECT = "SELECT id, time, boot, level, category, event, message, fields FROM events"


@dataclass(frozen=True, slots=True)
class Query:
    """What records are wanted; every given condition must hold.

    after: only ids above it, oldest first. before: only ids below it, newest first. Without either: the newest.
    level: this urgent or more. text: a part of the message or of the event's name, case-insensitive for ASCII.
    since, until: wall-clock seconds; since included, until not.
    """

    after: int | None = None
    before: int | None = None
    limit: int = 100
    level: Level | None = None
    category: str | None = None
    event: str | None = None
    text: str | None = None
    since: float | None = None
    until: float | None = None

    @property
    def oldest_first(self) -> bool:
        return self.after is not None

    def accepts(self, record: Record) -> bool:
        """True when every condition but the limit holds."""
        needle = _fold(self.text) if self.text else ""
        return (
            (self.after is None or record.id > self.after)
            and (self.before is None or record.id < self.before)
            and (self.level is None or record.level.at_least(self.level))
            and (self.category is None or record.category == self.category)
            and (self.event is None or record.event == self.event)
            and (self.since is None or record.time >= self.since)
            and (self.until is None or record.time < self.until)
            and (not needle or needle in _fold(record.message) or needle in _fold(record.event))
        )


_ASCII_FOLD = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def _fold(text: str) -> str:
    """The way LIKE compares: without case, in ASCII only."""
    return text.translate(_ASCII_FOLD)


class EventRing:
    """The open file. Every method may raise sqlite3.Error; the caller decides what that means.

    next_id: the first id of this run. last_id: the largest one stored.
    """

    def __init__(self, path: Path, *, max_records: int = MAX_RECORDS, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._is_new = not path.exists()
        self._db = _open(path)
        try:
            self._reserved = 0
            self.last_id = self._scalar("SELECT coalesce(max(id), 0) FROM events")
            self.next_id = self._begin()
            self._count = self._scalar("SELECT count(*) FROM events")
            self._boots = {row[1]: row[0] for row in self._db.execute("SELECT number, boot_id FROM boots")}
        except BaseException:
            self._db.close()
            raise

    @property
    def count(self) -> int:
        """Records held now."""
        return self._count

    def append(self, records: Sequence[Record]) -> None:
        """Stores the records; they are on the disk when it returns."""
        if not records:
            return
        known = dict(self._boots)
        with _transaction(self._db):
            rows = [(*_row(record), self._boot_number(record.boot_id)) for record in records]
            try:
                self._db.executemany(_INSERT, rows)
                removed = self._trim(len(records), records[-1].time)
                if records[-1].id >= self._reserved - ID_JUMP // 2:
                    self._reserve(records[-1].id + 1, clean=False)
            except BaseException:
                self._boots = known
                raise
        self._count += len(records) - removed
        self.last_id = max(self.last_id, records[-1].id)

    def select(self, query: Query) -> list[Record]:
        """The records that the query accepts, in its order."""
        boots = {number: boot_id for boot_id, number in self._boots.items()}
        sql, values = _statement(query)
        return [_record(row, boots) for row in self._db.execute(sql, values)]

    def count_matching(self, query: Query) -> int:
        """How many records the query accepts, whatever its limit."""
        clause, values = _clause(query)
        return self._scalar(" ".join(("SELECT count(*) FROM events", clause)), *values)

    def oldest(self) -> tuple[int, float] | None:
        """Id and time of the oldest record held."""
        row = self._db.execute("SELECT id, time FROM events ORDER BY id LIMIT 1").fetchone()
        return None if row is None else (row[0], row[1])

    def close(self, next_id: int | None = None) -> None:
        """Closes the file; `next_id`, when given, lets the next start go on without a jump of ids."""
        try:
            if next_id is not None:
                with _transaction(self._db):
                    self._reserve(next_id, clean=True)
        finally:
            self._db.close()

    def _begin(self) -> int:
        """Reserves ids for this run and returns the first: none that an earlier run used, stored or not."""
        facts: dict[str, int] = dict(self._db.execute("SELECT name, value FROM facts"))
        if not self._is_new and not facts.get("clean"):
            self._look_for_damage()
        first = max(self.last_id + 1, facts.get("next_id", 1))
        with _transaction(self._db):
            self._reserve(first, clean=False)
        return first

    def _look_for_damage(self) -> None:
        """After an unclean end: at every page once, before anything is added to damage."""
        if self._db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("quick_check found damage")

    def _reserve(self, used_below: int, *, clean: bool) -> None:
        """Notes which ids may be used already; a run that does not end cleanly may have used some more in memory."""
        self._reserved = used_below if clean else used_below + ID_JUMP
        facts = [("next_id", self._reserved), ("clean", int(clean))]
        self._db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", facts)

    def _boot_number(self, boot_id: str) -> int:
        number = self._boots.get(boot_id)
        if number is None:
            cursor = self._db.execute("INSERT INTO boots (boot_id) VALUES (?)", (boot_id,))
            number = self._boots[boot_id] = int(cursor.lastrowid or 0)
        return number

    def _trim(self, added: int, now: float) -> int:
        """Removes the oldest beyond the bounds; returns how many."""
        removed = 0
        over = self._count + added - self._max_records
        if over > 0:
            removed += self._remove_oldest(over + min(TRIM_SLACK, self._max_records // 10))
        used = self._scalar("PRAGMA page_count") - self._scalar("PRAGMA freelist_count")
        size = used * self._scalar("PRAGMA page_size")
        if size > self._max_bytes:
            share = (size - self._max_bytes) / size + 0.02
            removed += self._remove_oldest(max(1, int((self._count + added - removed) * share)))
        oldest = self.oldest()
        if oldest is not None and oldest[1] < now - MAX_AGE_S:
            # Only from the front: a record with a wild time in the middle, from a clock that was wrong, goes with its
            # neighbours. One in ten a time, so that a clock that jumps far ahead does not empty the ring at once.
            aged = self._scalar(
                "SELECT count(*) FROM (SELECT time FROM events ORDER BY id LIMIT ?) WHERE time < ?",
                max(1, self._max_records // 10),
                now - MAX_AGE_S,
            )
            removed += self._remove_oldest(aged)
        return removed

    def _remove_oldest(self, count: int) -> int:
        cursor = self._db.execute(
            "DELETE FROM events WHERE id IN (SELECT id FROM events ORDER BY id LIMIT ?)", (count,)
        )
        return cursor.rowcount

    def _scalar(self, sql: str, *values: object) -> int:
        return int(self._db.execute(sql, values).fetchone()[0])


def _open(path: Path) -> sqlite3.Connection:
    existed = path.exists()
    db = sqlite3.connect(path, isolation_level=None, cached_statements=16)
    try:
        # WAL with FULL: one fsync a commit, and a reader never blocks. The small cache and the bounded WAL keep the
        # service small and flash wear in proportion.
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "mmap_size=0",
            "cache_size=-256",
            "cell_size_check=on",
            "trusted_schema=off",
            "secure_delete=off",
            "journal_size_limit=262144",
            "wal_autocheckpoint=64",
        ):
            db.execute(f"PRAGMA {pragma}").fetchone()
        _migrate(db)
        if not existed:
            _sync_directory(path.parent)
    except BaseException:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection) -> None:
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version == 0:
        with _transaction(db):
            for statement in filter(str.strip, _SCHEMA.split(";")):
                db.execute(statement)
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    elif version != SCHEMA_VERSION:
        raise sqlite3.DatabaseError(f"the event log has schema {version}, this notifyd knows {SCHEMA_VERSION}")


def set_aside(path: Path) -> None:
    """Moves a damaged file (and its log) to `….damaged`, over an older one, so that a new one can begin."""
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()
    with suppress(FileNotFoundError):
        path.replace(path.with_name(path.name + ".damaged"))
        _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """Makes a new name durable: SQLite swallows the error of this sync."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class _transaction:  # noqa: N801  # reads as a keyword, like contextlib's own
    """BEGIN IMMEDIATE … COMMIT, or ROLLBACK when anything fails, the COMMIT itself included."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            try:
                self._db.execute("COMMIT")
            except sqlite3.Error:
                self._roll_back()
                raise
        else:
            self._roll_back()

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            self._db.execute("ROLLBACK")


def _row(record: Record) -> tuple[object, ...]:
    fields = json.dumps(dict(record.fields), ensure_ascii=False, separators=(",", ":")) if record.fields else "{}"
    return (
        record.id,
        record.time,
        record.level.severity,
        record.category,
        record.event,
        record.message,
        fields,
    )


def _record(row: Sequence[object], boots: Mapping[int, str]) -> Record:
    identifier, time, boot, level, category, event, message, fields = row
    decoded: dict[str, FieldValue] = json.loads(str(fields))
    return Record(
        id=int(str(identifier)),
        time=float(str(time)),
        boot_id=boots.get(int(str(boot)), ""),
        level=LEVELS[int(str(level))],
        category=str(category),
        event=str(event),
        message=str(message),
        fields=decoded,
    )


def _statement(query: Query) -> tuple[str, list[object]]:
    """The SELECT of a query. Conditions use the rowid order, so that the limit ends the scan early."""
    clause, values = _clause(query)
    order = "ASC" if query.oldest_first else "DESC"
    return " ".join((_SELECT, clause, f"ORDER BY id {order} LIMIT ?")), [*values, query.limit]


def _clause(query: Query) -> tuple[str, list[object]]:
    where: list[str] = []
    values: list[object] = []
    for condition, value in _conditions(query):
        where.append(condition)
        values.extend(value)
    return ("WHERE " + " AND ".join(where) if where else "", values)


def _conditions(query: Query) -> Iterator[tuple[str, Iterable[object]]]:
    if query.after is not None:
        yield "id > ?", (query.after,)
    if query.before is not None:
        yield "id < ?", (query.before,)
    if query.level is not None:
        yield "level <= ?", (query.level.severity,)
    if query.category is not None:
        yield "category = ?", (query.category,)
    if query.event is not None:
        yield "event = ?", (query.event,)
    if query.since is not None:
        yield "time >= ?", (query.since,)
    if query.until is not None:
        yield "time < ?", (query.until,)
    if query.text:
        pattern = "%" + query.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        yield "(message LIKE ? ESCAPE '\\' OR event LIKE ? ESCAPE '\\')", (pattern, pattern)
