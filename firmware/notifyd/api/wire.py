"""Requests and responses as values: what the HTTP server hands to handlers and takes back from them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NamedTuple

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
EVENT_STREAM = "text/event-stream"

# RFC 9111: nothing here may be kept by a cache; RFC 9110 §15 names the statuses.
BASE_HEADERS = (("cache-control", "no-store"), ("x-content-type-options", "nosniff"))


class Peer(NamedTuple):
    """Who is at the other end of the Unix socket, told by the kernel (SO_PEERCRED), never by the peer."""

    pid: int
    uid: int
    gid: int


NOBODY = Peer(0, -1, -1)


@dataclass(slots=True)
class Request:
    """One complete request; `parameters` are the values of the path template's placeholders."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""
    peer: Peer = NOBODY
    parameters: Mapping[str, str] = field(default_factory=dict)

    def header(self, name: str) -> str:
        """The value of a header (lower-case name), empty when absent; repeated ones are joined by commas."""
        return self.headers.get(name, "")

    @property
    def media_type(self) -> str:
        """The body's media type in lower case, without parameters."""
        return self.header("content-type").partition(";")[0].strip().lower()


@dataclass(slots=True)
class Response:
    """A complete answer."""

    status: int
    body: bytes = b""
    media_type: str = JSON
    headers: Sequence[tuple[str, str]] = ()


@dataclass(slots=True)
class Stream:
    """An answer without an end: `chunks` are written as they come, until the reader leaves or falls behind."""

    chunks: AsyncIterator[bytes]
    media_type: str = EVENT_STREAM
    status: int = 200
    headers: Sequence[tuple[str, str]] = ()


class ApiProblem(Exception):
    """An RFC 9457 problem document on its way to the caller.

    kind: the stable part of `type`. errors: field errors as (JSON pointer, detail). extra: extension members.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        title: str = "",
        errors: Sequence[tuple[str, str]] = (),
        headers: Sequence[tuple[str, str]] = (),
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(f"{status} {kind}: {detail}")
        self.status, self.kind, self.detail = status, kind, detail
        self.title = title or HTTPStatus(status).phrase
        self.errors, self.headers, self.extra = errors, headers, extra or {}

    def response(self) -> Response:
        """The document as RFC 9457 writes it."""
        document: dict[str, object] = {
            "type": f"urn:notifyd:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = [{"pointer": pointer, "detail": detail} for pointer, detail in self.errors]
        document.update(self.extra)
        return Response(self.status, encode(document), PROBLEM_JSON, self.headers)


def encode(value: object) -> bytes:
    """JSON as the wire carries it (RFC 8259: UTF-8, no NaN)."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def answer(value: Any, status: int = 200, headers: Sequence[tuple[str, str]] = ()) -> Response:
    """A JSON answer."""
    return Response(status, encode(value), JSON, headers)


NO_CONTENT = Response(204, b"", "")
