"""The database: durable settings, versions, damage, and settings that come back as they were."""

from __future__ import annotations

import sqlite3
from datetime import date
from pathlib import Path

import pytest

from notifyd.adapters.database import Database, SettingsStore, migrate, open_database
from notifyd.core.faults import SchemaTooNew, StoreFailed
from notifyd.core.settings import Auth, Security, Settings

SETTINGS = Settings(
    server="smtp.office365.com",
    port=587,
    security=Security.STARTTLS,
    auth=Auth.OAUTH2,
    cloud="public",
    sender="gateway@contoso.example",
    client_id="66666666-7777-4888-9999-aaaaaaaaaaaa",
    tenant_id="contoso.example",
    secret_expires_on=date(2027, 1, 31),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database will be."""
    return tmp_path / "notifyd.db"


@pytest.fixture
def connection(path: Path) -> Database:
    """A fresh database."""
    return open_database(path)


def test_commits_are_durable_by_setting(connection: Database, path: Path) -> None:
    """WAL with full synchronisation, no memory mapping, readable by its owner only."""
    values = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}
    assert values == {"journal_mode": "wal", "synchronous": 2}
    assert connection.execute("PRAGMA mmap_size").fetchone() == (0,)
    for file in path.parent.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file.name


def test_settings_come_back_as_they_were(connection: Database, path: Path) -> None:
    """Dates and choices keep their types across a restart; the secret stays sealed bytes."""
    stored = SettingsStore(connection).save(SETTINGS, b"\0sealed\xff", 4)
    connection.close()
    reopened = SettingsStore(open_database(path))
    assert reopened.load() == stored
    assert stored.settings == SETTINGS
    assert (stored.sealed_secret, stored.generation) == (b"\0sealed\xff", 4)


def test_etag_changes_with_anything(connection: Database) -> None:
    """Two browsers that edit at once: the second one's If-Match does not fit."""
    store = SettingsStore(connection)
    tags = {
        store.save(SETTINGS, b"a", 1).etag,
        store.save(SETTINGS, b"b", 1).etag,
        store.save(SETTINGS, b"a", 2).etag,
    }
    assert len(tags) == 3
    assert all(tag.startswith('"') and tag.endswith('"') for tag in tags)


def test_nothing_is_stored_before_the_first_apply(connection: Database) -> None:
    """An empty store is not an error; clearing brings it back."""
    store = SettingsStore(connection)
    assert store.load() is None
    assert store.document("snapshot") is None
    assert store.counters() == {}
    store.save(SETTINGS, b"", 1)
    store.clear()
    assert store.load() is None


def test_documents_and_counters_are_kept(connection: Database) -> None:
    """The agent's snapshot and running totals survive."""
    store = SettingsStore(connection)
    store.save_document("snapshot", {"state": "Valid"})
    store.save_document("snapshot", {"state": "Expired"})
    store.add({"sent": 2})
    store.add({"sent": 3, "failed": 1})
    assert store.document("snapshot") == {"state": "Expired"}
    assert store.counters() == {"sent": 5, "failed": 1}


def test_failed_block_changes_nothing(connection: Database) -> None:
    """An exception inside a transaction rolls all of it back and leaves the store usable."""
    store = SettingsStore(connection)

    def fail_half_way() -> None:
        with connection.transaction():
            connection.execute("INSERT INTO counters VALUES ('x', 1)")
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()
    assert store.counters() == {}
    store.add({"x": 1})
    assert store.counters() == {"x": 1}


def test_newer_layout_is_refused_and_left_alone(connection: Database, path: Path) -> None:
    """An older program after a rollback does not touch what it does not know."""
    connection.execute("PRAGMA user_version=99")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew):
        open_database(path)
    assert path.read_bytes() == before


def test_newer_tables_of_a_component_are_refused(connection: Database) -> None:
    """Each component has its own version."""
    migrate(connection, "queue", ["CREATE TABLE q (a)", "ALTER TABLE q ADD COLUMN b"])
    migrate(connection, "queue", ["CREATE TABLE q (a)", "ALTER TABLE q ADD COLUMN b"])
    with pytest.raises(SchemaTooNew):
        migrate(connection, "queue", ["CREATE TABLE q (a)"])


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4080])
def test_damaged_file_is_named(path: Path, content: bytes) -> None:
    """What is not a database is a store failure, not a crash, and is not overwritten."""
    path.write_bytes(content)
    with pytest.raises(StoreFailed):
        open_database(path)
    assert path.read_bytes() == content


def test_failed_connection_takes_nothing_any_more(connection: Database) -> None:
    """After a failed write every further one is refused until the restart."""
    with pytest.raises(StoreFailed), connection.transaction():
        raise sqlite3.OperationalError("disk I/O error")
    with pytest.raises(StoreFailed):
        SettingsStore(connection).add({"x": 1})


def test_broken_rule_is_not_a_store_failure(connection: Database) -> None:
    """A constraint is the caller's business: the store goes on."""
    with pytest.raises(sqlite3.IntegrityError), connection.transaction():
        connection.execute("INSERT INTO counters VALUES ('x', NULL)")
    SettingsStore(connection).add({"x": 1})
