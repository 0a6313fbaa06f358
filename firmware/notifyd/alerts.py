"""Alerts by mail, as the service runs them: collects from the event log, hands a digest in when it is due."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from notifyd.adapters.eventlog import EventLog
from notifyd.core.alerts import (
    AlertSettings,
    Digest,
    alert_settings_from,
    compose,
    gather,
    joined,
    parse_alert_settings,
    told,
)
from notifyd.core.eventlog import Record
from notifyd.core.instant import Instant
from notifyd.reports import Documents

DOCUMENT = "alerts"
RETRY_S = 600.0

HandIn = Callable[[Mapping[str, Any]], Awaitable[str]]
"""Puts a message into the queue and returns its id; raises when it is not accepted."""


class Alerts:
    """The one of a service; a timer exists only while events wait to be told."""

    def __init__(
        self, log: EventLog, documents: Documents, hand_in: HandIn, now: Callable[[], Instant], host: str
    ) -> None:
        self._log = log
        self._documents = documents
        self._hand_in = hand_in
        self._now = now
        self._host = host
        stored = documents.document(DOCUMENT) or {}
        self._settings = alert_settings_from(stored.get("settings", {}))
        self._digest = Digest(last_id=int(stored.get("last_id", log.last_id)))
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        if self._settings.enabled:
            # What happened but was not told before the service ended.
            for record in log.query(after=self._digest.last_id, limit=1000, level=self._settings.level):
                self._collect(record)
        log.add_sink(self._collect)

    @property
    def settings(self) -> AlertSettings:
        return self._settings

    def apply(self, body: Mapping[str, Any], user: str, remote: str) -> AlertSettings:
        """Checks and keeps new settings. Raises InvalidAlertSettings; nothing changes then."""
        settings = parse_alert_settings(body, self._settings)
        self._digest = Digest(sent=self._digest.sent, last_id=self._log.last_id)
        self._save(settings, self._log.last_id)
        self._log.emit("alert.settings_applied", user=user, remote=remote or None)
        return settings

    def stop(self) -> None:
        """Ends the timer and a mail that is being handed in."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _collect(self, record: Record) -> None:
        """Sink of the event log."""
        self._digest = gather(self._digest, record, self._settings, self._now().boot)
        if self._digest.due is not None and self._timer is None and self._task is None:
            self._arm(self._digest.due - self._now().boot)

    def _arm(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._task = asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self) -> None:
        digest, settings = self._digest, self._settings
        if not digest.listed:
            self._task = None
            return
        self._digest = told(digest, self._now().boot)
        subject, text = compose(digest, self._host)
        total = sum(digest.counts.values())
        mail = {
            "to": list(settings.recipients), "subject": subject, "text": text, "kind": "alert", "priority": "alert",
            "idempotency_key": f"alert-{digest.last_id}",
        }  # fmt: skip
        try:
            mail_id = await self._hand_in(mail)
        except Exception as fault:  # whatever refuses the mail must not end the alerts
            self._log.emit("alert.failed", reason=str(fault), events=total)
            self._digest = joined(digest, self._digest)
            self._task = None
            self._arm(RETRY_S)
            return
        self._save(self._settings, digest.last_id)
        self._log.emit("alert.queued", mail_id=mail_id, events=total)
        self._task = None
        if self._digest.due is not None:
            self._arm(self._digest.due - self._now().boot)

    def _save(self, settings: AlertSettings, last_id: int) -> None:
        """last_id: the newest event that was told of; what came after it is taken up again after a restart."""
        self._documents.save_document(DOCUMENT, {"settings": settings.as_json(), "last_id": last_id})
        self._settings = settings
