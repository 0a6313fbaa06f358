"""Microsoft Entra ID, seen from the resident service: each operation runs in a short-lived worker process.

What lives here: starting a worker, handing it one request line, reading one bounded answer line, ending it at its
deadline, and turning the answer into the core's values. What may not: MSAL, requests and cryptography (they cost three
times the memory of the rest of the service and are needed once an hour) and any secret in clear, except the access
token and what an administrator is just applying.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notifyd.core.clouds import Cloud
from notifyd.core.events import Failure, FailureKind, GrantResult
from notifyd.core.secret import Secret
from notifyd.core.settings import Settings

DEADLINE_S = 60.0
"""A whole operation, from asking to the answer; the worker gives up by itself shortly before."""

WORKER_MARGIN_S = 3.0
"""How long before the deadline the worker must have answered, so that it can still say what hung."""

MAX_ANSWER = 512 * 1024
"""Longest answer line: three tokens of 16 KiB, sealed and in base64, with much room."""

MAX_WORKERS = 4
"""Workers at the same time: each takes some 45 MiB for a second or two."""

WORKER_MODULE = "notifyd.adapters.entra_worker"
IMPORT_ROOT = str(Path(__file__).parents[2])
"""The worker must be the one that came with this service, wherever that was started from."""


@dataclass(frozen=True, slots=True)
class BegunSignin:
    """A sign-in that was begun: what the browser gets, and what redeeming its answer needs.

    signin_id: the `state` parameter, 128 bits or more; single use.
    flow: PKCE verifier, nonce and the rest of MSAL's flow, as JSON; never leaves this process's memory.
    """

    signin_id: str
    authorize_url: str
    flow: Secret


@dataclass(frozen=True, slots=True)
class MadeCertificate:
    """A certificate credential made on the device; its private key exists only inside `sealed`.

    certificate_pem: to be uploaded in Entra (App registrations > Certificates & secrets > Certificates).
    thumbprint: SHA-1, as the portal shows it. not_after: wall-clock seconds.
    sealed: the settings' secrets with this credential added; replaces the stored blob.
    """

    certificate_pem: str
    thumbprint: str
    not_after: float
    sealed: bytes


class Entra:
    """Operations at Entra and on sealed secrets. Every method answers within its deadline and raises nothing foreign.

    key_path: the file with the device key (see `adapters.devicekey`), read by the worker only.
    """

    def __init__(self, key_path: Path, *, deadline_s: float = DEADLINE_S) -> None:
        self._key_path = key_path
        self._deadline_s = deadline_s
        self._slots = asyncio.Semaphore(MAX_WORKERS)
        self._spare: asyncio.subprocess.Process | None = None
        self._keep_warm = False
        self._running: set[asyncio.subprocess.Process] = set()

    # ---- sign-in and renewal ------------------------------------------------------------------------------------

    async def begin(
        self,
        settings: Settings,
        cloud: Cloud,
        redirect_uri: str,
        login_hint: str,
        claims: str,
        sealed_secret: bytes,
    ) -> BegunSignin | Failure:
        """Build the authorize URL (one discovery request). `claims`: a Conditional Access challenge, or ''."""
        request = self._target("begin", settings, cloud, sealed_secret)
        request |= {"redirect_uri": redirect_uri, "login_hint": login_hint, "claims": claims}
        answer = await self._ask(request)
        if isinstance(answer, Failure):
            return answer
        return BegunSignin(answer["state"], answer["url"], Secret(answer["flow"]))

    async def redeem(
        self,
        begun: BegunSignin,
        params: Mapping[str, str],
        settings: Settings,
        cloud: Cloud,
        sealed_secret: bytes,
        generation: int,
    ) -> GrantResult | Failure:
        """Exchange the code in the redirect's `params` for tokens. The grant comes back sealed for `generation`."""
        request = self._target("redeem", settings, cloud, sealed_secret)
        request |= {"flow": begun.flow.reveal(), "params": dict(params), "generation": generation}
        return await self._grant(request)

    async def refresh(
        self,
        settings: Settings,
        cloud: Cloud,
        sealed_secret: bytes,
        sealed_grant: bytes,
        grant_generation: int,
        generation: int,
        only: str = "",
    ) -> GrantResult | Failure:
        """Renew now (nothing is cached, so every call is a real renewal).

        The current refresh token is tried first and, when Entra refuses it, the previous one. `grant_generation` is
        the generation the held grant was sealed for; the new one is sealed for `generation`. Of several client
        credentials the one that worked last is tried first; `only` names the one to use instead (`secret`).
        """
        request = self._target("refresh", settings, cloud, sealed_secret)
        request |= {"grant": _text(sealed_grant), "grant_generation": grant_generation}
        request |= {"generation": generation, "only": only}
        return await self._grant(request)

    async def prove_secret(
        self,
        settings: Settings,
        cloud: Cloud,
        sealed_secret: bytes,
        sealed_grant: bytes,
        grant_generation: int,
        generation: int,
    ) -> GrantResult | Failure:
        """Prove a new secret by a renewal with it. On success the renewed grant must be committed: an identity provider
        with one-time refresh tokens has ended the old one."""
        return await self.refresh(
            settings, cloud, sealed_secret, sealed_grant, grant_generation, generation, only="secret"
        )

    async def app_token(
        self, settings: Settings, cloud: Cloud, sealed_secret: bytes, generation: int
    ) -> GrantResult | Failure:
        """A token of the application itself (`SMTP.SendAsApp`, client credentials): no sign-in, no refresh token."""
        request = self._target("app_token", settings, cloud, sealed_secret)
        request |= {"generation": generation, "mailbox": settings.sender}
        return await self._grant(request)

    # ---- sealed secrets -----------------------------------------------------------------------------------------

    async def seal(self, secrets: Mapping[str, Secret], keep: bytes = b"") -> bytes | Failure:
        """Seal settings secrets (`client_secret`, `password`); entries of the blob `keep` that are not given stay."""
        request: dict[str, Any] = {"op": "seal", "secrets": _text(keep)}
        request["given"] = {name: value.reveal() for name, value in secrets.items()}
        answer = await self._ask(request)
        return answer if isinstance(answer, Failure) else b64decode(answer["sealed"])

    async def make_certificate(self, sealed_secret: bytes, name: str, days: int = 730) -> MadeCertificate | Failure:
        """Make a key and a self-signed certificate named `name`, beside any earlier one (rollover with two at once)."""
        request = {"op": "make_certificate", "secrets": _text(sealed_secret), "name": name, "days": days}
        answer = await self._ask(request)
        if isinstance(answer, Failure):
            return answer
        return MadeCertificate(
            answer["certificate"], answer["thumbprint"], answer["not_after"], b64decode(answer["sealed"])
        )

    async def open_access_token(
        self, settings: Settings, sealed_grant: bytes, grant_generation: int
    ) -> Secret | Failure:
        """The access token of a stored grant (after a restart)."""
        request: dict[str, Any] = {"op": "open_access_token", "identity": identity(settings)}
        request |= {"grant": _text(sealed_grant), "grant_generation": grant_generation}
        answer = await self._ask(request)
        return answer if isinstance(answer, Failure) else Secret(answer["secret"])

    async def open_password(self, sealed_secret: bytes) -> Secret | Failure:
        """The stored mail password, for `auth=password`."""
        answer = await self._ask({"op": "open_password", "secrets": _text(sealed_secret)})
        return answer if isinstance(answer, Failure) else Secret(answer["secret"])

    # ---- workers ------------------------------------------------------------------------------------------------

    async def warm(self) -> None:
        """Keep one worker started and imported, so that the next operation does not wait for its imports."""
        self._keep_warm = True
        await self._fill_spare()

    async def cool(self) -> None:
        """End the spare worker."""
        self._keep_warm = False
        spare, self._spare = self._spare, None
        if spare is not None:
            await _end(spare)

    async def close(self) -> None:
        """End every worker."""
        await self.cool()
        await asyncio.gather(*(_end(process) for process in tuple(self._running)))

    async def _fill_spare(self) -> None:
        if not self._keep_warm or (self._spare is not None and self._spare.returncode is None):
            return
        with contextlib.suppress(OSError):
            spare = await _start()
            if self._keep_warm and self._spare is None:
                self._spare = spare
            else:
                await _end(spare)

    def _target(self, op: str, settings: Settings, cloud: Cloud, sealed_secret: bytes) -> dict[str, Any]:
        return {
            "op": op,
            "authority": f"{cloud.authority.rstrip('/')}/{settings.tenant_id}",
            "scope": cloud.scope,
            "ca_file": str(cloud.ca_file or ""),
            "client_id": settings.client_id,
            "tenant_id": settings.tenant_id,
            "identity": identity(settings),
            "secrets": _text(sealed_secret),
        }

    async def _grant(self, request: dict[str, Any]) -> GrantResult | Failure:
        answer = await self._ask(request)
        if isinstance(answer, Failure):
            return answer
        return GrantResult(
            account=answer["account"],
            object_id=answer["object_id"],
            tenant_id=answer["tenant_id"],
            scopes=tuple(answer["scopes"]),
            expires_in=answer["expires_in"],
            refresh_in=answer["refresh_in"],
            claims=answer["claims"],
            has_refresh_token=answer["has_refresh_token"],
            sealed=b64decode(answer["sealed"]),
            access_token=Secret(answer["access_token"]),
            sealed_for=int(request["generation"]),
        )

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any] | Failure:
        """Send one request to a worker; always answers within the deadline, whatever the worker does."""
        request["key"] = str(self._key_path)
        request["deadline_s"] = self._deadline_s - WORKER_MARGIN_S
        answer = await self._ask_in_time(json.dumps(request).encode() + b"\n")
        await self._fill_spare()
        return answer

    async def _ask_in_time(self, line: bytes) -> dict[str, Any] | Failure:
        try:
            async with asyncio.timeout(self._deadline_s), self._slots:
                return await self._ask_one(line)
        except TimeoutError:
            return _failure(FailureKind.TIMEOUT, "worker_deadline", f"no answer within {self._deadline_s:.0f} s")
        except OSError as error:
            return _failure(FailureKind.WORKER, "worker_start", error.strerror or type(error).__name__)

    async def _ask_one(self, line: bytes) -> dict[str, Any] | Failure:
        process, self._spare = self._spare, None
        if process is None or process.returncode is not None:
            process = await _start()
        self._running.add(process)
        try:
            raw = await _converse(process, line)
            return _read_answer(raw, process.returncode)
        finally:
            await asyncio.shield(_end(process))
            self._running.discard(process)


