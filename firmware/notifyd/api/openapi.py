"""The OpenAPI 3.1 document, made from the same table that the router uses. Imported only when somebody asks for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from notifyd import __version__
from notifyd.api.routing import Access, Answer, Operation
from notifyd.api.shapes import COMPONENTS, refusal
from notifyd.api.strictjson import Schema

_DESCRIPTION = """\
Notification service of the gateway: the Microsoft 365 token, the mail queue, the daily report and the System log.

On the Unix socket `admin.sock` the socket's permissions decide who may call. Under `https://<LAN address>/` a call
needs the session cookie that `POST /api/v1/session` sets, or a Basic login, and a changing one must come from the same
origin. Errors are RFC 9457 problem documents; field errors are in `errors` as JSON pointers. JSON is read strictly: a
duplicate or unknown key is an error, and a refused call changes nothing."""
_TAGS = {
    "status": "What the page shows",
    "settings": "The mail server page",
    "token": "Get New Token, Refresh Token Status",
    "mail": "The durable mail queue",
    "report": "Email Daily Report",
    "events": "The System log",
    "support": "Diagnosis and support",
    "session": "The administrator's login",
}
COMMON = {
    400: refusal("The request is malformed."),
    401: refusal("Through the web server: log in first."),
    403: refusal("Through the web server: a change asked for by another site."),
    413: refusal("The body is too large."),
    415: refusal("The body has a media type that is not taken here."),
    422: refusal("Some values cannot be used; `errors` names them."),
    500: refusal("A fault in the gateway; the System log has a record of it."),
}
_NAMED = {schema["title"]: schema for schema in COMPONENTS}


def document(table: Iterable[Operation]) -> dict[str, Any]:
    """The whole description, ready for JSON."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in table:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "notifyd",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "this gateway"}],
        "tags": [{"name": name, "description": description} for name, description in _TAGS.items()],
        "security": [{"session": []}, {"basic": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "session": {"type": "apiKey", "in": "cookie", "name": "__Host-notifyd"},
                "basic": {"type": "http", "scheme": "basic"},
            },
            "schemas": {name: _schema(schema, top=True) for name, schema in _NAMED.items()},
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": {str(status): _answer(answer) for status, answer in sorted(_answers(operation).items())},
    }
    parameters = _parameters(operation)
    if parameters:
        described["parameters"] = parameters
    if operation.media_types:
        described["requestBody"] = {"required": operation.body_required, "content": _contents(operation)}
    if operation.access is Access.ANYONE:
        described["security"] = []
    return described


def _answers(operation: Operation) -> dict[int, Answer]:
    answers = {400: COMMON[400], 500: COMMON[500], **operation.answers}
    if operation.access is Access.SESSION:
        answers.setdefault(401, COMMON[401])
    if operation.changes:
        answers.setdefault(403, COMMON[403])
    if operation.media_types:
        answers = {413: COMMON[413], 415: COMMON[415], 422: COMMON[422], **answers}
    if operation.query:
        answers.setdefault(422, COMMON[422])
    return answers


def _answer(answer: Answer) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.description}
    if answer.schema is not None:
        described["content"] = {answer.media_type.partition(";")[0]: {"schema": _schema(answer.schema)}}
        for media in answer.also:
            described["content"][media] = {"schema": {"type": "string"}}
    return described


def _contents(operation: Operation) -> dict[str, Any]:
    contents: dict[str, Any] = {media: {"schema": {"type": "string"}} for media in operation.raw_bodies}
    if operation.body is not None:
        contents["application/json"] = {"schema": _schema(operation.body)}
    return contents


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{([a-z_]+)\}", operation.path)
    ]
    for name, schema in operation.query.items():
        shown = {key: value for key, value in schema.items() if key != "description"}
        found.append(
            {"name": name, "in": "query", "schema": _schema(shown), "description": schema.get("description", "")}
        )
    for name, description in operation.headers.items():
        found.append({"name": name, "in": "header", "schema": {"type": "string"}, "description": description})
    return found


def _schema(schema: Schema, *, top: bool = False) -> dict[str, Any]:
    """A schema for the document: shared ones by reference, our own words left out."""
    title = schema.get("title")
    if not top and title in _NAMED and _NAMED[title] == schema:
        return {"$ref": f"#/components/schemas/{title}"}
    shown = {key: value for key, value in schema.items() if key != "x-multiline"}
    for key in ("properties",):
        if key in shown:
            shown[key] = {name: _schema(child) for name, child in shown[key].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(shown.get(key), Mapping):
            shown[key] = _schema(shown[key])
    if "anyOf" in shown:
        shown["anyOf"] = [_schema(child) for child in shown["anyOf"]]
    return shown
