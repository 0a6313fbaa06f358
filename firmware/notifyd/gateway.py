"""The gateway as the API sees it: the service, the mail, the event log and the network behind one face."""

from __future__ import annotations

import asyncio
from calendar import timegm
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from notifyd.adapters.clock import now
from notifyd.adapters.eventlog import EventLog
from notifyd.api.access import Caller
from notifyd.api.status import Figure
from notifyd.api.wire import ApiProblem
from notifyd.applying import Applying, etag_of
from notifyd.certificates import Certificates
from notifyd.consumers import Consumers
from notifyd.core import events as facts
from notifyd.core.agent import AgentStatus
from notifyd.core.clouds import Cloud
from notifyd.core.eventlog import Record
from notifyd.core.events import Failure, OAuthError
from notifyd.core.problems import entra_problem
from notifyd.core.redirect import redirect_uris
from notifyd.core.settings import Auth, Settings
from notifyd.desk import MailDesk
from notifyd.service import Service
from notifyd.signins import Ending, wait_for_end

if TYPE_CHECKING:
    from notifyd.network import Network

HEARTBEAT_S = 60.0
REFRESH_WAIT_S = 75.0  # an operation at Microsoft is ended after 60 s; its answer and the probe come after
LOOK_AGAIN = "Open the gateway's page and choose Get New Token again."


