"""What the agent knows, and the few words in which all its decisions speak."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from notifyd.core import problems, watch
from notifyd.core.commands import CancelSignins, Command, CommitGrant, Emit, Probe, WipeGrant
from notifyd.core.eventlog import FieldValue, Level
from notifyd.core.events import GrantResult
from notifyd.core.gate import Gate
from notifyd.core.instant import Instant
from notifyd.core.machine import Held, State, TokenMachine, Trigger
from notifyd.core.problem import Problem
from notifyd.core.refresh import Renewal
from notifyd.core.settings import Auth, Settings
from notifyd.core.signins import Phase, Signins
from notifyd.core.snapshot import HeldGrant, Snapshot


@dataclass(frozen=True, slots=True)
class Commit:
    """The grant that is being stored. obtained: when it was asked for. signin_id: empty for a renewal."""

    generation: int
    result: GrantResult
    obtained: Instant
    signin_id: str
    by: str


class Knowledge:
    """The agent's state, restored from a snapshot."""

    def __init__(self, rng: random.Random, saved: Snapshot, now: Instant, boot_id: str) -> None:
        self._rng = rng
        self._boot_id = boot_id
        self._settings: Settings | None = saved.settings
        self._secret_known = saved.secret_known
        self._generation, self._epoch = saved.generation, saved.epoch
        self._grant: HeldGrant | None = saved.grant
        self._problem: Problem | None = saved.problem
        self._signin_problem: Problem | None = None
        self._warned, self._reminders, self._reminded = saved.warned_days, saved.reminders, saved.reminded_boot
        self._signins = Signins()
        self._committing: Commit | None = None
        self._renewal = Renewal.restored(saved)
        self._gate = Gate(saved.gate_problem, saved.gate_until, saved.gate_failures, saved.gate_breaker)
        self._offset = saved.saved.wall - saved.saved.boot
        self._out: list[Command] = []
        self._machine = TokenMachine(State.UNCONFIGURED)
        self._end_told = False

    @property
    def state(self) -> State:
        """The state as of the last fact handled."""
        return self._machine.state

    def _uses_oauth(self) -> bool:
        return self._settings is not None and self._settings.auth is Auth.OAUTH2

    def _held(self, now: Instant) -> Held:
        if self._grant is None:
            return Held.NOTHING
        return Held.USABLE if now.boot < self._grant.expires_boot else Held.ENDED

    def _step(self, trigger: Trigger, now: Instant) -> str:
        """Take the trigger in the table; the reason when it was refused."""
        return self._machine.step(trigger, len(self._signins), self._held(now)).refused

    def _emit(self, event: str, level: Level, **fields: FieldValue) -> None:
        self._out.append(Emit(event, level, fields))

    def _emit_problem(self, event: str, problem: Problem, **fields: FieldValue) -> None:
        level = Level.WARNING if problem.transient else Level.ERROR
        told: dict[str, FieldValue] = {
            "code": problem.code,
            "title": problem.title,
            "detail": problem.detail,
            "remedy": problem.remedy,
        }
        identifiers = {"trace_id": problem.trace_id, "correlation_id": problem.correlation_id}
        told |= {name: value for name, value in identifiers.items() if value}
        self._emit(event, level, **told, **fields)

    def _set_problem(self, problem: Problem) -> bool:
        """Make it the token's problem; the same one keeps its `since`. True when it is another one than before."""
        before = self._problem
        if before is not None and before.code == problem.code:
            self._problem = replace(problem, since=before.since)
            return False
        self._problem = problem
        return True

    def _bump(self, now: Instant) -> None:
        """A new generation of the configuration: login checks under way no longer speak of it."""
        self._generation += 1
        if self._gate.probing is not None:
            self._probe(now)

    def _commit(self, result: GrantResult, asked: float, signin_id: str, by: str, now: Instant) -> None:
        """Store it. Its life is counted from `asked` (boot seconds), the moment of the request: never too long."""
        obtained = Instant(asked, asked + now.wall - now.boot)
        self._committing = Commit(self._generation, result, obtained, signin_id, by)
        self._out.append(CommitGrant(self._generation, result, obtained))

    def _probe(self, now: Instant) -> None:
        self._gate.probing = now.boot
        self._out.append(Probe(self._generation))

    def _can_probe(self, now: Instant) -> bool:
        if self._settings is None or self._gate.probing is not None:
            return False
        return not self._uses_oauth() or self._held(now) is Held.USABLE

    def _can_refresh(self) -> bool:
        return self._grant is not None and self._secret_known and self._uses_oauth() and self._committing is None

    def _cancel_signins(self, reason: str) -> None:
        ids = tuple(signin.signin_id for signin in self._signins.end_all())
        if ids:
            self._out.append(CancelSignins(ids, reason))
            self._emit("signin.cancelled", Level.INFO, reason=reason)

    def _drop_grant(self, reason: str, *, wipe: bool) -> None:
        """Nothing is held from now on; results of requests made before no longer count."""
        account = self._grant.account if self._grant else ""
        self._epoch = self._generation
        self._grant, self._committing = None, None
        self._problem, self._signin_problem = None, None
        self._renewal.reset()
        self._gate.open()
        self._gate.probing = None
        if wipe:
            self._out.insert(0, WipeGrant())
        if account:
            self._emit("token.forgotten", Level.NOTICE, reason=reason, account=account)

    def _hold_reason(self, now: Instant) -> Problem | None:
        """Why mail cannot be sent now; None when it can."""
        if self._settings is None:
            return problems.named("settings.not-applied", now.wall)
        if self._uses_oauth() and self._held(now) is not Held.USABLE:
            code = "token.none" if self._grant is None else "token.expired"
            return self._problem or problems.named(code, now.wall)
        if self._signins.in_phase(Phase.PROBING):
            return problems.named("token.unproved", now.wall)
        return self._gate.problem

    def _secret_problem(self, now: Instant) -> Problem | None:
        day = self._settings.secret_expires_on if self._settings and self._uses_oauth() else None
        left = watch.days_left(day, now.wall) if day else None
        if day is None or left is None or left > watch.WARN_DAYS[0]:
            return None
        code = "secret.expired" if left <= 0 else "secret.expiring"
        return problems.named(code, now.wall, f"{day.isoformat()}, {max(left, 0)} days left")
