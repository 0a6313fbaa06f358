"""The event log against a model, over random events, disk faults, crashes and restarts."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from notifyd.adapters.event_ring import EventRing
from notifyd.adapters.eventlog import MAX_PENDING, EventLog
from notifyd.core.eventlog import Level, Record, must_be_durable_at_once

BOOT = "d" * 32


class EventLogModel(RuleBasedStateMachine):
    """Promised: what is durable outlives a crash, ids grow for ever, nothing pending is more than memory may hold."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "events.db"
        self.promised: set[int] = set()
        self.highest = 0
        self.broken = False
        self.seen: list[Record] = []

    @initialize()
    def start(self) -> None:
        self.log = EventLog(self.path, boot_id=BOOT, min_level=Level.DEBUG, sinks=[self.seen.append])

    @rule(event=st.sampled_from(["mail.sent", "mail.failed", "token.refreshed", "auth.login", "mail.deferred"]))
    def emit(self, event: str) -> None:
        with self._disk():
            record = self.log.emit(event, account="a", to="b", mail_id="c")
        assert record is not None
        assert record.id > self.highest, "an id that a follower may have seen before the crash came again"
        if must_be_durable_at_once(record) and not self.log._pending:
            self.promised |= {each.id for each in self.seen if each.id <= record.id and each.id > self.highest}
            self.promised.add(record.id)

    @rule()
    def timer(self) -> None:
        with self._disk():
            self.log._on_timer()

    @rule()
    def disk_breaks(self) -> None:
        self.broken = True

    @precondition(lambda self: self.broken)
    @rule()
    def disk_works_again(self) -> None:
        self.broken = False

    @rule()
    def crash(self) -> None:
        """The process is gone: what was only in memory is lost, the file is as it was."""
        self.highest = max([self.highest, *(record.id for record in self.seen)])
        if self.log._ring is not None:
            self.log._ring._db.close()
        self.start_again()

    @rule()
    def restart(self) -> None:
        with self._disk():
            self.log.close()
        self.highest = max([self.highest, *(record.id for record in self.seen)])
        self.start_again()

    def start_again(self) -> None:
        self.broken = False
        self.seen = []
        self.start()

    def _disk(self):  # type: ignore[no-untyped-def]  # one of two context managers of unittest.mock
        full = sqlite3.OperationalError("database or disk is full")
        return mock.patch.object(EventRing, "append", side_effect=full) if self.broken else mock.patch.dict({})

    @invariant()
    def memory_is_bounded(self) -> None:
        if hasattr(self, "log"):
            assert len(self.log._pending) <= MAX_PENDING

    @invariant()
    def what_was_promised_is_there_in_order(self) -> None:
        if not hasattr(self, "log") or self.log._ring is None:
            return
        found = []
        while page := self.log.query(after=found[-1] if found else 0, limit=1000):
            found += [record.id for record in page]
        assert found == sorted(set(found))
        assert self.promised <= set(found)

    def teardown(self) -> None:
        self.log.close()
        self.directory.cleanup()


TestEventLogModel = EventLogModel.TestCase
TestEventLogModel.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
