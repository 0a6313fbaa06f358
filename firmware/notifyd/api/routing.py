"""One table of operations: the router, the access check and the OpenAPI document are all made from it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from notifyd.api import strictjson
from notifyd.api.http import SMALL_BODY, BodyLimit
from notifyd.api.strictjson import FieldErrors, Schema
from notifyd.api.wire import JSON, ApiProblem, Request, Response, Stream

if TYPE_CHECKING:
    from notifyd.api.access import Caller, Gatekeeper
    from notifyd.ports import Gateway

MAX_QUERY = 4096
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


class Access(Enum):
    """Who may call an operation through the web server; on the admin socket its permissions have decided already."""

    ANYONE = "anyone"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Answer:
    """One documented answer: its meaning, and the schema of its body when it has one.

    also: media types of other forms that the caller can ask for with Accept.
    """

    description: str
    schema: Schema | None = None
    media_type: str = JSON
    also: tuple[str, ...] = ()


@dataclass(slots=True)
class Call:
    """One call as a handler sees it: authenticated, with its body and query already checked."""

    request: Request
    caller: Caller
    gateway: Gateway
    gatekeeper: Gatekeeper
    body: Any = None
    query: Mapping[str, Any] = field(default_factory=dict)

    def parameter(self, name: str) -> str:
        """The value of a placeholder of the path."""
        return self.request.parameters[name]


HandlerFunction = Callable[[Call], Awaitable[Response | Stream]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the table.

    body: the schema of a JSON body; None means that a body is not read. raw_bodies: media types that the handler reads
    itself. query: parameter name to schema; values are converted from text by the schema's type.
    """

    method: str
    path: str
    name: str
    summary: str
    handler: HandlerFunction
    tag: str
    answers: Mapping[int, Answer]
    access: Access = Access.SESSION
    body: Schema | None = None
    body_required: bool = True
    raw_bodies: tuple[str, ...] = ()
    limit: BodyLimit = SMALL_BODY
    query: Mapping[str, Schema] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        """Whether the call may change anything (RFC 9110 §9.2.1: all but the safe methods)."""
        return self.method not in ("GET", "HEAD")

    @property
    def media_types(self) -> tuple[str, ...]:
        """The media types of bodies that the call takes."""
        return ((JSON,) if self.body is not None else ()) + self.raw_bodies


class Router:
    """Finds the operation for a method and path; raises ApiProblem 404, or 405 with Allow."""

    def __init__(self, table: Iterable[Operation]) -> None:
        self.operations = tuple(table)
        self._fixed: dict[str, dict[str, Operation]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, Operation]]] = []
        templates: dict[str, dict[str, Operation]] = {}
        for operation in self.operations:
            methods = templates.setdefault(operation.path, {})
            if operation.method in methods:
                raise ValueError(f"{operation.method} {operation.path} is in the table twice")
            methods[operation.method] = operation
        for template, methods in templates.items():
            if "{" in template:
                pattern = _PLACEHOLDER.sub(r"(?P<\1>[A-Za-z0-9_.@-]{1,128})", template)
                self._patterns.append((re.compile(pattern), methods))
            else:
                self._fixed[template] = methods

    def find(self, method: str, path: str) -> tuple[Operation, Mapping[str, str]]:
        """The operation and the values of its placeholders."""
        methods, parameters = self._methods(path)
        operation = methods.get("GET" if method == "HEAD" else method)
        if operation is None:
            allowed = sorted(methods) + (["HEAD"] if "GET" in methods else [])
            raise ApiProblem(
                405,
                "method-not-allowed",
                "This resource does not take that method.",
                headers=(("allow", ", ".join(allowed)),),
            )
        return operation, parameters

    def _methods(self, path: str) -> tuple[Mapping[str, Operation], Mapping[str, str]]:
        if path in self._fixed:
            return self._fixed[path], {}
        for pattern, methods in self._patterns:
            match = pattern.fullmatch(path)
            if match:
                return methods, match.groupdict()
        raise ApiProblem(404, "not-found", "There is nothing at this address.")


def read_body(operation: Operation, request: Request) -> Any:
    """The checked JSON body (None when there is none); raises ApiProblem 400, 415 or 422."""
    if operation.body is None or request.media_type in operation.raw_bodies:
        return None
    if not request.body:
        if operation.body_required:
            raise ApiProblem(400, "malformed", "The request needs a JSON body.")
        return {}
    value = strictjson.parse(request.body)
    errors = strictjson.check(value, operation.body)
    if errors:
        raise invalid(errors)
    return value


def read_query(operation: Operation, query: str) -> dict[str, Any]:
    """The checked query parameters; raises ApiProblem 400 or 422."""
    if not query:
        return {}
    if len(query) > MAX_QUERY:
        raise ApiProblem(400, "malformed", "The query is too long.")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=32)
    except ValueError:
        raise ApiProblem(400, "malformed", "The query is not well-formed.") from None
    values: dict[str, Any] = {}
    errors: FieldErrors = []
    for name, text in pairs:
        pointer = "/" + strictjson.escape(name)
        if name not in operation.query:
            errors.append((pointer, "is not known here"))
        elif name in values:
            errors.append((pointer, "is given twice"))
        else:
            values[name] = _convert(text, operation.query[name])
            errors += strictjson.check(values[name], operation.query[name], pointer)
    if errors:
        raise invalid(errors)
    return values


def _convert(text: str, schema: Schema) -> Any:
    if schema.get("type") == "integer" and re.fullmatch(r"-?[0-9]{1,18}", text):
        return int(text)
    if schema.get("type") == "number" and re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,9})?", text):
        return float(text)
    if schema.get("type") == "boolean" and text in ("0", "1", "true", "false"):
        return text in ("1", "true")
    return text


def invalid(errors: FieldErrors) -> ApiProblem:
    """A 422 that names each field (RFC 9110 §15.5.21)."""
    first_pointer, first_detail = errors[0]
    where = first_pointer.removeprefix("/") or "the body"
    return ApiProblem(
        422, "invalid", f"{where} {first_detail}.", title="Some values cannot be used", errors=errors[:64]
    )
