"""The interactive half of the identity provider: authorize request, account, password, MFA, consent, redirect."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from qemu.m365.directory import App, Code, User
from qemu.m365.grants import client_info, new_session_id
from qemu.m365.replies import OAuthFault
from qemu.m365.scopes import parse_scopes
from qemu.m365.world import World

FLOW_SECONDS = 3600
_PROMPTS = ("", "login", "none", "consent", "select_account", "create")
_MODES = ("query", "form_post", "fragment")
_QUERY_LIMIT = 8192
# What Entra shows on its page instead of sending back, since the redirect URI cannot be trusted yet.
_VERIFIER_SIZES = range(43, 129)


@dataclass(frozen=True)
class Request:
    """A checked authorize request."""

    app: App
    redirect_uri: str
    response_mode: str
    state: str
    scopes: tuple[str, ...]
    nonce: str = ""
    challenge: str = ""
    prompt: str = ""
    login_hint: str = ""
    claims: str = ""
    client_info: bool = False
    admin_consent: bool = False


@dataclass
class Flow:
    """One browser tab on its way through the pages."""

    request: Request
    started_at: float
    id: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    user: User | None = None
    password_ok: bool = False
    mfa: bool = False


@dataclass(frozen=True)
class Page:
    """A page to show: template name and its values."""

    name: str
    values: dict[str, object]


@dataclass(frozen=True)
class SendBack:
    """The browser goes back to the application; `upn` is who signed in."""

    request: Request
    params: dict[str, str]
    upn: str | None = None

    def location(self) -> str:
        """The redirect of `query` and `fragment` mode; Entra ends a query redirect with an empty fragment."""
        uri, query = self.request.redirect_uri, urlencode(self.params)
        if self.request.response_mode == "fragment":
            return f"{uri}#{query}"
        return f"{uri}{'&' if urlsplit(uri).query else '?'}{query}#"


class FaultOnRedirect(Exception):
    """An error that the application hears of."""

    def __init__(self, request: Request, fault: OAuthFault) -> None:
        super().__init__(str(fault))
        self.request, self.fault = request, fault


class SignIn:
    """Walks browsers through the sign-in. Methods return a Page or a SendBack, or raise OAuthFault (shown here)."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._directory = world.directory
        self._flows: dict[str, Flow] = {}

    # ---- the request ----------------------------------------------------------------------------------------------

    def read_request(self, tenant: str, query: Mapping[str, str], length: int) -> Request:
        """Check an authorize request. Raises OAuthFault (own page) or FaultOnRedirect."""
        app, redirect_uri = self._application(tenant, query, length)
        mode = query.get("response_mode", "query")
        if mode not in _MODES:
            raise OAuthFault(70007, f"'{mode}' is not a supported value of 'response_mode'.")
        challenge = query.get("code_challenge", "")
        if challenge and len(challenge) not in _VERIFIER_SIZES:
            raise OAuthFault(501491)
        request = Request(
            app=app,
            redirect_uri=redirect_uri,
            response_mode=mode,
            state=query.get("state", ""),
            scopes=(),
            nonce=query.get("nonce", ""),
            challenge=challenge,
            prompt=query.get("prompt", ""),
            login_hint=query.get("login_hint", ""),
            claims=query.get("claims", ""),
            client_info=query.get("client_info") == "1",
        )
        try:
            return self._with_scopes(request, query)
        except OAuthFault as fault:
            raise FaultOnRedirect(request, fault) from None

    def _with_scopes(self, request: Request, query: Mapping[str, str]) -> Request:
        if query.get("response_type") != "code":
            raise OAuthFault(70005, "The application requested an unsupported response type.")
        if request.challenge and query.get("code_challenge_method", "plain") != "S256":
            raise OAuthFault(9002313, reason="Only code_challenge_method S256 is supported here")
        if request.prompt not in _PROMPTS:
            raise OAuthFault(90023, "Unsupported 'prompt' value.")
        scopes = parse_scopes(query.get("scope", "")).full()
        if not scopes:
            raise OAuthFault(900144, parameter="scope")
        return Request(**{**request.__dict__, "scopes": scopes})

    def _application(self, tenant: str, query: Mapping[str, str], length: int) -> tuple[App, str]:
        if length > _QUERY_LIMIT:
            raise OAuthFault(90015)
        app = self._registered(tenant, query.get("client_id", ""))
        redirect_uri = query.get("redirect_uri", "")
        if not app.redirect_uris:
            raise OAuthFault(500113)
        if not redirect_uri:
            raise OAuthFault(900971)
        if not any(_same_uri(redirect_uri, registered) for registered in app.redirect_uris):
            raise OAuthFault(50011, uri=redirect_uri, app=app.client_id)
        return app, redirect_uri

    def _registered(self, tenant: str, client_id: str) -> App:
        if tenant.lower() in ("common", "organizations", "consumers"):
            raise OAuthFault(50194, app=client_id)
        if not self._directory.knows_tenant(tenant):
            raise OAuthFault(90002, tenant=tenant)
        if not client_id:
            raise OAuthFault(900144, parameter="client_id")
        app = self._directory.apps.get(client_id.lower())
        if app is None:
            raise OAuthFault(700016, app=client_id)
        if not app.enabled:
            raise OAuthFault(7000112, app=client_id, name=app.name)
        return app

    def read_admin_consent(self, tenant: str, query: Mapping[str, str], length: int) -> Request:
        """Check a request to the admin-consent page. Raises OAuthFault."""
        app, redirect_uri = self._application(tenant, query, length)
        scopes = parse_scopes(query.get("scope", "")).full()
        return Request(app, redirect_uri, "query", query.get("state", ""), scopes, prompt="login", admin_consent=True)

    # ---- the pages ------------------------------------------------------------------------------------------------

    def start(self, request: Request, known: list[str]) -> Page | SendBack:
        """The first page for a browser whose session knows these sign-in names."""
        flow = Flow(request, self._world.clock.now())
        self._flows = {k: f for k, f in self._flows.items() if f.started_at > flow.started_at - FLOW_SECONDS}
        self._flows[flow.id] = flow
        hinted = self._directory.user(request.login_hint) if request.login_hint else None
        if request.prompt == "none":
            return self._silent(flow, known)
        if request.prompt == "login" and hinted is not None:
            return self._password_page(flow, hinted)
        if request.prompt in ("", "consent") and len(known) == 1 and hinted in (None, self._directory.user(known[0])):
            user = self._directory.user(known[0])
            if user is not None:
                flow.user, flow.password_ok = user, True
                return self._after_password(flow)
        if request.prompt == "" and hinted is not None and not known:
            return self._password_page(flow, hinted)
        return self._chooser(flow, known)

    def _silent(self, flow: Flow, known: list[str]) -> SendBack:
        user = self._directory.user(known[0]) if known else None
        if user is None:
            raise FaultOnRedirect(flow.request, OAuthFault(50058))
        if set(flow.request.scopes) - flow.request.app.consented(user):
            raise FaultOnRedirect(flow.request, OAuthFault(65001))
        flow.user = user
        return self._finish(flow)

    def _chooser(self, flow: Flow, known: list[str]) -> Page:
        shown = [u for u in self._directory.users.values() if u.kind != "shared"]
        hint = flow.request.login_hint.strip().lower()
        shown.sort(key=lambda u: (u.upn.lower() != hint, u.upn.lower() not in known))
        accounts = [
            {"upn": u.upn, "name": u.name, "hinted": u.upn.lower() == hint, "signed_in": u.upn.lower() in known}
            for u in shown
        ]
        return Page("account.html", {"flow": flow, "accounts": accounts, "email": flow.request.login_hint})

    def _password_page(self, flow: Flow, user: User, error: str = "") -> Page:
        flow.user = user
        return Page("password.html", {"flow": flow, "user": user, "error": error})

    def step(self, flow_id: str, form: Mapping[str, str], known: list[str]) -> Page | SendBack:
        """A page was submitted. Raises OAuthFault or FaultOnRedirect."""
        flow = self._flows.get(flow_id)
        if flow is None or self._world.clock.now() - flow.started_at > FLOW_SECONDS:
            raise OAuthFault(50089)
        steps = {"account": self._account, "password": self._password, "mfa": self._mfa, "consent": self._consent}
        step = form.get("step", "")
        if step not in steps:
            raise OAuthFault(90023)
        return steps[step](flow, form, known)

    def _account(self, flow: Flow, form: Mapping[str, str], known: list[str]) -> Page | SendBack:
        name = form.get("account") or form.get("loginfmt", "")
        if form.get("action") == "other" or not name.strip():
            return Page("email.html", {"flow": flow, "error": "", "email": ""})
        user = self._directory.user(name)
        if user is None:
            text = "We couldn't find an account with that username."
            return Page("email.html", {"flow": flow, "error": text, "email": name})
        if user.upn.lower() in known and flow.request.prompt != "login":
            flow.user, flow.password_ok = user, True
            return self._after_password(flow)
        return self._password_page(flow, user)

    def _password(self, flow: Flow, form: Mapping[str, str], known: list[str]) -> Page | SendBack:
        user = flow.user
        if user is None or form.get("action") == "back":
            return self._chooser(flow, known)
        if not hmac.compare_digest(form.get("passwd", "").encode(), user.password.encode()):
            return self._password_page(flow, user, "Your account or password is incorrect. (AADSTS50126)")
        flow.password_ok = True
        return self._after_password(flow)

    def _after_password(self, flow: Flow) -> Page | SendBack:
        self._admit(flow)
        user = flow.user
        if user is not None and not flow.mfa and (user.mfa_required or flow.request.claims):
            return Page("mfa.html", {"flow": flow, "user": user})
        return self._consent_or_finish(flow)

    def _mfa(self, flow: Flow, form: Mapping[str, str], known: list[str]) -> Page | SendBack:
        if not flow.password_ok:
            raise OAuthFault(50058)
        if form.get("action") != "approve":
            raise OAuthFault(500121)
        flow.mfa = True
        return self._consent_or_finish(flow)

    def _admit(self, flow: Flow) -> None:
        """Whether this account may use this application at all; refusals stay on Microsoft's page."""
        user, app = flow.user, flow.request.app
        if user is None:
            raise OAuthFault(50058)
        if user.kind == "foreign":
            raise OAuthFault(50020, user=user.upn, app=app.client_id, name=app.name)
        if user.kind == "personal":
            raise OAuthFault(500208)
        if not user.enabled or user.kind == "shared":
            raise OAuthFault(50057)
        if app.assignment_required and user.upn.lower() not in app.assigned:
            raise OAuthFault(50105, user=user.upn, app=app.client_id, name=app.name)
        policy = self._directory.policy
        if policy.block and policy.block_sign_in:
            raise OAuthFault(policy.block)

    def _consent_or_finish(self, flow: Flow) -> Page | SendBack:
        user, request = flow.user, flow.request
        if user is None:
            raise OAuthFault(50058)
        is_admin = "Global Administrator" in user.roles
        if request.admin_consent and not is_admin:
            raise OAuthFault(90094, "Only an administrator can consent for the whole organization.")
        missing = [s for s in request.scopes if s not in request.app.consented(user)]
        if not (missing or request.admin_consent or request.prompt == "consent"):
            return self._finish(flow)
        if missing and not request.app.user_consent_allowed and not is_admin:
            raise OAuthFault(90094)
        wanted = [_CONSENT_WORDS.get(s, (s, "")) for s in request.scopes if s not in ("openid", "email")]
        values = {"flow": flow, "user": user, "app": request.app, "wanted": wanted, "is_admin": is_admin}
        return Page("consent.html", {**values, "for_all": request.admin_consent})

    def _consent(self, flow: Flow, form: Mapping[str, str], known: list[str]) -> Page | SendBack:
        user, request = flow.user, flow.request
        if user is None or not flow.password_ok:
            raise OAuthFault(50058)
        if form.get("action") != "accept":
            raise FaultOnRedirect(request, OAuthFault(65004))
        is_admin = "Global Administrator" in user.roles
        if request.admin_consent or (is_admin and form.get("for_all") == "on"):
            request.app.admin_consent |= set(request.scopes)
        else:
            request.app.consents.setdefault(user.object_id, set()).update(request.scopes)
        return self._finish(flow)

    def _finish(self, flow: Flow) -> SendBack:
        user, request = flow.user, flow.request
        if user is None:
            raise OAuthFault(50058)
        self._flows.pop(flow.id, None)
        if request.admin_consent:
            params = {"admin_consent": "True", "tenant": self._directory.tenant_id, "scope": " ".join(request.scopes)}
            return SendBack(request, {**params, "state": request.state} if request.state else params, user.upn)
        session_id = new_session_id()
        code = Code(
            request.app,
            user,
            request.scopes,
            request.redirect_uri,
            request.nonce,
            request.challenge,
            self._world.clock.now(),
            session_id,
            mfa=flow.mfa,
        )
        params = {"code": self._directory.new_code(code)}
        if request.client_info:
            params["client_info"] = client_info(user, self._directory.tenant_id)
        if request.state:
            params["state"] = request.state
        return SendBack(request, {**params, "session_state": session_id}, user.upn)

    def signed_in(self, flow_id: str) -> str | None:
        """The sign-in name a flow has proved by password, None before."""
        flow = self._flows.get(flow_id)
        return flow.user.upn.lower() if flow is not None and flow.user is not None and flow.password_ok else None


def _same_uri(given: str, registered: str) -> bool:
    """Exact comparison; only for `localhost` is the port ignored."""
    if given == registered:
        return True
    one, other = urlsplit(given), urlsplit(registered)
    local = one.hostname == other.hostname == "localhost"
    return local and (one.scheme, one.path, one.query) == (other.scheme, other.path, other.query)


_CONSENT_WORDS = {
    "https://outlook.office.com/SMTP.Send": (
        "Send emails from your mailbox using SMTP AUTH",
        "Allows the app to send emails from your mailbox using the SMTP AUTH client submission protocol.",
    ),
    "offline_access": (
        "Maintain access to data you have given it access to",
        "Allows the app to see and update the data you gave it access to, even when you are not currently using it.",
    ),
    "profile": ("View your basic profile", "Allows the app to see your basic profile (name, picture, user name)."),
}
