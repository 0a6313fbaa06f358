"""What the worker can do, one function for each `op` of a request."""

from __future__ import annotations

import json
import secrets
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msal

from notifyd.adapters import sealing
from notifyd.adapters.devicekey import read_device_key
from notifyd.adapters.entra_worker import answers, credentials, grants, idtoken
from notifyd.adapters.entra_worker.faults import OperationFailed, malformed, store
from notifyd.adapters.entra_worker.http import TokenAnswer, Transport
from notifyd.core.events import Failure, FailureKind

Request = Mapping[str, Any]
Result = dict[str, Any]

SECRETS = sealing.Context("settings-secrets")
STATE_BYTES = 24
"""192 bits: a state can be neither guessed nor met twice."""

UNAUTHORIZED = 401
APP_RESOURCES = {"outlook.office.com": "outlook.office365.com"}
"""Where the application's own permission (SMTP.SendAsApp) lives, when that is not the host of the delegated scope."""


class Worker:
    """The operations of one request."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._http_cache: dict[str, Any] = {}
        self._transport = Transport(request.get("ca_file", ""), time.monotonic() + float(request["deadline_s"]))

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    # ---- Entra --------------------------------------------------------------------------------------------------

    def begin(self) -> Result:
        """Build the authorize URL and the flow that goes with it."""
        _name, credential = next(self._credentials())
        flow = self._call(
            self._app(credential).initiate_auth_code_flow,
            [self._request["scope"]],
            redirect_uri=self._request["redirect_uri"],
            state=secrets.token_urlsafe(STATE_BYTES),
            prompt="select_account",
            login_hint=self._request["login_hint"] or None,
            claims_challenge=self._request["claims"] or None,
            response_mode="form_post",
        )
        return {"state": flow["state"], "url": flow["auth_uri"], "flow": json.dumps(flow)}

    def redeem(self) -> Result:
        """Exchange the code for tokens."""
        params, flow = self._request["params"], json.loads(self._request["flow"])
        if "error" in params:
            raise OperationFailed(answers.front_channel_failure(params))
        name, tokens = self._redeem(flow, params)
        if "id_token" not in tokens.document:
            raise malformed("id_token_missing", "the answer holds no id_token, so nobody knows whose token it is")
        claims = idtoken.check(idtoken.read(tokens.document["id_token"]), self._expected(flow["nonce"], tokens))
        grant = grants.Grant(
            account=idtoken.account(claims),
            object_id=idtoken.object_id(claims),
            tenant_id=str(claims.get("tid", self._request["tenant_id"])),
            access_token=tokens.document["access_token"],
            refresh_token=tokens.document.get("refresh_token", ""),
            credential=name,
        )
        return self._granted(grant, tokens.document, claims)

    def refresh(self) -> Result:
        """Renew the grant: with its current refresh token, and with the one before when that is refused."""
        self._transport.hidden = frozenset({"id_token", "client_info"})
        grant = self._open_grant()
        name, used, tokens = self._renew(grant)
        self._same_account(grant, tokens.document.get("id_token"))
        document = tokens.document
        renewed = grant.renewed(used, document["access_token"], document.get("refresh_token", ""), name)
        return self._granted(renewed, document, {})

    def app_token(self) -> Result:
        """A token of the application itself (client credentials)."""
        scope = urlsplit(self._request["scope"])
        host = APP_RESOURCES.get(scope.netloc, scope.netloc)
        scopes = [f"{scope.scheme}://{host}/.default"]
        failures = []
        for name, credential in self._credentials():
            try:
                self._call(self._app(credential).acquire_token_for_client, scopes)
            except OperationFailed as refused:
                failures.append(refused)
                if not _client_refused(refused):
                    break
                continue
            document = self._tokens().document
            grant = grants.Grant(
                account=self._request["mailbox"],
                object_id="",
                tenant_id=self._request["tenant_id"],
                access_token=document["access_token"],
                credential=name,
            )
            return self._granted(grant, {"scope": scopes[0], **document}, {})
        raise _most_telling(failures)

    # ---- sealed secrets -----------------------------------------------------------------------------------------

    def seal(self) -> Result:
        """Seal the given secrets over those that are already stored."""
        return self._sealed_secrets({**self._secrets(), **self._request["given"]})

    def make_certificate(self) -> Result:
        """Add a certificate credential; its private key leaves only sealed."""
        made = credentials.make_certificate(self._request["name"], int(self._request["days"]), time.time())
        shown = {name: made[name] for name in ("certificate", "thumbprint", "not_after")}
        return shown | self._sealed_secrets(credentials.with_certificate(self._secrets(), made))

    def open_access_token(self) -> Result:
        """The stored access token."""
        return {"secret": self._open_grant().access_token}

    def open_password(self) -> Result:
        """The stored mail password."""
        password = self._secrets().get("password", "")
        if not password:
            raise store("no_password", "no password is stored")
        return {"secret": password}

    # ---- parts --------------------------------------------------------------------------------------------------

    def _redeem(self, flow: dict[str, Any], params: dict[str, str]) -> tuple[str, TokenAnswer]:
        failures = []
        for name, credential in self._credentials():
            app = self._app(credential)
            try:
                self._call(app.acquire_token_by_auth_code_flow, flow, params, scopes=[self._request["scope"]])
                return name, self._tokens()
            except OperationFailed as refused:
                failures.append(refused)
                if not _client_refused(refused):
                    break
        raise _most_telling(failures)

    def _renew(self, grant: grants.Grant) -> tuple[str, str, TokenAnswer]:
        if not grant.refresh_token:
            raise store("no_refresh_token", "the stored grant holds no refresh token")
        failures: list[tuple[str, OperationFailed]] = []
        for name, used, app in self._attempts(grant):
            if failures and _client_refused(failures[-1][1]) and failures[-1][0] == name:
                continue
            try:
                self._call(app.acquire_token_by_refresh_token, used, [self._request["scope"]])
                return name, used, self._tokens()
            except OperationFailed as refused:
                failures.append((name, refused))
                if not (_client_refused(refused) or refused.failure.error == "invalid_grant"):
                    break
        raise _most_telling([refused for _name, refused in failures])

    def _attempts(self, grant: grants.Grant) -> Iterator[tuple[str, str, Any]]:
        for name, credential in self._credentials(grant.credential):
            app = self._app(credential)
            for token in grant.candidates():
                yield name, token, app

    def _app(self, credential: Any) -> Any:
        """An application object that remembers nothing from before: MSAL keeps a refused answer for a minute."""
        return self._call(
            msal.ConfidentialClientApplication,
            self._request["client_id"],
            client_credential=credential,
            authority=self._request["authority"],
            instance_discovery=False,
            http_client=self._transport,
            http_cache=self._http_cache,
        )

    def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call MSAL; whatever it raises becomes a failure without MSAL's text, which may quote states and tokens."""
        try:
            return function(*args, **kwargs)
        except OperationFailed:
            raise
        except Exception as error:
            raise malformed("msal_" + type(error).__name__, "the answer or the settings do not make sense") from None

    def _tokens(self) -> TokenAnswer:
        if self._transport.tokens is None:
            raise malformed("no_answer", "no token request was answered")
        return self._transport.tokens

    def _credentials(self, preferred: str = "") -> Iterator[tuple[str, Any]]:
        only = self._request.get("only", "")
        return iter(credentials.candidates(self._secrets(), preferred, only).items())

    def _expected(self, nonce: str, tokens: TokenAnswer) -> idtoken.Expected:
        server_time = answers.http_date(tokens.headers.get("date"))
        return idtoken.Expected(
            client_id=self._request["client_id"],
            tenant_id=self._request["tenant_id"],
            issuers=(self._transport.issuer, self._request["authority"] + "/v2.0"),
            nonce=nonce,
            now=time.time() if server_time is None else server_time,
        )

    def _same_account(self, grant: grants.Grant, token: str | None) -> None:
        """A renewal must never turn into somebody else's token; an unreadable id_token says nothing either way."""
        if not token:
            return
        try:
            found = idtoken.object_id(idtoken.read(token))
        except OperationFailed:
            return
        if grant.object_id and found and found != grant.object_id:
            raise malformed("id_token_oid", "the renewed token belongs to another account")

    def _granted(self, grant: grants.Grant, document: Mapping[str, Any], claims: Mapping[str, Any]) -> Result:
        sealed = sealing.seal(self._key(), self._grant_context("generation"), grants.encode(grant))
        return {
            "account": grant.account,
            "object_id": grant.object_id,
            "tenant_id": grant.tenant_id,
            "scopes": str(document.get("scope", self._request["scope"])).split(),
            "expires_in": document["expires_in"],
            "refresh_in": document.get("refresh_in"),
            "claims": dict(claims),
            "has_refresh_token": bool(grant.refresh_token),
            "sealed": _text(sealed),
            "access_token": grant.access_token,
        }

    def _key(self) -> bytes:
        try:
            return read_device_key(Path(self._request["key"]))
        except (OSError, ValueError) as error:
            raise store("device_key", f"the device key cannot be read ({type(error).__name__})") from None

    def _grant_context(self, generation: str) -> sealing.Context:
        return sealing.Context("grant", self._request["identity"], int(self._request[generation]))

    def _open_grant(self) -> grants.Grant:
        return grants.decode(self._unseal(self._grant_context("grant_generation"), self._request["grant"]))

    def _secrets(self) -> dict[str, Any]:
        blob = self._request.get("secrets", "")
        return credentials.decode(self._unseal(SECRETS, blob)) if blob else {}

    def _sealed_secrets(self, content: Mapping[str, Any]) -> Result:
        return {"sealed": _text(sealing.seal(self._key(), SECRETS, credentials.encode(content)))}

    def _unseal(self, context: sealing.Context, blob: str) -> bytes:
        try:
            return sealing.unseal(self._key(), context, b64decode(blob))
        except sealing.CannotOpen as error:
            raise store("cannot_open", f"the stored {context.record} cannot be opened: {error}") from None


OPERATIONS: Mapping[str, Callable[[Worker], Result]] = {
    operation.__name__: operation
    for operation in (
        Worker.begin,
        Worker.redeem,
        Worker.refresh,
        Worker.app_token,
        Worker.seal,
        Worker.make_certificate,
        Worker.open_access_token,
        Worker.open_password,
    )
}


def perform(request: Request) -> Result:
    """Do what the request asks. Raises OperationFailed."""
    operation = OPERATIONS.get(request.get("op", ""))
    if operation is None:
        raise OperationFailed(Failure(kind=FailureKind.WORKER, error="unknown_operation"))
    worker = Worker(request)
    try:
        return operation(worker)
    finally:
        worker.close()


def _client_refused(refused: OperationFailed) -> bool:
    return refused.failure.error == "invalid_client" or refused.failure.status == UNAUTHORIZED


def _most_telling(failures: list[OperationFailed]) -> OperationFailed:
    """A refusal by which the client was recognised says more than one of the client; among equals the first counts."""
    return next((failure for failure in failures if not _client_refused(failure)), failures[0])


def _text(blob: bytes) -> str:
    return b64encode(blob).decode("ascii")