class LiveGateway:
    """Implements `notifyd.ports.Gateway`."""

    def __init__(self, service: Service, desk: MailDesk, network: Network, consumers: Consumers) -> None:
        self._service = service
        self._desk = desk
        self._network = network
        self._applying = Applying(service)
        self._certificates = Certificates(service, self._applying.lock)
        self.followers = 0
        self.consumers = consumers

    @property
    def events(self) -> EventLog:
        return self._service.parts.events

    # ---- status and settings ----------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        status = self._service.agent.status(now())
        stored = self._service.stored
        expires = stored.settings.secret_expires_on if stored else None
        return {
            "state": status.state.value,
            "can_send": status.can_send and self._desk.flowing,
            "account": status.account,
            "access_expires_at": status.access_expires_at,
            "refresh_due_at": status.refresh_due_at,
            "grant_age_s": status.grant_age_s,
            "secret_expires_on": expires.isoformat() if expires else None,
            "problem": self._problem(status),
            "pending": status.pending,
            "queue": self._desk.figures(),
            "generation": status.generation,
        }

    def _problem(self, status: AgentStatus) -> Mapping[str, object] | None:
        """The agent's; or what holds mail although the agent sees no obstacle."""
        if status.problem is not None:
            return status.problem.as_json()
        return self._desk.problem if status.can_send and not self._desk.flowing else None

    def settings(self) -> tuple[dict[str, Any], str]:
        stored = self._service.stored
        clouds = self._service.parts.clouds
        view = _plain(stored.settings) if stored else _defaults(clouds)
        view["client_secret"] = {"set": self._service.secret_known("client_secret")}
        view["password"] = {"set": self._service.secret_known("password")}
        view["clouds"] = [
            {"name": cloud.name, "title": cloud.title, "smtp_host": cloud.smtp_host, "smtp_port": cloud.smtp_port}
            for cloud in clouds.values()
        ]
        view["applied"] = stored is not None
        return view, etag_of(stored)

    async def apply(self, body: Mapping[str, Any], if_match: str, caller: Caller) -> None:
        await self._applying.apply(body, if_match, caller)

    def certificates(self) -> list[dict[str, Any]]:
        return self._certificates.shown()

    async def make_certificate(self, caller: Caller) -> dict[str, Any]:
        return await self._certificates.make((*self._network.names, "gateway")[0], caller)

    def redirect_uris(self) -> list[str]:
        return redirect_uris(self._network.names, self._network.addresses, self._network.https_port)

    # ---- the token --------------------------------------------------------------------------------------------------

    async def authorize(self, redirect_uri: str, caller: Caller) -> dict[str, Any]:
        service = self._service
        stored = service.stored
        if stored is None:
            raise ApiProblem(409, "not-applied", "Fill in the settings and choose Apply first; then get a token.")
        if stored.settings.auth is not Auth.OAUTH2:
            raise ApiProblem(
                409, "no-token-needed", "The applied authentication method needs no token: choose Microsoft OAuth 2.0."
            )
        uri = self._redirect_uri(redirect_uri)
        if service.signins.full:
            raise ApiProblem(503, "busy", "Too many sign-ins are open: finish one, or wait ten minutes.")
        generation = service.agent.status(now()).generation
        begun = await service.begin_signin(uri)
        if isinstance(begun, Failure):
            problem = entra_problem(begun, now().wall)
            raise ApiProblem(
                503 if problem.transient else 422,
                "signin-unavailable",
                f"The sign-in could not be started: {problem.title}. {problem.remedy}",
                extra={"problem": problem.as_json()},
            )
        if service.stored is not stored:
            raise ApiProblem(409, "changed-meanwhile", "The settings were changed meanwhile: try again.")
        expires_at = now().wall + facts.SIGNIN_DEADLINE_S
        service.signins.add(begun)
        service.post(
            facts.SigninStarted(begun.signin_id, generation),
            "signin.started",
            user=caller.user or "local",
            remote=caller.remote or None,
        )
        return {"authorize_url": begun.authorize_url, "expires_at": expires_at}

    def _redirect_uri(self, wanted: str) -> str:
        known = self.redirect_uris()
        if not known:
            raise ApiProblem(503, "no-lan", "The gateway has no LAN address or name that a browser could come back to.")
        if wanted and wanted not in known:
            raise ApiProblem(
                422,
                "invalid",
                "This is not a redirect URI of this gateway.",
                errors=[("/redirect_uri", "must be one of /api/v1/redirect-uris")],
            )
        return wanted or known[0]

    async def refresh(self, force: bool) -> None:
        service = self._service
        service.post(facts.RefreshRequested("admin", force))
        with suppress(TimeoutError):
            async with asyncio.timeout(REFRESH_WAIT_S):
                await service.settled()

    def forget(self, caller: Caller) -> None:
        self._service.post(
            facts.GrantForgotten(), "token.forgotten", user=caller.user or "local", remote=caller.remote or None
        )

    async def signin_answered(self, params: Mapping[str, str], server_addr: str, remote: str) -> dict[str, Any]:
        service, state = self._service, params["state"]
        signin = service.signins.find(state)
        if signin is None or signin.answered:
            reason = "used" if signin is not None else service.signins.why_over(state)
            self.events.emit("signin.refused", reason=reason or "unknown state", remote=remote or None)
            return _refused(reason)
        signin.params = params
        signin.ended = asyncio.get_running_loop().create_future()
        ended = signin.ended
        error = None
        if "error" in params:
            error = OAuthError(
                params["error"],
                params.get("error_description", ""),
                params.get("error_subcode", ""),
                params.get("suberror", ""),
                params.get("claims", ""),
            )
        service.post(facts.SigninAnswered(state, error is None, error))
        ending = await wait_for_end(ended)
        return _callback_answer(ending, service.agent.status(now()).account)

    # ---- mail -------------------------------------------------------------------------------------------------------

    async def accept_mail(
        self, mail: Mapping[str, Any] | bytes, caller: Caller, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        return await self._desk.accept(mail, caller, options)

    def list_mail(self, state: str | None, limit: int) -> dict[str, Any]:
        return self._desk.list(state, limit)

    def get_mail(self, mail_id: str) -> dict[str, Any]:
        return self._desk.get(mail_id)

    def delete_mail(self, mail_id: str, caller: Caller) -> None:
        self._desk.delete(mail_id, caller)

    def retry_mail(self, mail_id: str, caller: Caller) -> dict[str, Any]:
        return self._desk.retry(mail_id, caller)

    def hold_mail(self, held: bool, caller: Caller) -> None:
        self._desk.pause(held)

    # ---- support ----------------------------------------------------------------------------------------------------

    async def diagnose(self, caller: Caller) -> dict[str, Any]:
        from notifyd import diagnosis

        found = await diagnosis.run(self._service, self._network)
        first_bad = next((step["step"] for step in found["steps"] if step["verdict"] == "failed"), "good")
        self.events.emit(
            "service.diagnosed", user=caller.user or "local", remote=caller.remote or None, verdict=first_bad
        )
        return found

    async def support_bundle(self, caller: Caller) -> bytes:
        from notifyd import bundle

        self.events.emit("service.bundle_made", user=caller.user or "local", remote=caller.remote or None)
        return bundle.make(self, self._desk.list(None, 1000))

    def metrics(self) -> dict[str, Figure]:
        figures = self._desk.metrics()
        counters = self._service.parts.store.counters()
        for name, value in counters.items():
            figures[f"notifyd_{name}_total"] = ("counter", name.replace("_", " "), "", value)
        figures |= self.consumers.metrics()
        figures["notifyd_events_total"] = ("counter", "events since the start", "level", self.events.emitted)
        expires = self._service.stored.settings.secret_expires_on if self._service.stored else None
        if expires is not None:
            wall = float(timegm(expires.timetuple()))
            figures["notifyd_secret_expires_timestamp_seconds"] = ("gauge", "end of the client secret", "", wall)
        figures["notifyd_event_last_id"] = ("counter", "id of the newest event", "", self.events.last_id)
        return figures

    async def follow(self, after: int | None) -> AsyncIterator[Record | None]:
        self.followers += 1
        try:
            async with aclosing(_with_heartbeats(self.events.subscribe(after=after))) as records:
                async for record in records:
                    yield record
        finally:
            self.followers -= 1


async def _with_heartbeats(records: AsyncIterator[Record]) -> AsyncGenerator[Record | None]:
    waiting = asyncio.ensure_future(_next(records))
    try:
        while True:
            done, _ = await asyncio.wait({waiting}, timeout=HEARTBEAT_S)
            if not done:
                yield None
                continue
            record = waiting.result()
            if record is None:
                return
            waiting = asyncio.ensure_future(_next(records))
            yield record
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def _next(records: AsyncIterator[Record]) -> Record | None:
    return await anext(records, None)


def _plain(settings: Settings) -> dict[str, Any]:
    view = {field.name: getattr(settings, field.name) for field in fields(settings)}
    view["security"], view["auth"] = settings.security.value, settings.auth.value
    expires = settings.secret_expires_on
    view["secret_expires_on"] = expires.isoformat() if expires else None
    return view


def _defaults(clouds: Mapping[str, Cloud]) -> dict[str, Any]:
    """What the page begins with."""
    cloud = clouds.get("public") or next(iter(clouds.values()))
    return {
        "server": cloud.smtp_host,
        "port": cloud.smtp_port,
        "security": "starttls",
        "auth": "oauth2",
        "cloud": cloud.name,
        "sender": "",
        "client_id": "",
        "tenant_id": "",
        "username": "",
        "secret_expires_on": None,
    }


def _refused(reason: str) -> dict[str, Any]:
    """What the tab is told when its `state` belongs to no open sign-in; nothing has changed."""
    if reason == "used":
        title, detail, code = "This sign-in has been answered already", "Its answer came before.", "signin.used"
    elif reason:
        title, detail, code = (
            "This sign-in is over",
            "It took too long, or another one was finished first.",
            "signin.over",
        )
    else:
        title = "This gateway began no such sign-in"
        detail, code = "It may have been restarted meanwhile. Nothing was changed.", "signin.unknown-state"
    return {"status": 403, "ok": False, "title": title, "detail": detail, "remedy": LOOK_AGAIN, "code": code}


def _callback_answer(ending: Ending | None, account: str | None) -> dict[str, Any]:
    if ending is None:
        return {
            "status": 504,
            "ok": False,
            "title": "The gateway is still working on it",
            "detail": "Microsoft or the mail server has not answered yet.",
            "remedy": "Look at Token Status on the gateway's page; if it stays as it was, choose Get New Token again.",
            "code": "signin.timeout",
        }
    problem = ending.problem
    if ending.ok:
        detail = (
            f"Signed in as {account}. The token is stored and renews itself." if account else "The token is stored."
        )
        if problem is not None:
            detail += f" But mail cannot be sent yet: {problem.title}"
        remedy, code = (problem.remedy, problem.code) if problem is not None else ("", "")
        return {"status": 200, "ok": True, "title": "Signed in", "detail": detail, "remedy": remedy, "code": code}
    if problem is None:
        return _refused("over")
    # A sign-in is over when it fails: unlike a renewal, it does not try again by itself.
    remedy = f"Wait a minute. {LOOK_AGAIN}" if problem.transient else problem.remedy
    return {
        "status": 503 if problem.transient else 422,
        "ok": False,
        "title": problem.title,
        "detail": problem.detail,
        "remedy": remedy,
        "code": problem.code,
    }
