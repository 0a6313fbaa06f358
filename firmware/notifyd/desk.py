"""The mail desk: what the API may do with the queue. Accepting means that the message is on the disk."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from notifyd.adapters.accounts import user_name
from notifyd.adapters.clock import now
from notifyd.adapters.queue import Busy, KeyReused, MailQueue, QueueFull
from notifyd.api.access import Caller
from notifyd.api.status import Figure
from notifyd.api.wire import ApiProblem
from notifyd.core.events import RefreshRequested
from notifyd.core.faults import StoreFailed, StoreFull
from notifyd.core.message import Composed, InvalidMail, Stamp, adopt, compose, parse_request, test_draft
from notifyd.core.outbox import MailRecord, MailState, Priority
from notifyd.mailer import Mailer
from notifyd.service import Service


@dataclass(frozen=True, slots=True)
class _Posting:
    """A composed message with how it is to be queued."""

    mail: Composed
    kind: str
    priority: Priority
    idempotency_key: str | None


class MailDesk:
    """Between the API and the queue; the mailer is told when there is something to do."""

    def __init__(self, queue: MailQueue, mailer: Mailer, service: Service, name: str) -> None:
        self._queue = queue
        self._mailer = mailer
        self._service = service
        self._name = name

    # ---- in ---------------------------------------------------------------------------------------------------------

    async def accept(
        self, mail: Mapping[str, Any] | bytes, caller: Caller, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Composes and queues. Raises ApiProblem 422, 503 or 507; nothing was accepted then."""
        submitter = submitter_of(caller)
        try:
            posting = self._posting(mail, options)
            accepted = await self._mailer.submit(
                posting.mail,
                kind=posting.kind,
                priority=posting.priority,
                idempotency_key=posting.idempotency_key,
                submitter=submitter,
            )
        except InvalidMail as invalid:
            errors = [(error.pointer, error.detail) for error in invalid.errors]
            self._service.parts.events.emit("mail.refused", reason=errors[0][1], user=submitter)
            raise ApiProblem(
                422, "invalid-mail", errors[0][1], title="The message cannot be sent as it is", errors=errors
            ) from None
        except KeyReused as reused:
            raise ApiProblem(422, "idempotency-key-reused", f"{reused}.") from None
        except (QueueFull, StoreFull) as full:
            raise ApiProblem(507, "queue-full", f"The message was not accepted: {full}.") from None
        except StoreFailed as error:
            self._service.fail(str(error))
            raise ApiProblem(503, "storage-failed", "The storage failed; nothing was accepted.") from None
        if not self._service.agent.status(now()).can_send:
            self._service.post(RefreshRequested("mail-waiting"))
        return {"id": accepted.id}

    def _posting(self, mail: Mapping[str, Any] | bytes, options: Mapping[str, Any]) -> _Posting:
        stamp = Stamp(now().wall, secrets.token_hex(16))
        kind = str(options.get("kind") or "message")
        key = str(options.get("idempotency_key") or "") or None
        sender = self._service.stored.settings.sender if self._service.stored else ""
        if isinstance(mail, bytes):
            recipients = options.get("recipients")
            envelope = [part.strip() for part in recipients.split(",")] if recipients else None
            composed: Composed = adopt(mail, envelope, sender, stamp)
            priority = Priority.named(str(options.get("priority") or _priority_of(kind)))
            return _Posting(composed, kind, priority, key)
        if kind == "test":
            return _Posting(compose(test_draft(str(mail["to"]), self._name), sender, stamp), kind, Priority.ALERT, key)
        body = dict(mail)
        kind = str(body.pop("kind", kind))
        body.setdefault("priority", _priority_of(kind))
        request = parse_request(body)
        return _Posting(compose(request.draft, sender, stamp), kind, request.priority, key)

    # ---- looking ----------------------------------------------------------------------------------------------------

    @property
    def flowing(self) -> bool:
        """Whether nothing holds mail as a whole."""
        return self._mailer.gate().open

    @property
    def problem(self) -> Mapping[str, object] | None:
        """Why mail as a whole waits, when the mailer knows it."""
        return self._mailer.gate().problem

    def figures(self) -> dict[str, Any]:
        """The `queue` member of the status."""
        counts, gate = self._mailer.counts(), self._mailer.gate()
        ready = counts["ready"] + counts["deferred"] + counts["sending"]
        return {"held": counts["held"], "ready": ready, "sent_today": counts["sent_today"], "paused": gate.paused}

    def list(self, state: str | None, limit: int) -> dict[str, Any]:
        found = self._mailer.records(MailState(state) if state else None, limit)
        return {"messages": [record.as_json() for record in found], "counts": self._mailer.counts()}

    def get(self, mail_id: str) -> dict[str, Any]:
        return self._find(mail_id).as_json()

    def _find(self, mail_id: str) -> MailRecord:
        record = self._mailer.record(mail_id)
        if record is None:
            raise ApiProblem(404, "no-such-mail", "There is no message with this id.")
        return record

    # ---- changing ---------------------------------------------------------------------------------------------------

    def delete(self, mail_id: str, caller: Caller) -> None:
        try:
            record = self._mailer.delete(mail_id)
        except Busy:
            raise _busy() from None
        if record is None:
            self._find(mail_id)
            return
        self._tell("mail.deleted", record, caller)

    def retry(self, mail_id: str, caller: Caller) -> dict[str, Any]:
        record = self._find(mail_id)
        if record.state is MailState.SENDING:
            raise _busy()
        if record.state in (MailState.SENT, MailState.FAILED):
            raise ApiProblem(409, "over", "This message is over: send it anew.")
        self._mailer.retry(mail_id)
        self._tell("mail.retried", record, caller)
        return self.get(mail_id)

    def pause(self, paused: bool) -> None:
        if paused:
            self._mailer.pause()
        else:
            self._mailer.resume()

    def _tell(self, event: str, record: MailRecord, caller: Caller) -> None:
        self._service.parts.events.emit(
            event,
            mail_id=record.id,
            kind=record.kind,
            to=", ".join(recipient.address for recipient in record.recipients)[:500],
            user=submitter_of(caller),
            remote=caller.remote or None,
        )

    def metrics(self) -> dict[str, Figure]:
        """Figures of the queue for /metrics."""
        counts = self._mailer.counts()
        by_state = {state: counts[state] for state in ("ready", "deferred", "held", "sending", "failed", "sent")}
        return {
            "notifyd_queue_messages": ("gauge", "messages by state (sent, failed: kept records)", "state", by_state),
            "notifyd_queue_bytes": ("gauge", "octets of the messages that wait", "", counts["bytes"]),
            "notifyd_queue_fullness_ratio": ("gauge", "share of the queue's bound in use", "", self._queue.fullness()),
            "notifyd_mail_held": ("gauge", "1 while all mail is held", "", int(not self.flowing)),
            "notifyd_mail_sent_day": ("gauge", "messages sent in the last 24 hours", "", counts["sent_today"]),
        }


def submitter_of(caller: Caller) -> str:
    """The administrator's login name, or the local user that the kernel names."""
    if caller.via_web:
        return caller.user
    return user_name(caller.peer.uid)


def _priority_of(kind: str) -> str:
    return {"alert": "alert", "report": "report"}.get(kind, "bulk")


def _busy() -> ApiProblem:
    return ApiProblem(409, "being-sent", "This message is being sent at this moment.")
