"""Makes a report from beginning to end: asks notifyd, looks at the system, keeps the day, hands the mail in."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from notifyd.core.report_settings import ReportSettings, report_settings_from
from notifyd.ctl.client import Client, Unreachable
from notifyd.report import figures, render
from notifyd.report.figures import DAY_S, Inputs
from notifyd.report.gather import System, gather
from notifyd.report.history import Day, History, Sample
from notifyd.report.model import Report

PAGE, MAX_PAGES = 1000, 40  # events asked for: a storm is counted as "at least"
STEPS = ("asking", "looking", "drawing", "handing-in", "done")

Progress = Callable[[str], None]


class ReportFailed(Exception):
    """The report could not be made or handed in; the text says why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A report that is in the queue: its id there, the day it tells of, to whom it goes."""

    mail_id: str
    day: str
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Facts:
    """What notifyd had to say."""

    settings: ReportSettings
    status: Mapping[str, Any] | None
    auth: str
    events: Sequence[Mapping[str, Any]]
    truncated: bool
    fault: str


class Job:
    """One report. directory: where the history is. look: gives the system's figures."""

    def __init__(
        self,
        client: Client,
        directory: Path,
        look: Callable[[], System] = gather,
        progress: Progress = lambda step: None,
    ) -> None:
        self._client = client
        self._history = History(directory)
        self._look = look
        self._progress = progress

    def sample(self) -> None:
        """Notes this hour's figures. Raises OSError when they cannot be kept."""
        self._history.add_sample(Sample.of(self._look()))

    def make(self, missed: int = 0) -> tuple[Report, ReportSettings, Sequence[Mapping[str, Any]]]:
        """The report of this moment with the settings and events it was made of; nothing is kept or sent."""
        self._progress("asking")
        facts = self._ask()
        self._progress("looking")
        system = self._look()
        self._progress("drawing")
        report = figures.make(
            Inputs(
                settings=facts.settings,
                system=system,
                samples=[*self._history.samples(), Sample.of(system)],
                days=self._history.days(),
                status=facts.status,
                events=facts.events,
                zone=zone_of(facts.settings.time_zone),
                fault=facts.fault,
                truncated=facts.truncated,
                missed=missed,
                auth=facts.auth,
            )
        )
        return report, facts.settings, facts.events

    def send(self, *, missed: int = 0, key: str = "", to: Sequence[str] = ()) -> Outcome:
        """Makes the report and puts it into the queue. Raises ReportFailed.

        key: idempotency key, so that a scheduled report is in the queue once however often it is tried.
        to: instead of the recipients that are set.
        """
        report, settings, events = self.make(missed)
        recipients = tuple(to) or settings.recipients
        if not recipients:
            raise ReportFailed("no recipients are set")
        attachments = {}
        if settings.attach_csv:
            attachments[f"report-{report.day}.csv"] = render.figures_csv(report)
        if settings.attach_events:
            attachments[f"events-{report.day}.csv"] = render.events_csv(events)
        body = render.message(report, settings.language, recipients, attachments)
        if key:
            body["idempotency_key"] = key
        self._progress("handing-in")
        mail_id = self._hand_in(body)
        self._keep(report)
        self._progress("done")
        return Outcome(mail_id, report.day, recipients)

    def _keep(self, report: Report) -> None:
        """History is a convenience: a full disk costs tomorrow's comparison, not today's report."""
        try:
            self._history.add_day(Day(report.day, time.time(), report.figures))
        except OSError:
            return

    def _hand_in(self, body: Mapping[str, Any]) -> str:
        try:
            reply = self._client.call("POST", "/api/v1/mail", body)
        except Unreachable as fault:
            raise ReportFailed(str(fault)) from fault
        if not reply.ok:
            problem = reply.document if isinstance(reply.document, dict) else {}
            raise ReportFailed(str(problem.get("detail") or problem.get("title") or f"notifyd answered {reply.status}"))
        return str(reply.document["id"])

    def _ask(self) -> _Facts:
        try:
            settings = report_settings_from(self._get("/api/v1/report/settings"))
            status = self._get("/api/v1/status")
            auth = str(self._get("/api/v1/settings").get("auth", ""))
            events, truncated = self._events(time.time() - DAY_S)
        except (Unreachable, ReportFailed) as fault:
            return _Facts(ReportSettings(), None, "", (), False, str(fault))
        return _Facts(settings, status, auth, events, truncated, "")

    def _events(self, since: float) -> tuple[list[Mapping[str, Any]], bool]:
        """The newest events since a moment, newest page first, and whether there were more."""
        found: list[Mapping[str, Any]] = []
        query: dict[str, Any] = {"since": f"{since:.0f}", "limit": PAGE}
        for _ in range(MAX_PAGES):
            page = self._get(f"/api/v1/events?{urlencode(query)}")["events"]
            found += page
            if len(page) < PAGE:
                return found, False
            query["before"] = min(int(event["id"]) for event in page)
        return found, True

    def _get(self, path: str) -> Any:
        reply = self._client.call("GET", path)
        if not reply.ok:
            raise ReportFailed(f"{path}: notifyd answered {reply.status}")
        return reply.document


def zone_of(name: str) -> tzinfo:
    """The time zone of that name; the gateway's own when it is empty, UTC when there is none."""
    try:
        if name:
            return ZoneInfo(name)
        with Path("/etc/localtime").open("rb") as file:
            return ZoneInfo.from_file(file)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def directory() -> Path:
    """Where the report keeps its history."""
    return Path(os.environ.get("NOTIFYD_DATA", "/data/notifyd")) / "report"
