"""`/api/v1/mail`: accept, look at, repeat and delete messages of the durable queue."""

from __future__ import annotations

from notifyd.api.http import BodyLimit
from notifyd.api.routing import Answer, Call, Operation
from notifyd.api.shapes import MAIL_RECORD, record, refusal, text
from notifyd.api.wire import ApiProblem, Response, answer

RFC822 = "message/rfc822"
MAIL_LIMIT = BodyLimit(35 * 1024 * 1024, 120.0)  # Exchange Online's own limit for a message

_ADDRESS = text("one addr-spec, or `Name <addr-spec>`", most=512, least=1)
_ADDRESSES = {"anyOf": [_ADDRESS, {"type": "array", "items": _ADDRESS, "minItems": 1, "maxItems": 500}]}
_BODY = {"type": "string", "maxLength": MAIL_LIMIT.size, "x-multiline": True}
_IDEMPOTENCY_KEY = text("the same key means the same message: it is accepted once", most=128, least=1)
_PRIORITY = {"type": "string", "enum": ["alert", "report", "bulk"]}

MAIL = {
    "title": "MailInput",
    **record(
        {
            "to": _ADDRESSES,
            "cc": _ADDRESSES,
            "bcc": _ADDRESSES,
            "subject": text(most=998),
            "text": {**_BODY, "description": "the message as plain text"},
            "html": {**_BODY, "description": "the message as HTML"},
            "attachments": {
                "type": "array",
                "maxItems": 64,
                "items": record(
                    {
                        "filename": text(most=255, least=1),
                        "content_type": text(most=255, pattern=r"^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+$"),
                        "content_base64": {"type": "string", "x-multiline": True},
                        "inline": {"type": "boolean"},
                        "content_id": text(most=255, least=1),
                    },
                    ["filename", "content_type", "content_base64"],
                ),
            },
            "priority": _PRIORITY,
            "kind": {"type": "string", "enum": ["message", "alert", "report"]},
            "idempotency_key": _IDEMPOTENCY_KEY,
        },
        ["to", "subject"],
    ),
}
TEST = record({"to": _ADDRESS}, ["to"])
ACCEPTED = record({"id": text("look it up under /api/v1/mail/{id}")})
COUNTS = {"type": "object", "additionalProperties": {"type": "integer"}, "description": "messages by state"}
LIST = record({"messages": {"type": "array", "items": MAIL_RECORD}, "counts": COUNTS})
HOLD = record({"paused": {"type": "boolean"}})


async def accept(call: Call) -> Response:
    options = {"idempotency_key": _idempotency_key(call), **call.query}
    if call.request.media_type == RFC822:
        mail = call.request.body
        call.request.body = b""  # the queue keeps the only copy
        return answer(await call.gateway.accept_mail(mail, call.caller, options), 202)
    body = dict(call.body)
    options["idempotency_key"] = body.pop("idempotency_key", "") or options["idempotency_key"]
    return answer(await call.gateway.accept_mail(body, call.caller, options), 202)


def _idempotency_key(call: Call) -> str:
    key = call.request.header("idempotency-key").strip().strip('"')
    if len(key) > 128 or not key.isprintable():
        raise ApiProblem(400, "malformed", "Idempotency-Key must be at most 128 printable characters.")
    return key


async def send_test(call: Call) -> Response:
    return answer(await call.gateway.accept_mail({"to": call.body["to"]}, call.caller, {"kind": "test"}), 202)


async def list_mail(call: Call) -> Response:
    return answer(call.gateway.list_mail(call.query.get("state"), call.query.get("limit", 100)))


async def get_mail(call: Call) -> Response:
    return answer(call.gateway.get_mail(call.parameter("id")))


async def delete_mail(call: Call) -> Response:
    call.gateway.delete_mail(call.parameter("id"), call.caller)
    return Response(204, b"", "")


async def retry_mail(call: Call) -> Response:
    return answer(call.gateway.retry_mail(call.parameter("id"), call.caller))


async def hold(call: Call) -> Response:
    call.gateway.hold_mail(True, call.caller)
    return answer({"paused": True})


async def release(call: Call) -> Response:
    call.gateway.hold_mail(False, call.caller)
    return answer({"paused": False})


_NOT_FOUND = refusal("No such message.")
_SENDING = refusal("The message is being sent at this moment.")
_REFUSED = {
    409: refusal("The idempotency key belongs to another message, or no mail server is applied."),
    422: refusal("The message cannot be sent as it is."),
    503: refusal("The storage failed; nothing was accepted."),
    507: refusal("The queue or the storage is full; nothing was accepted."),
}

OPERATIONS = (
    Operation(
        "POST",
        "/api/v1/mail",
        "acceptMail",
        "Accepts a message; once this answers 202 it is on the disk",
        accept,
        "mail",
        {202: Answer("Accepted.", ACCEPTED), **_REFUSED},
        body=MAIL,
        raw_bodies=(RFC822,),
        limit=MAIL_LIMIT,
        query={
            "priority": {**_PRIORITY, "description": "for message/rfc822"},
            "kind": {"type": "string", "enum": ["message", "alert", "report"], "description": "for message/rfc822"},
            "recipients": text(
                "for message/rfc822: envelope recipients, comma-separated, instead of its headers'", 4000
            ),
        },
        headers={"Idempotency-Key": "The same key means the same message: it is accepted once."},
    ),
    Operation(
        "POST",
        "/api/v1/mail/test",
        "sendTestMail",
        "Send test mail; its outcome is found under its id",
        send_test,
        "mail",
        {202: Answer("Accepted.", ACCEPTED), **_REFUSED},
        body=TEST,
    ),
    Operation(
        "GET",
        "/api/v1/mail",
        "listMail",
        "The queue and the latest outcomes",
        list_mail,
        "mail",
        {200: Answer("Newest first.", LIST)},
        query={
            "state": {"type": "string", "enum": ["ready", "sending", "held", "deferred", "sent", "failed"]},
            "limit": {"type": "integer", "minimum": 1, "maximum": 1000},
        },
    ),
    Operation(
        "POST", "/api/v1/mail/hold", "holdMail", "Holds all mail", hold, "mail", {200: Answer("Mail is held.", HOLD)}
    ),
    Operation(
        "POST",
        "/api/v1/mail/release",
        "releaseMail",
        "Lets mail flow",
        release,
        "mail",
        {200: Answer("It flows.", HOLD)},
    ),
    Operation(
        "GET",
        "/api/v1/mail/{id}",
        "getMail",
        "One message and its outcome",
        get_mail,
        "mail",
        {200: Answer("The message, without its body.", MAIL_RECORD), 404: _NOT_FOUND},
    ),
    Operation(
        "DELETE",
        "/api/v1/mail/{id}",
        "deleteMail",
        "Deletes a message that was not sent yet",
        delete_mail,
        "mail",
        {204: Answer("Deleted."), 404: _NOT_FOUND, 409: _SENDING},
    ),
    Operation(
        "POST",
        "/api/v1/mail/{id}/retry",
        "retryMail",
        "Tries a waiting or failed message again now",
        retry_mail,
        "mail",
        {200: Answer("The message as it is now.", MAIL_RECORD), 404: _NOT_FOUND, 409: _SENDING},
    ),
)
