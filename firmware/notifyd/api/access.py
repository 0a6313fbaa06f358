"""Who is calling: a local peer admitted by the socket's permissions, or an administrator behind the web server.

lighttpd sets `X-Notifyd-Via` on everything it forwards (and overwrites what a client put there), so its presence means
"from the network": such a call needs a session cookie or a Basic login, and a state-changing one must come from our own
page. Sessions live in memory only, under the SHA-256 of their id: a restart signs everyone out.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from notifyd.api.routing import Access, Operation
from notifyd.api.wire import ApiProblem, Peer, Request
from notifyd.core.secret import Secret

VIA = "x-notifyd-via"
COOKIE = "__Host-notifyd"
MAX_SESSIONS = 32
SESSION_IDLE_S = 30 * 60.0
SESSION_ABSOLUTE_S = 12 * 3600.0
BASIC_REMEMBERED_S = 60.0  # a scraper's every call would otherwise be a PAM conversation
MAX_BASIC_REMEMBERED = 16
MAX_SOURCES = 256
FREE_ATTEMPTS = 5  # wrong passwords per source before it has to wait; the account's lock-out is PAM's business
SOURCE_DELAY_S = 5.0  # doubled by each further wrong one
SOURCE_DELAY_MAX_S = 300.0
LOGINS_AT_ONCE = 2


class Verdict(Protocol):
    """What PAM said (adapters/pam.py)."""

    @property
    def ok(self) -> bool: ...
    @property
    def locked(self) -> bool: ...
    @property
    def message(self) -> str: ...


PasswordCheck = Callable[[str, Secret, str], Awaitable[Verdict]]
LoginReport = Callable[[str, str, str], None]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: `user` is empty for a local peer; `session` is the stored key of the web session, if there is one."""

    peer: Peer
    via_web: bool = False
    user: str = ""
    remote: str = ""
    session: str = ""


@dataclass(slots=True)
class _Session:
    user: str
    began: float
    used: float


@dataclass(slots=True)
class _Source:
    failures: int = 0
    free_at: float = 0.0


def remote_of(request: Request) -> str:
    """The client's address: the last entry of X-Forwarded-For is the one that our own web server wrote."""
    return request.header("x-forwarded-for").rpartition(",")[2].strip()[:64]


class Sessions:
    """Web sessions: random 256-bit ids, bounded in number, with an idle and an absolute end."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._by_key: OrderedDict[str, _Session] = OrderedDict()

    def begin(self, user: str) -> str:
        """A new session's id, for the cookie; the one unused longest makes room when there are too many."""
        self._expire()
        while len(self._by_key) >= MAX_SESSIONS:
            self._by_key.popitem(last=False)
        session_id = secrets.token_urlsafe(32)
        now = self._clock()
        self._by_key[_key(session_id)] = _Session(user, now, now)
        return session_id

    def find(self, session_id: str) -> tuple[str, str] | None:
        """(key, user) of a live session, and marks it used."""
        self._expire()
        key = _key(session_id)
        session = self._by_key.get(key)
        if session is None:
            return None
        session.used = self._clock()
        self._by_key.move_to_end(key)
        return key, session.user

    def end(self, key: str) -> None:
        """Ends a session; unknown keys are no error."""
        self._by_key.pop(key, None)

    def alive(self, key: str) -> bool:
        """Whether the session still lives; looking does not prolong it."""
        self._expire()
        return key in self._by_key

    def _expire(self) -> None:
        now = self._clock()
        for key, session in list(self._by_key.items()):
            if now - session.used > SESSION_IDLE_S or now - session.began > SESSION_ABSOLUTE_S:
                del self._by_key[key]


