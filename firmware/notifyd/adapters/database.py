"""The database file: settings, the agent's snapshot, counters and the mail queue, on one connection.

What lives here: opening it with the settings that make a commit durable, schema versions, the one transaction helper
that turns SQLite's errors into ours, and the store of settings. WAL with synchronous=FULL costs one sync a commit and
lost nothing in 400 replayed crash states, on a single connection (SQLite before 3.51.3 can corrupt a WAL that two
connections reset at the same instant).
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any

from notifyd.core.faults import SchemaTooNew, StoreFailed, StoreFull
from notifyd.core.settings import Auth, Security, Settings

LAYOUT = 1
"""`PRAGMA user_version`: how schema versions themselves are kept."""

PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA mmap_size=0",  # a read error in a mapping is a SIGBUS, not an error code
    "PRAGMA cell_size_check=ON",
    "PRAGMA foreign_keys=ON",
    "PRAGMA secure_delete=ON",  # sealed or not, what was deleted is overwritten
    "PRAGMA trusted_schema=OFF",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA cache_size=-512",
    "PRAGMA journal_size_limit=1048576",
    "PRAGMA wal_autocheckpoint=256",
)

SETTINGS_SCHEMA: Sequence[str] = (
    """
    CREATE TABLE settings (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        document TEXT NOT NULL,
        sealed_secret BLOB NOT NULL,
        generation INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE documents (name TEXT PRIMARY KEY, document TEXT NOT NULL) STRICT;
    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
    """,
)


class Database(sqlite3.Connection):
    """A connection that stops for good at the first failed write: see `StoreFailed`."""

    failed: StoreFailed | None = None

    @contextmanager
    def transaction(self) -> Iterator[Database]:
        """One durable transaction: when the block ends without an exception, it is on the disk.

        Raises StoreFull (nothing changed) and StoreFailed (in doubt; this connection takes nothing any more).
        """
        if self.failed is not None:
            raise StoreFailed(str(self.failed))
        try:
            self.execute("BEGIN IMMEDIATE")
            try:
                yield self
            except BaseException:
                self._roll_back()
                raise
            self.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise self._judge(error) from error

    def _roll_back(self) -> None:
        if self.in_transaction:
            self.execute("ROLLBACK")

    def _judge(self, error: sqlite3.DatabaseError) -> Exception:
        primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if primary == sqlite3.SQLITE_FULL:
            try:
                self._roll_back()
            except sqlite3.DatabaseError as second:
                error = second
            else:
                return StoreFull("the disk is full")
        elif primary == sqlite3.SQLITE_CONSTRAINT:
            return error
        self.failed = StoreFailed(f"cannot write the database: {error}")
        return self.failed


def open_database(path: Path) -> Database:
    """Open or create the database, check it, and make its files durable.

    Raises StoreFailed when it is damaged or cannot be opened, SchemaTooNew when a newer notifyd wrote it.
    """
    fresh = not path.exists()
    try:
        if fresh:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection: Database = sqlite3.connect(
            path, isolation_level=None, factory=Database, timeout=5.0, check_same_thread=True
        )
    except (OSError, sqlite3.DatabaseError) as error:
        raise StoreFailed(f"cannot open {path.name}: {error}") from error
    try:
        _prepare(connection, path)
    except (OSError, sqlite3.DatabaseError) as error:
        connection.close()
        raise StoreFailed(f"cannot open {path.name}: {error}") from error
    except StoreFailed:
        connection.close()
        raise
    return connection


def _prepare(connection: Database, path: Path) -> None:
    (layout,) = connection.execute("PRAGMA user_version").fetchone()
    if layout > LAYOUT:
        raise SchemaTooNew(f"{path.name} was written by a newer notifyd (layout {layout}, this one knows {LAYOUT})")
    for pragma in PRAGMAS:
        connection.execute(pragma)
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise StoreFailed(f"{path.name} is damaged: {verdict}")
    if layout < LAYOUT:
        with connection.transaction():
            connection.execute(
                "CREATE TABLE schema_versions (component TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT"
            )
            connection.execute(f"PRAGMA user_version={LAYOUT}")
    migrate(connection, "settings", SETTINGS_SCHEMA)
    _sync_directory(path.parent)  # SQLite does this too, but swallows the error


def migrate(connection: Database, component: str, scripts: Sequence[str]) -> None:
    """Bring a component's tables to the newest version; script n leads from version n to n + 1.

    Each step and its version number are one transaction, so that a crash in between repeats or skips nothing.
    Raises SchemaTooNew when the tables are newer than the scripts.
    """
    row = connection.execute("SELECT version FROM schema_versions WHERE component = ?", (component,)).fetchone()
    version = row[0] if row else 0
    if version > len(scripts):
        raise SchemaTooNew(f"the tables of {component} are of version {version}, this notifyd knows {len(scripts)}")
    for number, script in enumerate(scripts[version:], version + 1):
        with connection.transaction():
            for statement in filter(str.strip, script.split(";")):
                connection.execute(statement)
            connection.execute("INSERT OR REPLACE INTO schema_versions VALUES (?, ?)", (component, number))


@dataclass(frozen=True, slots=True)
class StoredSettings:
    """Applied settings as the store has them.

    sealed_secret: the sealed secrets, empty when there are none. etag: quoted, for `ETag` and `If-Match` (RFC 9110).
    """

    settings: Settings
    sealed_secret: bytes
    generation: int
    etag: str


class SettingsStore:
    """Settings, named documents and counters. Every write is durable when it returns; see `Database.transaction`."""

    def __init__(self, connection: Database) -> None:
        self._connection = connection

    def load(self) -> StoredSettings | None:
        """The applied settings, or None before the first Apply."""
        row = self._connection.execute("SELECT document, sealed_secret, generation FROM settings").fetchone()
        return _stored(*row) if row else None

    def save(self, settings: Settings, sealed_secret: bytes, generation: int) -> StoredSettings:
        """Replace the applied settings."""
        document = json.dumps(_plain(settings), sort_keys=True)
        with self._connection.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO settings VALUES (1, ?, ?, ?)", (document, sealed_secret, generation)
            )
        return _stored(document, sealed_secret, generation)

    def clear(self) -> None:
        """Forget the settings and their secrets (factory defaults)."""
        with self._connection.transaction() as connection:
            connection.execute("DELETE FROM settings")

    def document(self, name: str) -> Any:
        """A named JSON document such as the agent's snapshot or the report's settings; None when there is none."""
        row = self._connection.execute("SELECT document FROM documents WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def save_document(self, name: str, document: Mapping[str, Any]) -> None:
        """Replace a named JSON document."""
        with self._connection.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", (name, json.dumps(document)))

    def counters(self) -> dict[str, int]:
        """Every counter that was ever added to."""
        return dict(self._connection.execute("SELECT name, value FROM counters"))

    def add(self, amounts: Mapping[str, int]) -> None:
        """Add to counters, all in one commit (each commit is a flash write: collect before calling)."""
        with self._connection.transaction() as connection:
            connection.executemany(
                "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                list(amounts.items()),
            )


def _stored(document: str, sealed_secret: bytes, generation: int) -> StoredSettings:
    digest = hashlib.sha256(b"\0".join((document.encode(), sealed_secret, str(generation).encode()))).hexdigest()
    return StoredSettings(_settings(json.loads(document)), sealed_secret, generation, f'"{digest[:16]}"')


def _plain(settings: Settings) -> dict[str, Any]:
    values = ((field.name, getattr(settings, field.name)) for field in fields(settings))
    return {name: value.isoformat() if isinstance(value, date) else value for name, value in values}


def _settings(document: Mapping[str, Any]) -> Settings:
    known = {field.name for field in fields(Settings)}
    values = {name: value for name, value in document.items() if name in known}
    expires = values.get("secret_expires_on")
    values["secret_expires_on"] = date.fromisoformat(expires) if expires else None
    enums: tuple[tuple[str, type[StrEnum]], ...] = (("security", Security), ("auth", Auth))
    for name, enum in enums:
        values[name] = enum(values[name])
    return Settings(**values)


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
