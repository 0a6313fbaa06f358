"""The identity provider's HTTP face: Entra's paths, on starlette."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from qemu.m365.aadsts import fault_for
from qemu.m365.grants import TokenEndpoint
from qemu.m365.misbehave import play
from qemu.m365.orders import Order
from qemu.m365.replies import NO_STORE, OAuthFault, Trace, claims_challenge, description, error_response
from qemu.m365.signin import FaultOnRedirect, Page, Request, SendBack, SignIn
from qemu.m365.world import World

SESSION_COOKIE = "ESTSAUTHPERSISTENT"
# Entra's pages carry it: `window.opener` of the application does not survive a visit here.
_PAGE_HEADERS = {
    **NO_STORE,
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "strict-origin-when-cross-origin",
}


class IdentityProvider:
    """Handlers of all paths. `app` is the ASGI application."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tokens = TokenEndpoint(world)
        self._signin = SignIn(world)
        loader = FileSystemLoader(Path(__file__).parent / "templates")
        self._pages = Environment(loader=loader, autoescape=select_autoescape())
        self.app = Starlette(
            routes=[
                Route("/common/discovery/instance", self.instance_discovery),
                Route("/{tenant}/v2.0/.well-known/openid-configuration", self.discovery),
                Route("/{tenant}/discovery/v2.0/keys", self.keys),
                Route("/{tenant}/oauth2/v2.0/authorize", self.authorize, methods=["GET", "POST"]),
                Route("/{tenant}/oauth2/v2.0/token", self.token, methods=["GET", "POST"]),
                Route("/{tenant}/v2.0/adminconsent", self.admin_consent),
                Route("/login", self.login, methods=["POST"]),
                Route("/error", self.look_up),
            ]
        )

    def _note(self, endpoint: str, request: HttpRequest, **facts: Any) -> dict[str, Any]:
        peer = request.client.host if request.client else ""
        return self._world.log.add(endpoint, self._world.clock.now(), peer=peer, **facts)

    def _trace(self, request: HttpRequest) -> Trace:
        return Trace.new(self._world.clock, request.headers.get("client-request-id", ""))

    # ---- discovery ------------------------------------------------------------------------------------------------

    async def instance_discovery(self, request: HttpRequest) -> Response:
        """Which hosts are one cloud."""
        self._note("instance", request)
        origin = self._world.issuer.origin
        host = origin.removeprefix("https://")
        tenant = f"{origin}/{self._world.directory.tenant_id}/v2.0/.well-known/openid-configuration"
        clouds = [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}]
        return JSONResponse({"tenant_discovery_endpoint": tenant, "api-version": "1.1", "metadata": clouds})

    async def discovery(self, request: HttpRequest) -> Response:
        """OpenID Connect discovery of one tenant."""
        tenant = request.path_params["tenant"]
        self._note("discovery", request, tenant=tenant)
        order = self._world.orders.take("discovery")

        async def answer() -> Response:
            if order is not None and order.what == "aadsts":
                return self._fault_answer(self._ordered_fault(order), request)
            if not self._world.directory.knows_tenant(tenant):
                return self._fault_answer(OAuthFault(90002, tenant=tenant), request)
            return JSONResponse(self._metadata())

        return await play(order, request, answer)

    def _metadata(self) -> dict[str, Any]:
        base = f"{self._world.issuer.origin}/{self._world.directory.tenant_id}"
        return {
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
            "jwks_uri": f"{base}/discovery/v2.0/keys",
            "response_modes_supported": ["query", "fragment", "form_post"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "issuer": self._world.issuer.issuer(),
            "request_uri_parameter_supported": False,
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "http_logout_supported": True,
            "frontchannel_logout_supported": True,
            "claims_supported": ["sub", "iss", "aud", "exp", "iat", "nonce", "preferred_username", "name", "tid"],
            "tenant_region_scope": "EU",
            "cloud_instance_name": "simulated",
        }

    async def keys(self, request: HttpRequest) -> Response:
        """The signing keys."""
        self._note("keys", request)

        async def answer() -> Response:
            return JSONResponse(self._world.keys.jwks(self._world.issuer.issuer()))

        return await play(self._world.orders.take("keys"), request, answer)

    # ---- token ----------------------------------------------------------------------------------------------------

    async def token(self, request: HttpRequest) -> Response:
        """The token endpoint."""
        if request.method != "POST":
            self._note("token", request, status=400, error_code=900561)
            return self._fault_answer(OAuthFault(900561), request)
        form = {k: v for k, v in (await request.form()).items() if isinstance(v, str)}
        grant_type = form.get("grant_type", "")
        entry = self._note("token", request, grant_type=grant_type, scope=form.get("scope", ""))
        order = self._world.orders.take("token", grant_type=grant_type)

        async def answer() -> Response:
            return self._token_answer(request, form, order, entry)

        response = await play(order, request, answer)
        entry["status"] = response.status_code
        return response

    def _token_answer(
        self, request: HttpRequest, form: dict[str, str], order: Order | None, entry: dict[str, Any]
    ) -> Response:
        try:
            if order is not None and order.what == "aadsts":
                raise self._ordered_fault(order)
            if "origin" in request.headers and ("client_secret" in form or "client_assertion" in form):
                raise OAuthFault(9002313, reason="Cross-origin token redemption is for single-page applications only")
            authorization = request.headers.get("authorization", "")
            members = self._tokens.answer(request.path_params["tenant"], form, authorization, order)
        except OAuthFault as fault:
            entry["error_code"] = fault.fault.number
            return self._fault_answer(fault, request)
        return JSONResponse(members, headers=NO_STORE)

    def _ordered_fault(self, order: Order) -> OAuthFault:
        number = int(order.number("code", 90033))
        about = dict(order.params.get("about", {}))
        claims = claims_challenge(number, self._world.directory.policy.polids)
        fault = OAuthFault(number, order.text("text"), claims=order.text("claims", claims), **about)
        fault.error = order.text("error", fault.error)
        fault.suberror = order.text("suberror", fault.suberror)
        fault.status = int(order.number("status", fault.status))
        fault.retry_after = order.number("retry_after", 0) or None
        return fault

    def _fault_answer(self, fault: OAuthFault, request: HttpRequest) -> Response:
        return error_response(fault, self._trace(request), self._world.issuer.origin)

    # ---- sign-in --------------------------------------------------------------------------------------------------

    async def authorize(self, request: HttpRequest) -> Response:
        """Begin an interactive sign-in."""
        query = dict(request.query_params)
        if request.method == "POST":
            query |= {k: v for k, v in (await request.form()).items() if isinstance(v, str)}
        self._note("authorize", request, prompt=query.get("prompt", ""), login_hint=query.get("login_hint", ""))
        order = self._world.orders.take("authorize", at="start")

        async def answer() -> Response:
            try:
                wanted = self._signin.read_request(request.path_params["tenant"], query, len(request.url.query))
                if order is not None and order.what == "aadsts":
                    self._play_fault(order, wanted)
                return self._show(self._signin.start(wanted, self._known(request)), order)
            except OAuthFault as fault:
                return self._error_page(fault, request)
            except FaultOnRedirect as fault:
                return self._send_error(fault, request)

        return await play(order, request, answer)

    def _play_fault(self, order: Order, wanted: Request) -> None:
        fault = self._ordered_fault(order)
        where = order.text("on", "redirect" if "r" in fault.fault.where else "page")
        if where == "redirect":
            raise FaultOnRedirect(wanted, fault)
        raise fault

    async def admin_consent(self, request: HttpRequest) -> Response:
        """Begin a consent for the whole organisation."""
        self._note("adminconsent", request)
        try:
            wanted = self._signin.read_admin_consent(
                request.path_params["tenant"], dict(request.query_params), len(request.url.query)
            )
            return self._show(self._signin.start(wanted, self._known(request)))
        except OAuthFault as fault:
            return self._error_page(fault, request)

    async def login(self, request: HttpRequest) -> Response:
        """A page of the sign-in was submitted."""
        form = {k: v for k, v in (await request.form()).items() if isinstance(v, str)}
        self._note("login", request, step=form.get("step", ""))
        flow_id = form.get("flow", "")
        order: Order | None = None
        try:
            result = self._signin.step(flow_id, form, self._known(request))
            if isinstance(result, SendBack):
                order = self._world.orders.take("authorize", at="end")
                if order is not None and order.what == "aadsts":
                    self._play_fault(order, result.request)
                return await self._finish(order, result, request)
            response = self._show(result)
        except OAuthFault as fault:
            response = self._error_page(fault, request)
        except FaultOnRedirect as fault:
            response = self._send_error(fault, request)
        self._remember(request, response, self._signin.signed_in(flow_id))
        return response

    async def _finish(self, order: Order | None, result: SendBack, request: HttpRequest) -> Response:
        async def answer() -> Response:
            return self._show(result, order)

        response = await play(order if order is not None and order.what != "members" else None, request, answer)
        self._remember(request, response, result.upn)
        return response

    def _known(self, request: HttpRequest) -> list[str]:
        return self._world.sessions.get(request.cookies.get(SESSION_COOKIE, ""), [])

    def _remember(self, request: HttpRequest, response: Response, upn: str | None) -> None:
        if upn is None:
            return
        upn = upn.lower()
        session = request.cookies.get(SESSION_COOKIE, "")
        if session not in self._world.sessions:
            session = secrets.token_urlsafe(24)
            self._world.sessions[session] = []
            response.set_cookie(SESSION_COOKIE, session, path="/", secure=True, httponly=True, samesite="none")
        names = self._world.sessions[session]
        self._world.sessions[session] = [upn, *(n for n in names if n != upn)]

    def _show(self, result: Page | SendBack, order: Order | None = None) -> Response:
        if isinstance(result, Page):
            return self._page(result.name, result.values)
        params = dict(result.params)
        if order is not None and order.what == "members":
            params |= order.params.get("set", {})
            for name in order.params.get("drop", []):
                params.pop(name, None)
        return self._send_back(SendBack(result.request, params))

    def _send_back(self, result: SendBack) -> Response:
        if result.request.response_mode == "form_post":
            values: dict[str, object] = {"action": result.request.redirect_uri, "params": result.params}
            return self._page("form_post.html", values)
        return RedirectResponse(result.location(), 302, _PAGE_HEADERS)

    def _send_error(self, fault: FaultOnRedirect, request: HttpRequest) -> Response:
        origin, number = self._world.issuer.origin, fault.fault.fault.number
        params = {"error": fault.fault.error, "error_description": description(fault.fault, self._trace(request))}
        if number == 65004:
            params["error_subcode"] = "cancel"
        params["error_uri"] = f"{origin}/error?code={number}"
        if fault.fault.suberror:
            params["suberror"] = fault.fault.suberror
        if fault.fault.claims:
            params["claims"] = fault.fault.claims
        if fault.request.state:
            params["state"] = fault.request.state
        return self._send_back(SendBack(fault.request, params))

    def _page(self, name: str, values: dict[str, object], status: int = 200) -> Response:
        return HTMLResponse(self._pages.get_template(name).render(values), status, _PAGE_HEADERS)

    def _error_page(self, fault: OAuthFault, request: HttpRequest) -> Response:
        values = {"number": fault.fault.number, "text": fault.text, "trace": self._trace(request)}
        return self._page("error.html", values, 400)

    async def look_up(self, request: HttpRequest) -> Response:
        """The look-up of one AADSTS number for people."""
        code = request.query_params.get("code", "")
        fault = fault_for(int(code)) if code.isdigit() and len(code) < 10 else fault_for(0)
        return self._error_page(OAuthFault(fault.number), request)
