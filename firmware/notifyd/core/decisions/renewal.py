"""Renewals: when to ask, what to make of the answer, what to keep."""

from __future__ import annotations

from notifyd.core import identity, problems
from notifyd.core.commands import Refresh
from notifyd.core.decisions.base import Commit, Knowledge
from notifyd.core.eventlog import Level
from notifyd.core.events import Failure, FailureKind, GrantResult, RefreshFinished
from notifyd.core.failure import FailureClass, failure_class
from notifyd.core.instant import Instant
from notifyd.core.machine import Held, Trigger
from notifyd.core.problem import Problem, Source
from notifyd.core.refresh import CLOCK_STEP_S, LOST_ANSWER_S, WAN_PAUSE_S, WAN_SPREAD_S
from notifyd.core.snapshot import HeldGrant

MALFORMED = Failure(kind=FailureKind.MALFORMED, description="the answer held no usable token")


class RenewalDecisions(Knowledge):
    """What becomes of the held grant."""

    def _refresh_if_due(self, now: Instant) -> None:
        moment = self._renewal.next_moment(now.boot)
        if not self._can_refresh() or moment is None or moment > now.boot:
            return
        self._renewal.started(self._rng, now.boot, self._generation)
        self._out.append(Refresh(self._generation))

    def _give_up_lost_answer(self, now: Instant) -> None:
        flight = self._renewal.flight
        if flight is not None and now.boot >= flight.since + LOST_ANSWER_S:
            lost = Failure(kind=FailureKind.WORKER, description="no answer")
            self._refresh_finished(RefreshFinished(flight.generation, lost), now)

    def _refresh_finished(self, event: RefreshFinished, now: Instant) -> None:
        flight = self._renewal.flight
        if flight is None or flight.generation != event.generation:
            return
        self._renewal.flight = None
        if self._grant is None or event.generation < self._epoch:
            return
        if isinstance(event.result, GrantResult) and self._fits(event.result, self._grant):
            self._commit(event.result, flight.since, "", flight.by, now)
            return
        failure = event.result if isinstance(event.result, Failure) else MALFORMED
        if event.generation != self._generation:
            # It speaks of settings (perhaps a secret) that are no longer in force: ask again with the new ones.
            self._renewal.hasten(now.boot, "settings")
            return
        self._refresh_failed(failure, flight.by, now)

    @staticmethod
    def _fits(result: GrantResult, grant: HeldGrant) -> bool:
        same = not result.object_id or not grant.object_id or result.object_id == grant.object_id
        return same and result.expires_in > 0

    def _refresh_failed(self, failure: Failure, by: str, now: Instant) -> None:
        if failure.kind is FailureKind.STORE and failure.error == "no_grant":
            self._grant_is_gone(now)
            return
        kind = failure_class(failure)
        self._step(Trigger.REFRESH_FAILED, now)
        alarmed = self._renewal.alarmed()
        self._renewal.failed(
            self._rng,
            now.boot,
            kind,
            retry_after_s=failure.retry_after_s,
            local=failure.kind is FailureKind.DNS,
            life_left_s=self._grant.expires_boot - now.boot if self._grant else 0.0,
            asked=by == "admin",
        )
        problem = problems.entra_problem(failure, now.wall)
        new = self._set_problem(problem)
        if new:
            self._reminders, self._reminded = 0, now.boot
        if new or self._renewal.worth_telling():
            retry = self._renewal.next_moment(now.boot)
            retry_at = now.wall + retry - now.boot if retry is not None else None
            self._emit_problem("token.refresh_failed", problem, transient=problem.transient, retry_at=retry_at)
        if new and problem.source is Source.CLOCK:
            self._emit_problem("clock.wrong", problem)
        if self._renewal.alarmed() and not alarmed:
            self._emit_problem("token.signin_needed", problem)

    def _grant_is_gone(self, now: Instant) -> None:
        """The store says that it holds none: damaged or erased behind our back."""
        problem = problems.named("store.no-grant", now.wall)
        self._bump(now)
        self._cancel_signins("store")
        self._step(Trigger.GRANT_FORGOTTEN, now)
        self._drop_grant("the store lost it", wipe=False)
        self._problem = problem
        self._emit_problem("token.store_failed", problem)

    def _adopt(self, commit: Commit, now: Instant) -> None:
        """The stored grant is the held one from now on."""
        result, before = commit.result, self._grant
        renewed = before if not commit.signin_id else None
        clock_was_wrong = self._clock_is_wrong()
        self._grant = HeldGrant(
            account=renewed.account if renewed else identity.account_of(result),
            object_id=result.object_id or (renewed.object_id if renewed else ""),
            tenant_id=result.tenant_id or (renewed.tenant_id if renewed else ""),
            scopes=result.scopes,
            signed_in_wall=renewed.signed_in_wall if renewed else now.wall,
            obtained=commit.obtained,
            expires_boot=commit.obtained.boot + result.expires_in,
            lifetime_s=float(result.expires_in),
            is_sender=renewed.is_sender if renewed else self._is_sender(result),
        )
        self._problem, self._signin_problem, self._end_told = None, None, False
        self._reminders = 0
        self._renewal.succeeded(self._rng, commit.obtained.boot, float(result.expires_in), result.refresh_in)
        expires_at = now.wall + self._grant.expires_boot - now.boot
        if commit.signin_id:
            self._emit("token.retrieved", Level.NOTICE, account=self._grant.account, expires_at=expires_at)
        else:
            account = self._grant.account
            self._emit("token.refreshed", Level.INFO, account=account, expires_at=expires_at, by=commit.by)
        if clock_was_wrong:
            self._emit("clock.right", Level.NOTICE)

    def _is_sender(self, result: GrantResult) -> bool:
        return self._settings is None or identity.is_sender(result, self._settings.sender)

    def _end_token(self, now: Instant) -> None:
        """Expired begins exactly when the access token ends on the boot clock."""
        if self._end_told or self._held(now) is not Held.ENDED:
            return
        self._end_told = True
        self._step(Trigger.TOKEN_ENDED, now)
        self._emit("token.expired", Level.ERROR, account=self._grant.account if self._grant else "")

    # ---- things that make it try earlier ----------------------------------------------------------------------------

    def _wan_up(self, now: Instant) -> None:
        self._step(Trigger.WAN_CHANGED, now)
        self._emit("network.wan_up", Level.NOTICE)
        self._retry_soon(now, "wan-up")

    def _retry_soon(self, now: Instant, by: str) -> None:
        """What failed for the way there (not for what was asked) is tried again within seconds."""
        soon = now.boot + self._rng.uniform(0.0, WAN_SPREAD_S)
        renewal = self._renewal
        if renewal.failure_class is FailureClass.TRANSIENT and not renewal.time_was_named:
            last = renewal.attempts[-1] if renewal.attempts else soon
            renewal.hasten(max(soon, last + WAN_PAUSE_S), by)
        if self._gate.problem is not None and self._gate.problem.source in (Source.NETWORK, Source.TLS, Source.CLOCK):
            self._gate.hasten(soon)

    def _clock_is_wrong(self) -> bool:
        return self._problem is not None and self._problem.source is Source.CLOCK

    def _watch_clock(self, now: Instant) -> None:
        """Durations are on the boot clock, so a step of the wall clock changes nothing, but may cure something."""
        offset = now.wall - now.boot
        step, self._offset = offset - self._offset, offset
        if abs(step) < CLOCK_STEP_S:
            return
        self._emit("clock.jumped", Level.NOTICE, seconds=round(step))
        if self._clock_is_wrong() or (self._gate.problem is not None and self._gate.problem.source is Source.CLOCK):
            self._retry_soon(now, "clock")

    def _needs_person(self) -> Problem | None:
        """The problem that only a person can end, if there is one."""
        kind = self._renewal.failure_class
        if self._problem is not None and (
            kind in (FailureClass.CLIENT, FailureClass.CONFIG) or self._renewal.alarmed()
        ):
            return self._problem
        if self._gate.problem is not None and not self._gate.problem.transient:
            return self._gate.problem
        return None
