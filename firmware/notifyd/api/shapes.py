"""Schemas that several operations share. They check requests, describe answers, and become `components` in OpenAPI."""

from __future__ import annotations

from typing import Any

from notifyd.api.routing import Answer
from notifyd.api.wire import PROBLEM_JSON

STATES = ["Unconfigured", "Applied", "Pending", "Valid", "Expired"]


def text(description: str = "", most: int = 256, least: int = 0, **more: Any) -> dict[str, Any]:
    """A one-line string."""
    schema: dict[str, Any] = {"type": "string", "maxLength": most, **more}
    if least:
        schema["minLength"] = least
    if description:
        schema["description"] = description
    return schema


def record(properties: dict[str, Any], required: list[str] | None = None, description: str = "") -> dict[str, Any]:
    """An object with just these members; all of them required unless said otherwise."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "required": list(properties) if required is None else required,
    }
    if description:
        schema["description"] = description
    return schema


WALL = {"type": ["number", "null"], "description": "wall-clock seconds since 1970; null when unknown"}

PROBLEM = {
    "title": "Problem",
    "type": ["object", "null"],
    "description": "A named fault with its remedy (docs/problems.md); null when all is well.",
    "properties": {
        "code": {"type": "string", "description": "stable, such as `AADSTS7000222` or `smtp.535-5.7.139`"},
        "title": {"type": "string"},
        "detail": {"type": "string", "description": "the server's own words"},
        "remedy": {"type": "string", "description": "what to do"},
        "transient": {"type": "boolean", "description": "expected to pass by itself"},
        "since": {"type": "number", "description": "wall-clock seconds"},
        "source": {"type": "string", "description": "where it was seen: entra, smtp, network, tls, clock, store …"},
        "actor": {"type": "string", "description": "who must act: nobody, gateway-admin, tenant-admin"},
        "trace_id": {"type": "string"},
        "correlation_id": {"type": "string"},
    },
    "required": ["code", "title", "detail", "remedy", "transient", "since", "source"],
}

STATUS = {
    "title": "Status",
    **record(
        {
            "state": {"type": "string", "enum": STATES},
            "can_send": {"type": "boolean", "description": "mail leaves now; the state speaks of the token only"},
            "account": {"type": ["string", "null"], "description": "the mailbox that signed in"},
            "access_expires_at": WALL,
            "refresh_due_at": WALL,
            "grant_age_s": {"type": ["number", "null"], "description": "seconds since the sign-in or last renewal"},
            "secret_expires_on": {"type": ["string", "null"], "format": "date"},
            "problem": PROBLEM,
            "pending": {"type": "integer", "description": "sign-ins that are open now"},
            "queue": record(
                {
                    "held": {"type": "integer"},
                    "ready": {"type": "integer"},
                    "sent_today": {"type": "integer"},
                    "paused": {"type": "boolean", "description": "an administrator holds all mail"},
                }
            ),
            "generation": {"type": "integer", "description": "grows with every applied configuration"},
        }
    ),
}

EVENT = {
    "title": "Event",
    **record(
        {
            "id": {"type": "integer"},
            "time": {"type": "string", "format": "date-time"},
            "boot_id": {"type": "string"},
            "level": {"type": "string"},
            "category": {"type": "string"},
            "event": {"type": "string", "description": "stable name, see docs/events.md"},
            "message": {"type": "string"},
            "fields": {"type": "object"},
        }
    ),
}

MAIL_RECORD = {
    "title": "Mail",
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "state": {"type": "string", "enum": ["ready", "sending", "held", "deferred", "sent", "failed"]},
        "kind": {"type": "string"},
        "priority": {"type": "string", "enum": ["alert", "report", "bulk"]},
        "from": {"type": "string"},
        "to": {"type": "array", "items": {"type": "string"}},
        "subject": {"type": "string"},
        "size": {"type": "integer"},
        "created_at": WALL,
        "attempts": {"type": "integer"},
        "next_attempt_at": WALL,
        "waiting_for": PROBLEM,
        "outcome": {
            "type": ["object", "null"],
            "properties": {
                "reply": {"type": "string", "description": "the server's reply"},
                "per_recipient": {"type": "array", "items": {"type": "object"}},
            },
        },
        "message_id": {"type": "string"},
        "finished_at": WALL,
        "submitter": {"type": "string"},
    },
    "required": [
        "id",
        "state",
        "kind",
        "priority",
        "from",
        "to",
        "subject",
        "size",
        "created_at",
        "attempts",
        "outcome",
    ],
}

PROBLEM_DOCUMENT = {
    "title": "ProblemDocument",
    "type": "object",
    "description": "RFC 9457.",
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": record({"pointer": {"type": "string"}, "detail": {"type": "string"}}),
        },
        "problem": PROBLEM,
    },
    "required": ["type", "title", "status", "detail"],
}

COMPONENTS = (PROBLEM, STATUS, EVENT, MAIL_RECORD, PROBLEM_DOCUMENT)

STATUS_ANSWER = Answer("The status.", STATUS)


def refusal(description: str) -> Answer:
    """An answer that is a problem document."""
    return Answer(description, PROBLEM_DOCUMENT, PROBLEM_JSON)
