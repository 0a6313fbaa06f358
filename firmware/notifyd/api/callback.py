"""The callback socket: the CGI hands in one answer to a sign-in, and can do nothing else here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from notifyd.api import strictjson
from notifyd.api.http import BodyLimit
from notifyd.api.shapes import record, text
from notifyd.api.wire import JSON, ApiProblem, Request, Response, Stream, answer
from notifyd.ports import Gateway

PATH = "/callback"
LIMIT = BodyLimit(64 * 1024, 10.0)
MAX_PARAMETERS = 24
AGAIN = "Open the gateway's page and choose Get New Token again."

_PARAMETER = {"type": "string", "maxLength": 16 * 1024, "x-multiline": True}
MESSAGE = record(
    {
        "method": {"type": "string", "enum": ["GET", "POST"]},
        "params": {"type": "object", "additionalProperties": _PARAMETER},
        "server_addr": text(most=64),
        "server_port": text(most=8),
        "remote_addr": text(most=64),
        "host": text(most=256),
        "https": {"type": "boolean"},
    },
    ["params"],
)


class CallbackApplication:
    """Serves `POST /callback` and nothing else; every answer has the shape that the CGI's page shows."""

    def __init__(self, gateway: Gateway, report_fault: Callable[[Request, BaseException], None]) -> None:
        self._gateway = gateway
        self._report_fault = report_fault

    def accept_head(self, request: Request) -> BodyLimit:
        if request.path != PATH:
            raise ApiProblem(404, "not-found", "There is nothing at this address.")
        if request.method != "POST":
            raise ApiProblem(405, "method-not-allowed", "Only POST is taken here.", headers=(("allow", "POST"),))
        if request.media_type != JSON:
            raise ApiProblem(415, "media-type", "The body must be JSON.")
        return LIMIT

    async def handle(self, request: Request) -> Response | Stream:
        try:
            message = _read(request.body)
            said = await self._gateway.signin_answered(
                message["params"], message.get("server_addr", ""), message.get("remote_addr", "")
            )
        except ApiProblem as problem:
            return _refused(problem)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._report_fault(request, error)
            return _refused(ApiProblem(500, "fault", "Something went wrong here; the System log has a record of it."))
        status = int(said.pop("status"))
        return answer(said, status)


def _read(body: bytes) -> dict[str, Any]:
    message = strictjson.parse(body)
    errors = strictjson.check(message, MESSAGE)
    if errors:
        raise ApiProblem(400, "malformed", "It does not have the form of an answer to a sign-in.")
    params: dict[str, str] = message["params"]
    if len(params) > MAX_PARAMETERS or not params.get("state"):
        raise ApiProblem(400, "malformed", "It does not say which sign-in it answers.")
    if bool(params.get("code")) == bool(params.get("error")):
        raise ApiProblem(400, "malformed", "It must carry either a code or an error.")
    found: dict[str, Any] = message
    return found


def _refused(problem: ApiProblem) -> Response:
    document = {
        "ok": False,
        "title": "This is not an answer to a sign-in" if problem.status < 500 else "The sign-in could not be finished",
        "detail": problem.detail,
        "remedy": AGAIN,
        "code": f"signin.{problem.kind}",
    }
    return answer(document, problem.status, problem.headers)
