"""`/api/v1/session`: an administrator's login to the page."""

from __future__ import annotations

from notifyd.api.access import cookie_header
from notifyd.api.routing import Access, Answer, Call, Operation
from notifyd.api.shapes import record, refusal, text
from notifyd.api.wire import ApiProblem, Response, answer
from notifyd.core.secret import Secret

WHO = record({"user": text("the administrator's login name")})
LOGIN = record(
    {
        "user": text("login name", most=64, least=1, pattern=r"^[A-Za-z0-9_.@-]+$"),
        "password": {"type": "string", "maxLength": 512, "writeOnly": True},
    }
)


async def log_in(call: Call) -> Response:
    gatekeeper = call.gatekeeper
    user: str = call.body["user"]
    session_id = await gatekeeper.log_in(user, Secret(call.body["password"]), call.caller.remote)
    if call.caller.session:  # a new login never continues an old session
        gatekeeper.sessions.end(call.caller.session)
    return answer({"user": user}, headers=(cookie_header(session_id),))


async def get_session(call: Call) -> Response:
    if not call.caller.user:
        raise ApiProblem(401, "login-required", "Log in first.")
    return answer({"user": call.caller.user})


async def log_out(call: Call) -> Response:
    if call.caller.session:
        call.gatekeeper.sessions.end(call.caller.session)
        call.gateway.events.emit("auth.logout", user=call.caller.user, remote=call.caller.remote)
    return Response(204, b"", "", (cookie_header(""),))


OPERATIONS = (
    Operation(
        "POST",
        "/api/v1/session",
        "logIn",
        "Logs an administrator in; the answer sets the session cookie",
        log_in,
        "session",
        {
            200: Answer("Logged in.", WHO),
            401: refusal("Wrong user name or password."),
            429: refusal("Too many wrong logins."),
        },
        access=Access.ANYONE,
        body=LOGIN,
    ),
    Operation(
        "GET",
        "/api/v1/session",
        "getSession",
        "Who is logged in",
        get_session,
        "session",
        {200: Answer("The administrator.", WHO), 401: refusal("Nobody is logged in.")},
        access=Access.ANYONE,
    ),
    Operation(
        "DELETE",
        "/api/v1/session",
        "logOut",
        "Logs out",
        log_out,
        "session",
        {204: Answer("Logged out.")},
        access=Access.ANYONE,
    ),
)
