"""What listens to the event log: log collectors, the daily report, alerts by mail.

Each is imported when it is configured or first asked for, so that a gateway without it does not carry its code.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from notifyd.adapters.clock import now
from notifyd.adapters.config import ConfigError, load_config
from notifyd.adapters.eventlog import EventLog
from notifyd.api.access import Caller
from notifyd.api.status import Figure
from notifyd.api.wire import Peer

if TYPE_CHECKING:
    from notifyd.adapters.syslog import Forwarder
    from notifyd.alerts import Alerts
    from notifyd.desk import MailDesk
    from notifyd.reports import Documents, Reports


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the consumers need. first_event: id of this run's first event, from which collectors are served."""

    log: EventLog
    documents: Documents
    desk: MailDesk
    etc: Path
    run: Path
    host: str
    first_event: int


class Consumers:
    """All of them; `start` begins those that are configured, `stop` ends what was begun."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._around = surroundings
        self._tasks: list[asyncio.Task[None]] = []
        self._forwarders: list[Forwarder] = []

    def start(self) -> None:
        """Begins what is configured; a table that cannot be used is an event, not an end."""
        try:
            table = load_config(self._around.etc).get("syslog", {})
            if table.get("collectors"):
                self._start_collectors(table)
        except (ConfigError, ValueError) as error:
            self._around.log.emit("service.config_invalid", file="notifyd.toml", reason=str(error))
        if self._enabled("report"):
            _ = self.reports
        if self._enabled("alerts"):
            _ = self.alerts

    async def stop(self) -> None:
        """Ends every task."""
        if "alerts" in self.__dict__:
            self.alerts.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @cached_property
    def reports(self) -> Reports:
        """The daily report, begun when it is first asked for."""
        from notifyd.adapters.report_program import ReportProgram
        from notifyd.reports import Reports, local_zone

        around = self._around
        reports = Reports(around.log, around.documents, ReportProgram(around.run), now, local_zone())
        self._begin(reports.run(), "report")
        return reports

    @cached_property
    def alerts(self) -> Alerts:
        """Alerts by mail, begun when they are first asked for."""
        from notifyd.alerts import Alerts

        around = self._around
        return Alerts(around.log, around.documents, self._hand_in, now, around.host)

    def metrics(self) -> dict[str, Figure]:
        """Figures of the collectors for /metrics."""
        if not self._forwarders:
            return {}
        reached = {each.collector.name: int(each.reachable is not False) for each in self._forwarders}
        sent = {each.collector.name: each.sent for each in self._forwarders}
        dropped = {each.collector.name: each.dropped for each in self._forwarders}
        return {
            "notifyd_collector_up": ("gauge", "1 unless the log collector is away", "collector", reached),
            "notifyd_collector_sent_total": ("counter", "events sent to the log collector", "collector", sent),
            "notifyd_collector_dropped_total": ("counter", "events it was away too long for", "collector", dropped),
        }

    def _enabled(self, document: str) -> bool:
        stored = self._around.documents.document(document) or {}
        return bool(stored.get("settings", {}).get("enabled"))

    def _start_collectors(self, table: Mapping[str, Any]) -> None:
        from notifyd.adapters.syslog import Forwarder
        from notifyd.core.collectors import parse_syslog
        from notifyd.core.rfc5424 import Origin
        from notifyd.reports import local_zone

        syslog = parse_syslog(table)
        origin = Origin(
            host=self._around.host,
            facility=syslog.facility,
            process_id=str(os.getpid()),
            enterprise=syslog.enterprise,
            device_id=_mac_address(),
            zone=local_zone(),
        )
        for collector in syslog.collectors:
            forwarder = Forwarder(self._around.log, collector, origin, first_id=self._around.first_event)
            self._forwarders.append(forwarder)
            self._begin(forwarder.run(), collector.name)

    def _begin(self, work: Coroutine[Any, Any, None], where: str) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(self._supervise(work, where)))

    async def _supervise(self, work: Coroutine[Any, Any, None], where: str) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception as fault:
            self._around.log.emit("service.fault", reason=type(fault).__name__, where=where, exc_info=fault)

    async def _hand_in(self, mail: Mapping[str, Any]) -> str:
        ourselves = Caller(Peer(os.getpid(), os.getuid(), os.getgid()))
        body = {name: value for name, value in mail.items() if name != "idempotency_key"}
        accepted = await self._around.desk.accept(body, ourselves, {"idempotency_key": mail["idempotency_key"]})
        return str(accepted["id"])


def _mac_address() -> str:
    """Of the first interface that has one: how gateways of this family name themselves."""
    for path in sorted(Path("/sys/class/net").glob("*/address")):
        try:
            address = path.read_text("ascii").strip()
        except OSError:
            continue
        if address and address != "00:00:00:00:00:00":
            return address
    return ""
