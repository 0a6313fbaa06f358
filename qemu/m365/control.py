"""The control API and the mailbox view, plain HTTP on loopback. README.md lists the calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from qemu.m365.catalogue import expand
from qemu.m365.directory import App, Secret, User, redirect_uri_fault
from qemu.m365.mailstore import Arrived
from qemu.m365.orders import BadOrder
from qemu.m365.world import World

_HTML_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox"


class Control:
    """Handlers of the control API. `app` is the ASGI application."""

    def __init__(self, world: World) -> None:
        self._world = world
        loader = FileSystemLoader(Path(__file__).parent / "templates")
        self._pages = Environment(loader=loader, autoescape=select_autoescape())
        self._pages.filters["when"] = _when
        self.app = Starlette(
            routes=[
                Route("/", self.mailbox_page),
                Route("/mailbox", self.mailbox_page),
                Route("/mailbox/{id}", self.message_page),
                Route("/mailbox/{id}/html", self.message_html),
                Route("/mailbox/{id}/raw", self.message_raw),
                Route("/mail", self.mail, methods=["GET", "DELETE"]),
                Route("/mail/{id}", self.message),
                Route("/orders", self.orders, methods=["GET", "POST", "DELETE"]),
                Route("/orders/{id:int}", self.cancel_order, methods=["DELETE"]),
                Route("/log", self.log, methods=["GET", "DELETE"]),
                Route("/reset", self.reset, methods=["POST"]),
                Route("/clock", self.clock, methods=["GET", "POST"]),
                Route("/policy", self.policy, methods=["GET", "PATCH"]),
                Route("/limits", self.limits, methods=["GET", "PATCH"]),
                Route("/users", self.users, methods=["GET"]),
                Route("/users/{upn}", self.user, methods=["PUT", "PATCH", "DELETE"]),
                Route("/users/{upn}/revoke", self.revoke, methods=["POST"]),
                Route("/users/{upn}/password", self.password, methods=["POST"]),
                Route("/apps", self.list_apps, methods=["GET"]),
                Route("/apps/{client_id}", self.edit_app, methods=["PUT", "PATCH", "DELETE"]),
                Route("/apps/{client_id}/secrets", self.secrets, methods=["POST"]),
                Route("/apps/{client_id}/secrets/{key_id}", self.secret, methods=["PATCH", "DELETE"]),
                Route("/apps/{client_id}/redirect-uris", self.redirect_uris, methods=["POST"]),
                Route("/apps/{client_id}/certificates", self.certificates, methods=["POST", "DELETE"]),
                Route("/keys", self.keys, methods=["POST"]),
            ]
        )

    # ---- orders, log, clock ---------------------------------------------------------------------------------------

    async def orders(self, request: Request) -> Response:
        """Open orders; a new one; withdraw all."""
        book = self._world.orders
        if request.method == "DELETE":
            book.clear()
        if request.method != "POST":
            return JSONResponse({"orders": [o.as_json() for o in book.open()]})
        try:
            order = book.add(expand(await _object(request)))
        except BadOrder as error:
            raise HTTPException(400, str(error)) from None
        return JSONResponse(order.as_json(), 201)

    async def cancel_order(self, request: Request) -> Response:
        """Withdraw one order."""
        return JSONResponse({"cancelled": self._world.orders.cancel(request.path_params["id"])})

    async def log(self, request: Request) -> Response:
        """Counts and newest entries, `?endpoint=` filters the entries; DELETE forgets."""
        log = self._world.log
        if request.method == "DELETE":
            log.clear()
        wanted = request.query_params.get("endpoint")
        entries = [e for e in log.entries if wanted is None or e["endpoint"] == wanted]
        accounts = {name: account.as_json() for name, account in self._world.mail.accounts.items()}
        return JSONResponse({"counts": dict(log.counts), "entries": entries, "mailboxes": accounts})

    async def reset(self, request: Request) -> Response:
        """Back to the start."""
        self._world.reset()
        return JSONResponse({"reset": True})

    async def clock(self, request: Request) -> Response:
        """Read or move the simulated clock: `{"advance": seconds}`, `{"speed": n}`."""
        clock = self._world.clock
        if request.method == "POST":
            body = await _object(request)
            clock.advance(float(body.get("advance", 0)))
            if "speed" in body:
                clock.run_at(float(body["speed"]))
        return JSONResponse({"now": clock.now(), "speed": clock.speed})

    async def keys(self, request: Request) -> Response:
        """Rotate the signing key; `{"retire": true}` withdraws the old ones at once."""
        key_id = self._world.keys.rotate()
        if (await _object(request)).get("retire"):
            self._world.keys.retire()
        return JSONResponse({"kid": key_id})

    # ---- tenant ---------------------------------------------------------------------------------------------------

    async def policy(self, request: Request) -> Response:
        """The tenant's policies."""
        if request.method == "PATCH":
            _patch(self._world.directory.policy, await _object(request))
        return JSONResponse(asdict(self._world.directory.policy))

    async def limits(self, request: Request) -> Response:
        """Exchange's limits."""
        if request.method == "PATCH":
            _patch(self._world.mail.limits, await _object(request))
        return JSONResponse(asdict(self._world.mail.limits))

    async def users(self, request: Request) -> Response:
        """All accounts."""
        return JSONResponse({"users": [_plain(u) for u in self._world.directory.users.values()]})

    async def user(self, request: Request) -> Response:
        """Create (PUT), change (PATCH) or delete an account."""
        users, upn = self._world.directory.users, request.path_params["upn"].lower()
        if request.method == "DELETE":
            return JSONResponse({"deleted": users.pop(upn, None) is not None})
        if request.method == "PUT":
            users[upn] = User(upn, upn)
        found = users.get(upn)
        if found is None:
            raise HTTPException(404, "no such user")
        _patch(found, await _object(request))
        return JSONResponse(_plain(found))

    async def revoke(self, request: Request) -> Response:
        """End the refresh tokens of a user: `{"code": 50173}`."""
        code = int((await _object(request)).get("code", 50173))
        return JSONResponse({"revoked": self._world.directory.revoke(self._user(request), code)})

    async def password(self, request: Request) -> Response:
        """Change a password: `{"password": …, "revoke": bool}` (true: as by reset in the Entra admin center)."""
        body, user = await _object(request), self._user(request)
        user.password = str(body.get("password", user.password))
        number = self._world.directory.revoke(user) if body.get("revoke") else 0
        self._world.sessions.clear()
        return JSONResponse({"revoked": number})

    async def list_apps(self, request: Request) -> Response:
        """All application registrations."""
        return JSONResponse({"apps": [_plain(a) for a in self._world.directory.apps.values()]})

    async def edit_app(self, request: Request) -> Response:
        """Create (PUT), change (PATCH) or delete a registration."""
        registered, client_id = self._world.directory.apps, request.path_params["client_id"].lower()
        if request.method == "DELETE":
            return JSONResponse({"deleted": registered.pop(client_id, None) is not None})
        if request.method == "PUT":
            registered[client_id] = App(client_id, client_id)
        found = self._app(request)
        _patch(found, await _object(request))
        return JSONResponse(_plain(found))

    async def secrets(self, request: Request) -> Response:
        """Add a secret: `{"value": …, "expires_in": seconds}`."""
        body, app = await _object(request), self._app(request)
        expires = self._world.clock.now() + float(body.get("expires_in", 180 * 86400))
        secret = Secret(str(body["value"]), expires)
        app.secrets.append(secret)
        return JSONResponse(asdict(secret), 201)

    async def secret(self, request: Request) -> Response:
        """Change (`expires_in`, `value`) or delete a secret; its key may be `first` or `last`."""
        app, key_id = self._app(request), request.path_params["key_id"]
        places = {"first": 0, "last": -1}
        if key_id in places:
            found = app.secrets[places[key_id]]
        else:
            found = next((s for s in app.secrets if s.key_id == key_id), None) or _missing("no such secret")
        if request.method == "DELETE":
            app.secrets.remove(found)
            return JSONResponse({"deleted": True})
        body = await _object(request)
        if "expires_in" in body:
            found.expires_at = self._world.clock.now() + float(body["expires_in"])
        found.value = str(body.get("value", found.value))
        return JSONResponse(asdict(found))

    async def redirect_uris(self, request: Request) -> Response:
        """Register redirect URIs: `{"add": […]}` or `{"set": […]}`."""
        body, app = await _object(request), self._app(request)
        given = [str(u) for u in body.get("set", app.redirect_uris)]
        given += [str(u) for u in body.get("add", [])]
        for uri in given:
            reason = redirect_uri_fault(uri)
            if reason:
                raise HTTPException(400, f"{uri}: {reason}")
        app.redirect_uris = list(dict.fromkeys(given))
        return JSONResponse({"redirect_uris": app.redirect_uris})

    async def certificates(self, request: Request) -> Response:
        """Upload a certificate credential: `{"pem": …}`; DELETE removes all."""
        app = self._app(request)
        if request.method == "DELETE":
            app.certificates.clear()
        else:
            app.certificates.append(str((await _object(request))["pem"]))
        return JSONResponse({"certificates": len(app.certificates)})

    def _user(self, request: Request) -> User:
        return self._world.directory.user(request.path_params["upn"]) or _missing("no such user")

    def _app(self, request: Request) -> App:
        return self._world.directory.apps.get(request.path_params["client_id"].lower()) or _missing("no such app")

    # ---- mail -----------------------------------------------------------------------------------------------------

    async def mail(self, request: Request) -> Response:
        """All messages, oldest first; `?full=1` with bodies; DELETE forgets them."""
        if request.method == "DELETE":
            self._world.mail.arrived.clear()
        full = request.query_params.get("full") == "1"
        return JSONResponse({"messages": [m.as_json(full=full) for m in self._world.mail.arrived]})

    async def message(self, request: Request) -> Response:
        """One message with bodies."""
        return JSONResponse(self._message(request).as_json(full=True))

    async def mailbox_page(self, request: Request) -> Response:
        """The list for people."""
        messages = [m.as_json() for m in reversed(self._world.mail.arrived)]
        return HTMLResponse(self._pages.get_template("mailbox.html").render(messages=messages))

    async def message_page(self, request: Request) -> Response:
        """One message for people."""
        message = self._message(request).as_json(full=True)
        return HTMLResponse(self._pages.get_template("message.html").render(message=message))

    async def message_html(self, request: Request) -> Response:
        """The html body alone, for the sandboxed frame."""
        return HTMLResponse(self._message(request).body("html"), headers={"Content-Security-Policy": _HTML_POLICY})

    async def message_raw(self, request: Request) -> Response:
        """The message's source."""
        return PlainTextResponse(self._message(request).raw.decode("utf-8", "replace"))

    def _message(self, request: Request) -> Arrived:
        wanted = request.path_params["id"]
        return next((m for m in self._world.mail.arrived if m.id == wanted), None) or _missing("no such message")


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _missing(text: str) -> Any:
    raise HTTPException(404, text)


async def _object(request: Request) -> dict[str, Any]:
    """The JSON object of the body, {} for an empty one."""
    if not await request.body():
        return {}
    try:
        body = await request.json()
    except ValueError:
        raise HTTPException(400, "the body is not JSON") from None
    if not isinstance(body, dict):
        raise HTTPException(400, "the body must be a JSON object")
    return body


def _patch(target: Any, changes: Mapping[str, Any]) -> None:
    """Set fields of a dataclass from JSON; sets come as lists."""
    names = {f.name for f in fields(target)}
    for name, value in changes.items():
        if name not in names or name == "secrets":
            raise HTTPException(400, f"unknown field {name}")
        current = getattr(target, name)
        if isinstance(current, set):
            value = set(value)
        if name == "consents":
            value = {k: set(v) for k, v in value.items()}
        setattr(target, name, value)


def _plain(item: Any) -> Any:
    """A dataclass as JSON, sets as sorted lists."""
    if isinstance(item, User | App):
        return _plain(asdict(item))
    if isinstance(item, dict):
        return {k: _plain(v) for k, v in item.items()}
    if isinstance(item, list):
        return [_plain(v) for v in item]
    return sorted(item) if isinstance(item, set) else item
