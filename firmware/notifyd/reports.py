"""Email Daily Report as the service sees it: settings, the schedule, Send Report Now, progress and outcome.

The report itself is made by a program of its own (`notifyd.report`); here is only when, and what became of it. Imported
when a report is on or asked for: a gateway without one does not carry it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, tzinfo
from pathlib import Path
from typing import Any, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from notifyd.adapters.eventlog import EventLog
from notifyd.adapters.report_program import ReportProgram, ReportProgramFailed
from notifyd.core.eventlog import Record
from notifyd.core.instant import Instant
from notifyd.core.report_schedule import ScheduleState, decide
from notifyd.core.report_settings import ReportSettings, parse_report_settings, report_settings_from

DOCUMENT = "report"
SAMPLE_S = 3600.0  # the charts' bars are hours
LOOK_S = 900.0  # the longest sleep while the report is on: a clock that is set anew is noticed by then
RETRY_S = 600.0
TRIES = 3
FOLLOWED = 16  # reports whose delivery is still waited for


class Documents(Protocol):
    """Where the settings are kept (adapters.database.SettingsStore)."""

    def document(self, name: str) -> Any: ...
    def save_document(self, name: str, document: Mapping[str, Any]) -> None: ...


class ReportBusy(Exception):
    """A report is being made already."""


class NoRecipients(Exception):
    """Nobody is set to receive the report."""


class Reports:
    """The one of a service. `run` is its schedule's task; it sleeps without a timer while the report is off."""

    def __init__(
        self,
        log: EventLog,
        documents: Documents,
        program: ReportProgram,
        now: Callable[[], Instant],
        local_zone: tzinfo,
    ) -> None:
        self._log = log
        self._documents = documents
        self._program = program
        self._now = now
        self._local_zone = local_zone
        stored = documents.document(DOCUMENT) or {}
        self._settings = report_settings_from(stored.get("settings", {}))
        self._state = _state_from(stored, now().wall)
        self._changed = asyncio.Event()
        self._busy = asyncio.Lock()
        self._progress: dict[str, Any] = {"step": None, "by": None, "started_at": None, "mail_id": None, "error": None}
        self._following: dict[str, dict[str, str]] = {}
        self._tries = 0
        self._sample_due = 0.0
        log.add_sink(self._delivered)

    # ---- what the API asks for --------------------------------------------------------------------------------------

    @property
    def settings(self) -> ReportSettings:
        return self._settings

    @property
    def next_at(self) -> float | None:
        """Wall clock of the next report; None while it is off."""
        return decide(self._settings, self._zone(), self._state, self._now()).wake_at

    @property
    def progress(self) -> Mapping[str, Any]:
        """Of the report that is being made, or else of the last one: step, by, started_at, mail_id, error."""
        return dict(self._progress)

    def apply(self, body: Mapping[str, Any], user: str, remote: str) -> ReportSettings:
        """Checks and keeps new settings. Raises InvalidReportSettings; nothing changes then."""
        settings = parse_report_settings(body, self._settings)
        moved = (settings.enabled, settings.time, settings.time_zone, settings.weekdays) != (
            self._settings.enabled, self._settings.time, self._settings.time_zone, self._settings.weekdays,
        )  # fmt: skip
        state = replace(self._state, since=self._now().wall) if moved else self._state
        self._save(settings, state)
        self._log.emit("report.settings_applied", user=user, remote=remote or None)
        self._tries = 0
        self._changed.set()
        return settings

    async def send(self, user: str, to: Sequence[str] = ()) -> str:
        """Send Report Now: returns the mail's id. Raises NoRecipients, ReportBusy, ReportProgramFailed."""
        if not to and not self._settings.recipients:
            raise NoRecipients
        if self._busy.locked():
            raise ReportBusy
        return await self._make({"do": "send", "to": list(to)}, user)

    async def preview(self) -> Mapping[str, Any]:
        """The report as it would be now: subject, html, text. Raises ReportProgramFailed."""
        return await self._program.run({"do": "preview"}, lambda step: None)

    # ---- the schedule -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled: makes what is due, notes the hours' figures, sleeps."""
        while True:
            self._changed.clear()
            sleep_s = await self._step()
            with suppress(TimeoutError):
                async with asyncio.timeout(sleep_s):
                    await self._changed.wait()

    async def _step(self) -> float | None:
        """Does what is due; returns how long to sleep, None for until something changes."""
        now = self._now()
        decision = decide(self._settings, self._zone(), self._state, now)
        self._state = decision.state
        if decision.wake_at is None:
            return None
        if decision.day is not None and not await self._scheduled(decision.day, decision.missed):
            return RETRY_S
        if now.boot >= self._sample_due:
            self._sample_due = now.boot + SAMPLE_S
            await self._sample()
        again = decide(self._settings, self._zone(), self._state, self._now())
        due_in = LOOK_S if again.wake_at is None else again.wake_at - self._now().wall
        return max(1.0, min(LOOK_S, due_in, self._sample_due - now.boot))

    async def _scheduled(self, day: date, missed: int) -> bool:
        """Makes the report of a day; True when that day is done with, well or after the last try."""
        if missed:
            self._log.emit("report.skipped", days=missed)
        request = {"do": "send", "key": f"daily-report-{day.isoformat()}", "missed": missed}
        self._tries += 1
        try:
            await self._make(request, "schedule")
        except ReportProgramFailed:
            if self._tries < TRIES:
                return False
        self._tries = 0
        self._save(self._settings, replace(self._state, done=day))
        return True

    async def _sample(self) -> None:
        try:
            await self._program.run({"do": "sample"}, lambda step: None)
        except ReportProgramFailed as fault:
            self._log.emit("report.sample_failed", reason=str(fault))

    async def _make(self, request: Mapping[str, Any], by: str) -> str:
        async with self._busy:
            self._progress = {
                "step": "starting",
                "by": by,
                "started_at": self._now().wall,
                "mail_id": None,
                "error": None,
            }
            try:
                result = await self._program.run(request, self._at_step)
                mail_id = str(result["mail_id"])
            except (ReportProgramFailed, KeyError) as fault:
                self._progress |= {"step": "failed", "error": str(fault)}
                self._log.emit("report.failed", reason=str(fault), by=by)
                raise
            self._progress |= {"step": "queued", "mail_id": mail_id}
            self._follow(mail_id, {"day": str(result.get("day")), "by": by})
            return mail_id

    def _at_step(self, step: str) -> None:
        self._progress["step"] = step

    # ---- what became of it ------------------------------------------------------------------------------------------

    def _follow(self, mail_id: str, facts: dict[str, str]) -> None:
        self._following[mail_id] = facts
        while len(self._following) > FOLLOWED:
            del self._following[next(iter(self._following))]
        for record in reversed(self._log.query(category="mail", limit=50)):
            self._delivered(record)  # it may have gone out before this was known to be a report

    def _delivered(self, record: Record) -> None:
        """Sink of the event log: a report is sent when the mail server took it, not when it was queued."""
        if record.event not in ("mail.sent", "mail.failed"):
            return
        facts = self._following.pop(str(record.fields.get("mail_id")), None)
        if facts is None:
            return
        mail_id, to = record.fields.get("mail_id"), record.fields.get("to")
        if record.event == "mail.sent":
            self._log.emit("report.sent", mail_id=mail_id, to=to, **dict[str, Any](facts))
        else:
            title = record.fields.get("title")
            self._log.emit("report.failed", reason=title, mail_id=mail_id, to=to, **dict[str, Any](facts))

    # ---- small things -----------------------------------------------------------------------------------------------

    def _zone(self) -> tzinfo:
        try:
            return ZoneInfo(self._settings.time_zone) if self._settings.time_zone else self._local_zone
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return UTC

    def _save(self, settings: ReportSettings, state: ScheduleState) -> None:
        done = state.done.isoformat() if state.done else None
        document = {"settings": settings.as_json(), "since": state.since, "done": done}
        self._documents.save_document(DOCUMENT, document)
        self._settings, self._state = settings, state


def local_zone() -> tzinfo:
    """The gateway's own time zone; UTC when it has none."""
    try:
        with Path("/etc/localtime").open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return UTC


def _state_from(stored: Mapping[str, Any], now: float) -> ScheduleState:
    try:
        done = stored.get("done")
        return ScheduleState(float(stored.get("since", now)), date.fromisoformat(done) if done else None)
    except (TypeError, ValueError):
        return ScheduleState(now)