class Gatekeeper:
    """Decides about each call; raises ApiProblem 401, 403, 415 or 429."""

    def __init__(
        self, check_password: PasswordCheck | None, report: LoginReport, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.sessions = Sessions(clock)
        self._check_password = check_password
        self._report = report
        self._clock = clock
        self._sources: OrderedDict[str, _Source] = OrderedDict()
        self._basic: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._basic_key = secrets.token_bytes(32)
        self._logins = asyncio.Semaphore(LOGINS_AT_ONCE)

    def accept_head(self, operation: Operation, request: Request) -> None:
        """What can be refused before the body is read."""
        if VIA in request.headers:
            if operation.changes:
                _refuse_cross_site(request)
            if operation.access is Access.SESSION and not self._has_credentials(request):
                raise login_required(request)
        _refuse_media_type(operation, request)

    async def caller(self, operation: Operation, request: Request) -> Caller:
        """Who calls; for an operation that needs a login, only someone who has one."""
        if VIA not in request.headers:
            return Caller(request.peer)
        remote = remote_of(request)
        session = self.sessions.find(cookie(request))
        if session is not None:
            return Caller(request.peer, True, session[1], remote, session[0])
        if operation.access is Access.ANYONE:
            return Caller(request.peer, True, "", remote)
        if not request.header("authorization").lower().startswith("basic "):
            raise login_required(request)
        return Caller(request.peer, True, await self._basic_login(request, remote), remote)

    async def log_in(self, user: str, password: Secret, remote: str) -> str:
        """A new session's id; raises ApiProblem 401 for a wrong login, 429 while the source or account is locked."""
        await self._verify(user, password, remote)
        self._report("auth.login", user, remote)
        return self.sessions.begin(user)

    def _has_credentials(self, request: Request) -> bool:
        found = self.sessions.find(cookie(request)) is not None
        return found or request.header("authorization").lower().startswith("basic ")

    async def _basic_login(self, request: Request, remote: str) -> str:
        text = request.header("authorization")[6:].strip()
        mark = hmac.digest(self._basic_key, text.encode("latin-1"), "sha256")
        known = self._basic.get(mark)
        if known is not None and self._clock() - known[1] < BASIC_REMEMBERED_S:
            return known[0]
        try:
            user, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            user, colon, password = "", "", ""
        if not colon:
            raise login_required(request)
        await self._verify(user, Secret(password), remote)
        while len(self._basic) >= MAX_BASIC_REMEMBERED:
            self._basic.popitem(last=False)
        self._basic[mark] = (user, self._clock())
        return user

    async def _verify(self, user: str, password: Secret, remote: str) -> None:
        source = self._source(remote)
        wait = source.free_at - self._clock()
        if wait > 0:
            raise _slow_down(wait)
        if self._check_password is None:
            raise ApiProblem(503, "login-unavailable", "Logins cannot be checked on this device.")
        async with self._logins:
            verdict = await self._check_password(user, password, remote)
        if verdict.ok:
            self._sources.pop(remote, None)
            return
        source.failures += 1
        if source.failures >= FREE_ATTEMPTS:
            delay = min(SOURCE_DELAY_S * 2 ** min(source.failures - FREE_ATTEMPTS, 16), SOURCE_DELAY_MAX_S)
            source.free_at = self._clock() + delay
        self._report("auth.locked" if verdict.locked else "auth.login_failed", user, remote)
        if verdict.locked:
            raise ApiProblem(
                429, "locked", verdict.message or "Too many wrong logins: this account is locked for a while."
            )
        raise ApiProblem(401, "login-failed", "The user name or the password is wrong.", headers=_SESSION_SCHEME)

    def _source(self, remote: str) -> _Source:
        source = self._sources.setdefault(remote, _Source())
        self._sources.move_to_end(remote)
        while len(self._sources) > MAX_SOURCES:
            self._sources.popitem(last=False)
        return source


# RFC 9110 §11.6.1 wants a challenge with every 401; a scheme that no browser knows opens no login box over the page.
_SESSION_SCHEME = (("www-authenticate", 'Session realm="notifyd"'),)
_BASIC_SCHEME = (("www-authenticate", 'Basic realm="notifyd", charset="UTF-8"'),)


def login_required(request: Request) -> ApiProblem:
    """401 with the challenge that suits the client: browsers say where they come from, programs do not."""
    browser = "sec-fetch-site" in request.headers or "origin" in request.headers
    return ApiProblem(401, "login-required", "Log in first.", headers=_SESSION_SCHEME if browser else _BASIC_SCHEME)


def cookie(request: Request) -> str:
    """The session id in the request's cookies; empty when there is none, or more than one."""
    found = [
        value.strip()
        for name, _, value in (part.partition("=") for part in request.header("cookie").split(";"))
        if name.strip() == COOKIE
    ]
    return found[0] if len(found) == 1 and len(found[0]) <= 64 else ""


def cookie_header(session_id: str) -> tuple[str, str]:
    """Sets the session cookie; an empty id removes it."""
    end = "" if session_id else "; Max-Age=0"
    return "set-cookie", f"{COOKIE}={session_id}; Path=/; Secure; HttpOnly; SameSite=Strict{end}"


def _key(session_id: str) -> str:
    return hashlib.sha256(session_id.encode()).hexdigest()


def _slow_down(wait: float) -> ApiProblem:
    seconds = int(wait) + 1
    return ApiProblem(
        429, "slow-down", f"Too many wrong logins from this address: wait {seconds} seconds.",
        headers=(("retry-after", str(seconds)),),
    )  # fmt: skip


def _refuse_cross_site(request: Request) -> None:
    """Fetch metadata first, Origin second; a client without both is no browser and must bring its own login."""
    site, origin = request.header("sec-fetch-site"), request.header("origin")
    if site and site != "same-origin":
        raise _cross_site()
    if origin:
        parts = urlsplit(origin)
        if parts.scheme != "https" or parts.netloc.lower() != request.header("host").lower():
            raise _cross_site()
    if not site and not origin and not request.header("authorization"):
        raise _cross_site()


def _cross_site() -> ApiProblem:
    return ApiProblem(403, "cross-site", "Changes are accepted from this gateway's own page only.")


def _refuse_media_type(operation: Operation, request: Request) -> None:
    length = request.header("content-length")
    if not operation.media_types or (length in ("", "0") and "transfer-encoding" not in request.headers):
        return
    if request.media_type not in operation.media_types:
        raise ApiProblem(
            415,
            "media-type",
            "The body must be " + " or ".join(operation.media_types) + ".",
            headers=(("accept", ", ".join(operation.media_types)),),
        )
