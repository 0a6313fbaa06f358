"""The token endpoint's decisions: what a code, a refresh token or an application's own credential is worth."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import deque
from collections.abc import Mapping
from typing import Any

from qemu.m365.credentials import client_of
from qemu.m365.directory import CODE_SECONDS, EXCHANGE, INACTIVITY_SECONDS, SPA_SECONDS, App, Code, RefreshToken, User
from qemu.m365.orders import Order
from qemu.m365.replies import OAuthFault, claims_challenge
from qemu.m365.scopes import Scopes, parse_scopes
from qemu.m365.tokens import b64
from qemu.m365.world import World

# Microsoft's loop detection: that many identical requests within that many seconds.
_LOOP_REQUESTS, _LOOP_SECONDS = 15, 300.0


class TokenEndpoint:
    """Answers token requests. All state is the world's."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._directory = world.directory

    def answer(self, tenant: str, form: Mapping[str, str], authorization: str, order: Order | None) -> dict[str, Any]:
        """The members of a good answer. Raises OAuthFault."""
        if not self._directory.knows_tenant(tenant):
            raise OAuthFault(90002, tenant=tenant)
        grant_type = form.get("grant_type", "")
        grants = {
            "authorization_code": self._by_code,
            "refresh_token": self._by_refresh_token,
            "client_credentials": self._by_client,
        }
        if not grant_type:
            raise OAuthFault(900144, parameter="grant_type")
        if grant_type not in grants:
            raise OAuthFault(70003, grant=grant_type)
        app = client_of(self._directory, form, authorization)
        self._detect_loop(app, form)
        return grants[grant_type](app, form, order)

    def _detect_loop(self, app: App, form: Mapping[str, str]) -> None:
        if not self._directory.policy.loop_detection:
            return
        now, same = self._world.clock.now(), f"{app.client_id} {form.get('grant_type')} {form.get('scope')}"
        times = self._directory.recent_requests.setdefault(same, deque())
        times.append(now)
        while times and times[0] <= now - _LOOP_SECONDS:
            times.popleft()
        if len(times) >= _LOOP_REQUESTS:
            raise OAuthFault(50196)

    # ---- authorization code ---------------------------------------------------------------------------------------

    def _by_code(self, app: App, form: Mapping[str, str], order: Order | None) -> dict[str, Any]:
        value = form.get("code", "")
        if not value:
            raise OAuthFault(900144, parameter="code")
        code = self._directory.codes.get(value)
        if code is None:
            raise OAuthFault(70000, "The provided value for the 'code' parameter is not valid.")
        self._check_code(app, code, form)
        code.redeemed = True
        scopes = parse_scopes(form.get("scope", "")) if form.get("scope") else parse_scopes(" ".join(code.scopes))
        self._check_policy(code.user, mfa=code.mfa)
        facts = {"app": app, "user": code.user, "scopes": code.scopes, "signed_in_at": self._world.clock.now()}
        facts |= {"session_id": code.session_id, "mfa": code.mfa, "spa": app.platform == "spa"}
        offline = "offline_access" in code.scopes
        refresh = self._directory.new_refresh_token(None, **facts) if offline else None
        return self._delegated(app, code.user, scopes, code.scopes, code.session_id, code.nonce, refresh, form, order)

    def _check_code(self, app: App, code: Code, form: Mapping[str, str]) -> None:
        if code.app is not app:
            raise OAuthFault(70000, "The code was issued to another application.")
        if code.redeemed:
            raise OAuthFault(54005)
        if self._world.clock.now() - code.issued_at > CODE_SECONDS:
            raise OAuthFault(70008)
        if form.get("redirect_uri") != code.redirect_uri:
            raise OAuthFault(70004)
        verifier = form.get("code_verifier", "")
        if code.challenge and b64(hashlib.sha256(verifier.encode()).digest()) != code.challenge:
            raise OAuthFault(501481)

    # ---- refresh token --------------------------------------------------------------------------------------------

    def _by_refresh_token(self, app: App, form: Mapping[str, str], order: Order | None) -> dict[str, Any]:
        value = form.get("refresh_token", "")
        if not value:
            raise OAuthFault(900144, parameter="refresh_token")
        token = self._directory.refresh_tokens.get(value)
        if token is None or token.app is not app:
            raise OAuthFault(70000, "Provided grant is invalid or malformed.", suberror="bad_token")
        self._check_refresh_token(token)
        asked = form.get("scope", "")
        scopes = parse_scopes(asked) if asked else parse_scopes(" ".join(token.scopes))
        if len(scopes.resources) > 1:
            raise OAuthFault(700022)
        self._check_policy(token.user, mfa=token.mfa)
        token.uses += 1
        fresh = self._directory.new_refresh_token(token)
        if self._directory.policy.one_time_refresh:
            token.revoked = 70000
        return self._delegated(app, token.user, scopes, token.scopes, token.session_id, "", fresh, form, order)

    def _check_refresh_token(self, token: RefreshToken) -> None:
        now, policy = self._world.clock.now(), self._directory.policy
        if token.revoked:
            raise OAuthFault(token.revoked)
        if token.spa and now - token.signed_in_at > SPA_SECONDS:
            raise OAuthFault(700084)
        if now - token.issued_at > INACTIVITY_SECONDS:
            raise OAuthFault(700082)
        if policy.sign_in_frequency is not None and now - token.signed_in_at > policy.sign_in_frequency:
            raise OAuthFault(70043)

    def _check_policy(self, user: User, *, mfa: bool) -> None:
        """Account and Conditional Access, as both grants meet them."""
        if self._directory.users.get(user.upn.lower()) is not user:
            raise OAuthFault(50034, user=user.upn)
        if not user.enabled:
            raise OAuthFault(50057)
        policy = self._directory.policy
        number = policy.block or (50076 if user.mfa_required and not mfa else 0)
        if number and not (mfa and number in (50072, 50074, 50076, 50078, 50079)):
            raise OAuthFault(number, claims=claims_challenge(number, policy.polids))

    # ---- application permission -----------------------------------------------------------------------------------

    def _by_client(self, app: App, form: Mapping[str, str], order: Order | None) -> dict[str, Any]:
        scope = form.get("scope", "")
        if not scope.endswith("/.default"):
            raise OAuthFault(70011, scope=scope or "(empty)")
        resource, _ = parse_scopes(scope).first_resource()
        seconds = self._world.issuer.lifetime()
        roles = sorted(app.app_roles) if resource == EXCHANGE else []
        token = self._world.issuer.access_token(app, None, resource, roles, seconds)
        return {"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token}

    # ---- the answer -----------------------------------------------------------------------------------------------

    def _delegated(
        self,
        app: App,
        user: User,
        scopes: Scopes,
        granted: tuple[str, ...],
        session_id: str,
        nonce: str,
        refresh: RefreshToken | None,
        form: Mapping[str, str],
        order: Order | None,
    ) -> dict[str, Any]:
        resource, permissions = scopes.first_resource()
        missing = {f"{resource}/{p}" for p in permissions} - app.consented(user)
        if missing:
            raise OAuthFault(65001, app=app.client_id, name=app.name)
        issuer, seconds = self._world.issuer, self._world.issuer.lifetime()
        audience = resource
        wrong: dict[str, Any] = {}
        if order is not None and order.what == "id-token":
            wrong = dict(order.params.get("claims", {}))
        if order is not None and order.what == "access-token":
            audience = order.text("aud", resource)
            seconds = int(order.number("expires_in", seconds))
        access = issuer.access_token(app, user, audience, list(permissions), seconds)
        answer: dict[str, Any] = {
            "token_type": "Bearer",
            "scope": " ".join(f"{resource}/{p}" for p in permissions),
            "expires_in": seconds,
            "ext_expires_in": seconds,
            "access_token": access,
        }
        if refresh is not None:
            answer["refresh_token"] = refresh.value
        if "openid" in granted:
            answer["id_token"] = issuer.id_token(app, user, nonce, session_id, wrong)
        if form.get("client_info") == "1":
            answer["client_info"] = client_info(user, self._directory.tenant_id)
        if order is not None and order.what == "refresh-in":
            answer["refresh_in"] = int(order.number("value", seconds // 2))
        return answer


def client_info(user: User, tenant_id: str) -> str:
    """The `client_info` member: who signed in, for the client's cache."""
    return b64(json.dumps({"uid": user.object_id, "utid": tenant_id}).encode())


def new_session_id() -> str:
    """A `session_state` / `sid` value."""
    return str(uuid.uuid4())
