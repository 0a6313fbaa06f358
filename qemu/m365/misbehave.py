"""Bad answers on order: what a broken service, network or portal does to an HTTP request.

`play` serves one ordered failure; kinds that spoil a good answer call `answer` for it first, so that
the request has had its effect (a refresh token is rotated) and only the client does not learn of it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from qemu.m365.orders import Order

Answer = Callable[[], Awaitable[Response]]

_PORTAL = "<!DOCTYPE html><html><head><title>Hotel Wi-Fi</title></head><body><h1>Please sign in</h1></body></html>"
_FOREVER = 3600.0


class PieceResponse(Response):
    """Another response's bytes in pieces, with a pause between them, and perhaps a reset before the end."""

    def __init__(self, whole: Response, piece: int, pause: float, reset_after: int | None = None) -> None:
        super().__init__(bytes(whole.body), whole.status_code)
        self.raw_headers = whole.raw_headers
        self._piece, self._pause, self._reset_after = piece, pause, reset_after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = bytes(self.body)
        end = len(body) if self._reset_after is None else self._reset_after
        for start in range(0, end, self._piece):
            if scope["state"]["transport"].is_closing():
                return
            piece = body[start : min(start + self._piece, end)]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(self._pause)
        if self._reset_after is None:
            await send({"type": "http.response.body", "body": b""})
        else:
            await reset_connection(scope, receive)


class ResetResponse(Response):
    """No answer at all: the connection is reset."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await reset_connection(scope, receive)


async def reset_connection(scope: Scope, receive: Receive) -> None:
    """Send a TCP reset on the request's connection, unless the client has closed it already."""
    transport: asyncio.Transport = scope["state"]["transport"]
    if not transport.is_closing():
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    # Return only when the server knows: it would complain of an answer without an end.
    while (await receive())["type"] != "http.disconnect":
        pass


async def _wait_for_client(request: Request, seconds: float) -> None:
    """Say nothing until the client has gone or the time is over."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    try:
        await asyncio.wait_for(gone(), seconds)
    except TimeoutError:
        return


def _rewritten(whole: Response, change: Callable[[dict[str, Any]], None]) -> Response:
    """A JSON answer with members changed; an error answer stays as it is."""
    if whole.status_code != 200:
        return whole
    members = json.loads(bytes(whole.body))
    change(members)
    return _with_body(whole, json.dumps(members).encode())


def _with_body(whole: Response, body: bytes, content_type: str | None = None) -> Response:
    kept = {k: v for k, v in whole.headers.items() if k not in ("content-length", "content-type")}
    kind = content_type if content_type is not None else whole.headers.get("content-type")
    answer = Response(body, whole.status_code, kept)
    if kind:
        answer.headers["content-type"] = kind
    return answer


async def _http(order: Order, request: Request, answer: Answer) -> Response:
    headers = {"Retry-After": order.text("retry_after")} if "retry_after" in order.params else {}
    kind = order.text("content_type", "text/html")
    return Response(order.text("body"), int(order.number("status", 503)), headers, kind)


async def _hang(order: Order, request: Request, answer: Answer) -> Response:
    await _wait_for_client(request, order.number("seconds", _FOREVER))
    return ResetResponse()


async def _latency(order: Order, request: Request, answer: Answer) -> Response:
    await asyncio.sleep(order.number("seconds", 1))
    return await answer()


async def _drip(order: Order, request: Request, answer: Answer) -> Response:
    return PieceResponse(await answer(), int(order.number("bytes", 1)), order.number("pause", 1))


async def _reset(order: Order, request: Request, answer: Answer) -> Response:
    whole = await answer()
    half = len(bytes(whole.body)) // 2
    return PieceResponse(whole, 4096, 0.01, int(order.number("after", half)))


async def _refuse(order: Order, request: Request, answer: Answer) -> Response:
    return ResetResponse()


async def _portal(order: Order, request: Request, answer: Answer) -> Response:
    return Response(_PORTAL, int(order.number("status", 200)), media_type="text/html")


async def _redirect(order: Order, request: Request, answer: Answer) -> Response:
    return RedirectResponse(order.text("location", "http://portal.invalid/"), int(order.number("status", 302)))


async def _truncated(order: Order, request: Request, answer: Answer) -> Response:
    whole = await answer()
    body = bytes(whole.body)
    return _with_body(whole, body[: int(order.number("bytes", len(body) * 2 // 3))])


async def _huge(order: Order, request: Request, answer: Answer) -> Response:
    whole = await answer()
    padding = b'{"padding":"' + b"x" * int(order.number("bytes", 1 << 20)) + b'",'
    return _with_body(whole, padding + bytes(whole.body).lstrip()[1:])


async def _content_type(order: Order, request: Request, answer: Answer) -> Response:
    whole = await answer()
    return _with_body(whole, bytes(whole.body), order.text("value", "text/plain"))


async def _charset(order: Order, request: Request, answer: Answer) -> Response:
    whole, name = await answer(), order.text("value", "utf-16")
    return _with_body(whole, bytes(whole.body).decode().encode(name), f"application/json; charset={name}")


async def _duplicate_keys(order: Order, request: Request, answer: Answer) -> Response:
    whole = await answer()
    first = json.dumps(order.params.get("members", {"access_token": "duplicate", "expires_in": 1, "error": "twice"}))
    return _with_body(whole, first.encode()[:-1] + b"," + bytes(whole.body).lstrip()[1:])


async def _members(order: Order, request: Request, answer: Answer) -> Response:
    def change(members: dict[str, Any]) -> None:
        members.update(order.params.get("set", {}))
        for name in order.params.get("drop", []):
            members.pop(name, None)

    return _rewritten(await answer(), change)


async def _no_refresh_token(order: Order, request: Request, answer: Answer) -> Response:
    return _rewritten(await answer(), lambda members: members.pop("refresh_token", None))


async def _short_scope(order: Order, request: Request, answer: Answer) -> Response:
    return _rewritten(await answer(), lambda members: members.update(scope=order.text("value", "SMTP.Send")))


async def _no_scope(order: Order, request: Request, answer: Answer) -> Response:
    return _rewritten(await answer(), lambda members: members.pop("scope", None))


async def _expires_in(order: Order, request: Request, answer: Answer) -> Response:
    return _rewritten(await answer(), lambda members: members.update(expires_in=order.params.get("value", "soon")))


KINDS: dict[str, Callable[[Order, Request, Answer], Awaitable[Response]]] = {
    "http": _http,
    "hang": _hang,
    "latency": _latency,
    "drip": _drip,
    "reset": _reset,
    "refuse": _refuse,
    "captive-portal": _portal,
    "redirect": _redirect,
    "truncated": _truncated,
    "huge": _huge,
    "content-type": _content_type,
    "charset": _charset,
    "duplicate-keys": _duplicate_keys,
    "members": _members,
    "no-refresh-token": _no_refresh_token,
    "short-scope": _short_scope,
    "no-scope": _no_scope,
    "expires-in": _expires_in,
}


async def play(order: Order | None, request: Request, answer: Answer) -> Response:
    """The answer to a request under an order; without one, or with one of a kind not of this module, the good one."""
    kind = KINDS.get(order.what) if order is not None else None
    if order is None or kind is None:
        return await answer()
    return await kind(order, request, answer)
