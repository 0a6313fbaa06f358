"""`/api/v1/token`: Get New Token, Refresh Token Status, forget; and the redirect URIs to register for it."""

from __future__ import annotations

from notifyd.api.routing import Answer, Call, Operation
from notifyd.api.shapes import STATUS_ANSWER, record, refusal, text
from notifyd.api.wire import Response, answer

BEGUN = record(
    {
        "authorize_url": text("open it in a new tab", most=8192),
        "expires_at": {"type": "number", "description": "wall-clock seconds at which this sign-in ends"},
    }
)
REDIRECT_URIS = record({"redirect_uris": {"type": "array", "items": {"type": "string", "format": "uri"}}})


async def authorize(call: Call) -> Response:
    return answer(await call.gateway.authorize(call.body.get("redirect_uri", ""), call.caller))


async def refresh(call: Call) -> Response:
    await call.gateway.refresh(bool(call.body.get("force", False)))
    return answer(call.gateway.status())


async def forget(call: Call) -> Response:
    call.gateway.forget(call.caller)
    return answer(call.gateway.status())


async def redirect_uris(call: Call) -> Response:
    return answer({"redirect_uris": call.gateway.redirect_uris()})


OPERATIONS = (
    Operation(
        "POST",
        "/api/v1/token/authorize",
        "beginSignin",
        "Get New Token: begins a sign-in at Microsoft",
        authorize,
        "token",
        {
            200: Answer("Where to sign in, and until when.", BEGUN),
            409: refusal("Nothing is applied yet, or the applied method needs no token."),
            422: refusal("The redirect URI is not one of this gateway's."),
            503: refusal("Microsoft's description of the tenant cannot be reached, or too many sign-ins are open."),
        },
        body=record({"redirect_uri": text("one of /api/v1/redirect-uris; the first when left out", 512)}, []),
        body_required=False,
    ),
    Operation(
        "POST",
        "/api/v1/token/refresh",
        "refreshToken",
        "Refresh Token Status: re-checks now, renews when due, with `force` in any case",
        refresh,
        "token",
        {200: STATUS_ANSWER},
        body=record({"force": {"type": "boolean"}}, []),
        body_required=False,
    ),
    Operation("DELETE", "/api/v1/token", "forgetToken", "Forgets the grant", forget, "token", {200: STATUS_ANSWER}),
    Operation(
        "GET",
        "/api/v1/redirect-uris",
        "getRedirectUris",
        "What to register in Entra: one for every LAN name and address",
        redirect_uris,
        "token",
        {200: Answer("Ready to copy.", REDIRECT_URIS)},
    ),
)