def identity(settings: Settings) -> str:
    """What a grant belongs to; bound to every sealed grant, so that it opens for no other mailbox, app or cloud."""
    return "/".join((settings.cloud, settings.tenant_id, settings.client_id, settings.sender)).lower()


async def _start() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-X",
        "frozen_modules=on",
        "-m",
        WORKER_MODULE,
        str(os.getpid()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=MAX_ANSWER,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (IMPORT_ROOT, os.environ.get("PYTHONPATH"))))},
    )


async def _converse(process: asyncio.subprocess.Process, line: bytes) -> bytes:
    if process.stdin is None or process.stdout is None:
        return b""
    with contextlib.suppress(ConnectionError):
        process.stdin.write(line)
        await process.stdin.drain()
        process.stdin.close()
    try:
        raw = await process.stdout.readline()
    except ValueError:  # the line is longer than MAX_ANSWER
        return b""
    if not raw:
        await process.wait()
    return raw


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await process.wait()


def _read_answer(raw: bytes, exit_status: int | None) -> dict[str, Any] | Failure:
    try:
        answer = json.loads(raw)
    except ValueError:
        return _failure(FailureKind.WORKER, "worker_died", f"no readable answer; exit status {exit_status}")
    if "failure" in answer:
        fields = answer["failure"]
        return Failure(**{**fields, "codes": tuple(fields["codes"]), "kind": FailureKind(fields["kind"])})
    return answer["result"]  # type: ignore[no-any-return]


def _failure(kind: FailureKind, error: str, description: str) -> Failure:
    return Failure(kind=kind, error=error, description=description)


def _text(blob: bytes) -> str:
    return b64encode(blob).decode("ascii")
