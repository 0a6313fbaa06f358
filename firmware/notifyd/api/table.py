"""The whole API as one table."""

from __future__ import annotations

from notifyd.api import certificates, events, grant, mail, report, session, settings, status, support
from notifyd.api.routing import Operation

TABLE: tuple[Operation, ...] = (
    *status.OPERATIONS,
    *settings.OPERATIONS,
    *certificates.OPERATIONS,
    *grant.OPERATIONS,
    *mail.OPERATIONS,
    *events.OPERATIONS,
    *report.OPERATIONS,
    *support.OPERATIONS,
    *session.OPERATIONS,
)
