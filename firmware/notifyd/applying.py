"""Apply: settings are checked, their secret proved and sealed, then stored; until then nothing has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from notifyd.adapters.clock import now
from notifyd.adapters.database import StoredSettings
from notifyd.api.access import Caller
from notifyd.api.wire import ApiProblem
from notifyd.core.events import Change, Failure, GrantResult, SettingsApplied
from notifyd.core.faults import StoreFailed, StoreFull
from notifyd.core.problem import Problem
from notifyd.core.problems import FailureClass, entra_problem, failure_class
from notifyd.core.secret import Secret
from notifyd.core.settings import Auth, InvalidSettings, ParsedSettings, Settings, parse_settings
from notifyd.service import Service

EMPTY_ETAG = '"none"'
SECRET_NAMES = ("client_secret", "password")


class Applying:
    """Takes Apply calls one after the other; whoever else replaces the sealed secrets takes `lock`, too."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.lock = asyncio.Lock()

    async def apply(self, body: Mapping[str, Any], if_match: str, caller: Caller) -> None:
        """Raises ApiProblem 412, 422, 503 or 507; nothing has changed then."""
        async with self.lock:
            self._check_version(if_match)
            parsed = self._parse(body, caller)
            sealed = await self._seal(parsed)
            generation = (self._service.stored.generation if self._service.stored else 0) + 1
            candidate = StoredSettings(parsed.settings, sealed, generation, "")
            proof = await self._prove(candidate, parsed)
            self._store(candidate, parsed, proof, caller)

    def _names(self, candidate: StoredSettings, parsed: ParsedSettings) -> frozenset[str]:
        kept = self._service.secret_names if candidate.sealed_secret and self._keeps(parsed) else frozenset()
        return kept | {name for name in SECRET_NAMES if getattr(parsed, name) is not None}

    def _check_version(self, if_match: str) -> None:
        wanted = [tag.strip().removeprefix("W/") for tag in if_match.split(",") if tag.strip()]
        if wanted and "*" not in wanted and etag_of(self._service.stored) not in wanted:
            raise ApiProblem(
                412,
                "changed-meanwhile",
                "The settings were changed meanwhile: load them again, then apply your changes.",
            )

    def _parse(self, body: Mapping[str, Any], caller: Caller) -> ParsedSettings:
        stored = self._service.stored
        given = {name: value for name, value in body.items() if value is not None}
        try:
            return parse_settings(given, stored.settings if stored else None, self._service.parts.clouds)
        except InvalidSettings as invalid:
            errors = [(error.pointer, error.detail) for error in invalid.errors]
            self._service.parts.events.emit(
                "settings.refused",
                user=caller.user or "local",
                remote=caller.remote or None,
                detail=errors[0][1],
                pointers=" ".join(pointer for pointer, _ in errors),
            )
            raise ApiProblem(
                422, "invalid-settings", errors[0][1], title="Some settings cannot be used", errors=errors
            ) from None

    def _keeps(self, parsed: ParsedSettings) -> bool:
        """Whether the stored secrets go on: a client secret belongs to one application in one cloud."""
        stored = self._service.stored
        names = ("cloud", "client_id", "tenant_id")
        return stored is not None and all(
            getattr(parsed.settings, name) == getattr(stored.settings, name) for name in names
        )

    async def _seal(self, parsed: ParsedSettings) -> bytes:
        stored = self._service.stored
        keep = stored.sealed_secret if stored is not None and self._keeps(parsed) else b""
        given = {name: value for name in SECRET_NAMES if (value := getattr(parsed, name)) is not None}
        if not given:
            return keep
        sealed = await self._service.parts.entra.seal(given, keep)
        if isinstance(sealed, Failure):
            raise ApiProblem(503, "sealing-failed", "The secret could not be sealed; nothing was changed.")
        return sealed

    async def _prove(self, candidate: StoredSettings, parsed: ParsedSettings) -> tuple[int, GrantResult] | None:
        """A changed client secret must renew the held grant before it replaces the one that works."""
        if parsed.change is not Change.SECRET or parsed.client_secret is None:
            return None
        if candidate.settings.auth is not Auth.OAUTH2:
            return None
        generation = self._service.agent.status(now()).generation
        outcome = await self._service.prove(candidate, generation)
        if outcome is None:
            return None
        if not isinstance(outcome, Failure):
            return generation, outcome
        meaning = failure_class(outcome)
        problem = entra_problem(outcome, now().wall)
        if meaning in (FailureClass.CLIENT, FailureClass.CONFIG):
            self._refuse_secret(problem)
        if meaning is FailureClass.TRANSIENT:
            raise ApiProblem(
                503,
                "secret-unproved",
                f"The new client secret could not be proved now, so the old one stays in force: {problem.title}",
                extra={"problem": problem.as_json()},
            )
        return None  # the grant itself has ended: the secret was accepted, and a new sign-in is needed anyway

    def _refuse_secret(self, problem: Problem) -> None:
        self._service.parts.events.emit(
            "settings.secret_refused",
            code=problem.code,
            title=problem.title,
            detail=problem.detail,
            remedy=problem.remedy,
        )
        raise ApiProblem(
            422,
            "secret-refused",
            f"Microsoft refuses the new client secret, so the old one stays in force: {problem.title}",
            title="The client secret cannot be used",
            errors=[("/client_secret", f"{problem.title} ({problem.code}). {problem.remedy}")],
            extra={"problem": problem.as_json()},
        )

    def _store(
        self, candidate: StoredSettings, parsed: ParsedSettings, proof: tuple[int, GrantResult] | None, caller: Caller
    ) -> None:
        service = self._service
        before = service.stored.settings if service.stored else None
        try:
            if proof is not None:
                service.keep(*proof)
            service.stored = service.parts.store.save(candidate.settings, candidate.sealed_secret, candidate.generation)
            service.remember_secrets(self._names(candidate, parsed))
        except StoreFull:
            raise ApiProblem(507, "storage-full", "The storage is full; nothing was changed.") from None
        except StoreFailed as error:
            service.fail(str(error))
            raise ApiProblem(503, "storage-failed", "The storage failed; the service starts anew.") from error
        if service.gate is not None:
            service.gate.settings_changed()
        service.post(
            SettingsApplied(candidate.settings, parsed.change, bool(candidate.sealed_secret)),
            "settings.applied",
            user=caller.user or "local",
            remote=caller.remote or None,
            changed=", ".join(_changed(before, parsed)) or "nothing",
        )


def etag_of(stored: StoredSettings | None) -> str:
    """The ETag of the applied settings; a constant before the first Apply."""
    return stored.etag if stored else EMPTY_ETAG


def _changed(before: Settings | None, parsed: ParsedSettings) -> list[str]:
    names = [field.name for field in fields(Settings)]
    changed = [name for name in names if before is None or getattr(before, name) != getattr(parsed.settings, name)]
    secrets: tuple[Secret | None, ...] = (parsed.client_secret, parsed.password)
    return changed + [name for name, value in zip(SECRET_NAMES, secrets, strict=True) if value is not None]
