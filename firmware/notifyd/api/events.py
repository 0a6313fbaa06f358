"""`GET /api/v1/events`: the System log, at once or as a stream (WHATWG HTML §9.2, server-sent events)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from notifyd.api.routing import Answer, Call, Operation
from notifyd.api.shapes import EVENT, record, text
from notifyd.api.wire import EVENT_STREAM, ApiProblem, Response, Stream, answer, encode
from notifyd.core.eventlog import Level, parse_level

if TYPE_CHECKING:
    from notifyd.core.eventlog import Record

MAX_FOLLOWERS = 16
RETRY_MS = 3000
LIST = record({"events": {"type": "array", "items": EVENT}, "last_id": {"type": "integer"}})


async def get_events(call: Call) -> Response | Stream:
    query = dict(call.query)
    follow = bool(query.pop("follow", False)) or EVENT_STREAM in call.request.header("accept")
    filters = _filters(query)
    if follow:
        return _stream(call, query, filters)
    after, before, limit = query.get("after"), query.get("before"), query.get("limit", 100)
    records = call.gateway.events.query(after=after, before=before, limit=limit, **filters)
    if after is None:
        records.reverse()  # the newest were asked for; an answer is always in the order of ids
    last_id = records[-1].id if records else query.get("after", 0)
    return answer({"events": [item.as_json() for item in records], "last_id": last_id})


def _filters(query: dict[str, Any]) -> dict[str, Any]:
    names = ("level", "category", "event", "text", "since", "until")
    filters = {name: query[name] for name in names if name in query}
    if "level" in filters:
        try:
            filters["level"] = parse_level(filters["level"])
        except ValueError:
            raise ApiProblem(
                422, "invalid", "level is not known.", errors=[("/level", "is not the name of a level")]
            ) from None
    return filters


def _stream(call: Call, query: dict[str, Any], filters: dict[str, Any]) -> Stream:
    resume = call.request.header("last-event-id").strip()
    if resume and not re.fullmatch(r"[0-9]{1,15}", resume):
        raise ApiProblem(400, "malformed", "Last-Event-ID is not one of ours.")
    after = int(resume) if resume else query.get("after")
    if call.gateway.followers >= MAX_FOLLOWERS:
        raise ApiProblem(503, "busy", "Too many followers of the log.", headers=(("retry-after", "30"),))
    return Stream(_chunks(call, after, filters))


async def _chunks(call: Call, after: int | None, filters: dict[str, Any]) -> AsyncIterator[bytes]:
    yield f"retry: {RETRY_MS}\n: notifyd\n\n".encode()
    async for item in call.gateway.follow(after):
        if not _may_still_read(call):
            return
        if item is None:
            yield b": still here\n\n"
        elif _wanted(item, filters):
            yield f"id: {item.id}\nevent: {item.event}\ndata: ".encode() + encode(item.as_json()) + b"\n"


def _may_still_read(call: Call) -> bool:
    """A stream ends with the session that opened it."""
    return not call.caller.session or call.gatekeeper.sessions.alive(call.caller.session)


def _wanted(item: Record, filters: dict[str, Any]) -> bool:
    level: Level | None = filters.get("level")
    if level is not None and not item.level.at_least(level):
        return False
    if filters.get("category") not in (None, item.category) or filters.get("event") not in (None, item.event):
        return False
    words = filters.get("text")
    return words is None or words.lower() in item.message.lower()


OPERATIONS = (
    Operation(
        "GET",
        "/api/v1/events",
        "getEvents",
        "The System log; with `Accept: text/event-stream` (or `follow=1`) live, resuming by Last-Event-ID",
        get_events,
        "events",
        {
            200: Answer(
                "Records in the order of their ids; as a stream, one server-sent event each.",
                LIST,
                also=(EVENT_STREAM,),
            )
        },
        query={
            "after": {"type": "integer", "minimum": 0, "description": "the oldest with larger ids; else the newest"},
            "before": {"type": "integer", "minimum": 0, "description": "the newest with smaller ids"},
            "limit": {"type": "integer", "minimum": 1, "maximum": 1000},
            "level": text("this level and more urgent ones", most=16),
            "category": text("token, mail, settings …", most=32),
            "event": text("one name, such as mail.sent", most=64),
            "text": text("words of the message", most=200),
            "since": {"type": "number", "minimum": 0, "description": "wall-clock seconds"},
            "until": {"type": "number", "minimum": 0, "description": "wall-clock seconds"},
            "follow": {"type": "boolean"},
        },
        headers={"Last-Event-ID": "Where a stream goes on."},
    ),
)
