"""Mail and the outside world: login checks, the gate, reminders, warnings."""

from __future__ import annotations

from notifyd.core import problems, watch
from notifyd.core.commands import HoldMail, ReleaseMail
from notifyd.core.decisions.renewal import RenewalDecisions
from notifyd.core.decisions.signin import SigninDecisions
from notifyd.core.eventlog import Level
from notifyd.core.events import MailOutcome, ProbeFinished
from notifyd.core.instant import Instant
from notifyd.core.machine import Trigger
from notifyd.core.problem import Problem
from notifyd.core.problem_table.smtp import LOGIN_REFUSALS, TOKEN_REFUSALS
from notifyd.core.refresh import FRESH_TOKEN_S
from notifyd.core.signins import PROBE_DEADLINE_S


class MailDecisions(SigninDecisions, RenewalDecisions):
    """What becomes of the mail."""

    _told: tuple[bool, str] | None = None

    def _probe_finished(self, event: ProbeFinished, now: Instant) -> None:
        if self._gate.probing is None or event.generation != self._generation:
            return
        self._probe_over(event.outcome, now)

    def _probe_over(self, outcome: Problem | None, now: Instant) -> None:
        self._gate.probing = None
        self._step(Trigger.PROBE_FINISHED, now)
        if outcome is None:
            self._open_gate(now)
            if self._uses_oauth() and self._grant is not None and self._settings is not None:
                server = self._settings.server
                self._emit("token.accepted", Level.INFO, account=self._grant.account, server=server)
        else:
            self._close_gate(self._in_context(outcome, now), now)
        self._finish_signin(now)

    def _in_context(self, problem: Problem, now: Instant) -> Problem:
        """Refused for an account that is not the sender: that is the likely cause, and the words that help."""
        refused = problem.code in TOKEN_REFUSALS
        if refused and self._grant is not None and not self._grant.is_sender:
            return problems.named("signin.other-account", now.wall, f"{self._grant.account}: {problem.detail}")
        return problem

    def _probe_if_due(self, now: Instant) -> None:
        gate = self._gate
        if gate.probing is not None and now.boot >= gate.probing + PROBE_DEADLINE_S:
            host = self._settings.server if self._settings else ""
            self._probe_over(problems.network_problem("timeout", host, "", now.wall), now)
        if gate.problem is not None and gate.until is not None and gate.until <= now.boot and self._can_probe(now):
            self._probe(now)

    def _mail_outcome(self, event: MailOutcome, now: Instant) -> None:
        self._step(Trigger.MAIL_OUTCOME, now)
        if event.ok:
            self._open_gate(now)
        elif event.problem is not None and (event.breaker or event.problem.code in LOGIN_REFUSALS):
            self._close_gate(self._in_context(event.problem, now), now, breaker=event.breaker)

    def _close_gate(self, problem: Problem, now: Instant, *, breaker: bool = False) -> None:
        known = self._gate.problem is not None and self._gate.problem.code == problem.code
        if problem.code in TOKEN_REFUSALS:
            self._doubt_token(now)
        self._gate.close(self._rng, now.boot, problem, breaker)
        if known:
            return
        self._reminders, self._reminded = 0, now.boot
        if breaker:
            until = self._gate.until or now.boot
            self._emit_problem("mail.breaker_opened", problem, retry_at=now.wall + until - now.boot)
        elif self._uses_oauth():
            self._emit_problem("token.refused", problem, server=self._settings.server if self._settings else "")

    def _doubt_token(self, now: Instant) -> None:
        """A refused token is renewed once. Refused again after that, it is a problem of mail, not of the token."""
        if self._grant is None or self._gate.token_doubted or not self._uses_oauth():
            return
        if now.boot - self._grant.obtained.boot >= FRESH_TOKEN_S:
            self._gate.token_doubted = True
            self._renewal.hasten(now.boot, "smtp-rejected")

    def _open_gate(self, now: Instant) -> None:
        closed = self._gate.problem
        if closed is not None and self._gate.breaker:
            self._emit("mail.breaker_closed", Level.NOTICE, seconds=round(max(now.wall - closed.since, 0.0)))
        self._gate.open()

    def _tell_gate(self, now: Instant) -> None:
        reason = self._hold_reason(now)
        told = (reason is None, reason.code if reason else "")
        if told == self._told:
            return
        self._told = told
        self._out.append(ReleaseMail() if reason is None else HoldMail(reason))

    # ---- things to say in time --------------------------------------------------------------------------------------

    def _warn_of_secret(self, now: Instant) -> None:
        day = self._settings.secret_expires_on if self._settings and self._uses_oauth() else None
        left = watch.days_left(day, now.wall) if day else None
        if day is None or left is None:
            return
        threshold = watch.warning_due(left, self._warned)
        if threshold is None:
            return
        self._warned = threshold
        if threshold == 0:
            self._emit("secret.expired", Level.ERROR, expires_on=day.isoformat())
        else:
            self._emit("secret.expiring", Level.WARNING, days_left=left, expires_on=day.isoformat())

    def _next_warning(self, now: Instant) -> float | None:
        day = self._settings.secret_expires_on if self._settings and self._uses_oauth() else None
        if day is None or now.wall < watch.PLAUSIBLE_WALL:
            return None
        wall = watch.next_warning_wall(day, self._warned)
        return None if wall is None else now.boot + max(wall - now.wall, 1.0)

    def _remind(self, now: Instant) -> None:
        problem = self._needs_person()
        if problem is None or now.boot < self._reminded + watch.remind_after(self._reminders):
            return
        self._reminders += 1
        self._reminded = now.boot
        event = "token.signin_needed" if self._renewal.alarmed() else "token.refresh_failed"
        self._emit_problem(
            "token.refused" if problem is self._gate.problem else event, problem, reminder=self._reminders
        )

    def _next_reminder(self) -> float | None:
        return self._reminded + watch.remind_after(self._reminders) if self._needs_person() else None
