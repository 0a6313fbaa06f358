"""Sign-ins: any outstanding one may succeed, the first success wins, everything else changes nothing."""

from __future__ import annotations

from notifyd.core import identity, problems
from notifyd.core.commands import Answer, CancelSignins, Redeem
from notifyd.core.decisions.base import Commit, Knowledge
from notifyd.core.eventlog import Level
from notifyd.core.events import Failure, RedeemFinished, SigninAnswered, SigninStarted
from notifyd.core.instant import Instant
from notifyd.core.machine import Held, Trigger
from notifyd.core.problem import Problem
from notifyd.core.signins import MOST_OUTSTANDING, REDEEM_DEADLINE_S, Phase, Signin


class SigninDecisions(Knowledge):
    """What becomes of sign-ins."""

    def _signin_started(self, event: SigninStarted, now: Instant) -> None:
        refused = "settings.secret-missing" if self._uses_oauth() and not self._secret_known else ""
        refused = refused or ("signin.superseded" if event.generation < self._epoch else "")
        if refused or self._step(Trigger.SIGNIN_STARTED, now):
            problem = problems.named(refused or "settings.not-applied", now.wall)
            self._out.append(CancelSignins((event.signin_id,), problem.code))
            self._out.append(Answer(event.signin_id, False, problem))
            return
        if len(self._signins) >= MOST_OUTSTANDING:
            self._end_oldest()
        self._signin_problem = None
        self._signins.begin(event.signin_id, event.generation, now.boot + event.deadline_s)
        self._emit("signin.started", Level.NOTICE, expires_at=now.wall + event.deadline_s)

    def _end_oldest(self) -> None:
        oldest = self._signins.oldest_open()
        if oldest is not None:
            self._signins.end(oldest.signin_id)
            self._out.append(CancelSignins((oldest.signin_id,), "too-many"))

    def _signin_answered(self, event: SigninAnswered, now: Instant) -> None:
        if not self._signins.knows(event.signin_id):
            self._out.append(Answer(event.signin_id, False, problems.named("signin.unknown-state", now.wall)))
            self._emit("signin.refused", Level.WARNING, reason="no open sign-in has this state")
            return
        signin = self._signins.get(event.signin_id, Phase.OPEN)
        if signin is None:
            return  # a reload or double click while the first answer is worked on: both wait for the same outcome
        if event.error is not None:
            self._fail_signin(signin, problems.oauth_problem(event.error, now.wall), now)
        elif not event.has_code:
            self._fail_signin(signin, problems.named("signin.no-code", now.wall), now)
        else:
            self._step(Trigger.CODE_RECEIVED, now)
            signin.phase, signin.asked, signin.deadline = Phase.REDEEMING, now.boot, now.boot + REDEEM_DEADLINE_S
            self._out.append(Redeem(signin.signin_id, self._generation))

    def _redeem_finished(self, event: RedeemFinished, now: Instant) -> None:
        signin = self._signins.get(event.signin_id, Phase.REDEEMING)
        if signin is None or self._settings is None:
            return
        if isinstance(event.result, Failure):
            self._fail_signin(signin, problems.entra_problem(event.result, now.wall), now)
            return
        refused = identity.refusal(event.result, self._settings, now.wall)
        if refused:
            self._fail_signin(signin, problems.named(refused, now.wall, identity.account_of(event.result)), now)
        elif self._signins.in_phase(Phase.COMMITTING):
            self._fail_signin(signin, problems.named("signin.superseded", now.wall), now)
        else:
            self._bump(now)
            # Answers to requests made for the grant before this one must not replace it.
            self._epoch = self._generation
            signin.phase = Phase.COMMITTING
            self._commit(event.result, signin.asked, signin.signin_id, "signin", now)

    def _signin_committed(self, commit: Commit, now: Instant) -> None:
        """The new grant is stored: it is the held one; the login check decides what can be said of it."""
        signin = self._signins.get(commit.signin_id, Phase.COMMITTING)
        self._end_losers(commit.signin_id, now)
        if signin is not None:
            signin.phase = Phase.PROBING
        if self._grant is not None and not self._grant.is_sender and self._settings is not None:
            account, sender = self._grant.account, self._settings.sender
            self._emit("token.account_differs", Level.WARNING, account=account, sender=sender)
        self._probe(now)

    def _end_losers(self, winner: str, now: Instant) -> None:
        losers = self._signins.end_others(winner)
        if not losers:
            return
        self._out.append(CancelSignins(tuple(loser.signin_id for loser in losers), "superseded"))
        self._emit("signin.cancelled", Level.INFO, reason="another tab was faster")
        superseded = problems.named("signin.superseded", now.wall)
        self._out += [Answer(loser.signin_id, False, superseded) for loser in losers if loser.phase is not Phase.OPEN]

    def _finish_signin(self, now: Instant) -> None:
        """The login check is over: now the state may be claimed and the waiting page answered."""
        signin = self._signins.in_phase(Phase.PROBING)
        if signin is None:
            return
        self._end_losers(signin.signin_id, now)
        self._signins.end(signin.signin_id)
        self._step(Trigger.SIGNIN_SUCCEEDED, now)
        self._out.append(Answer(signin.signin_id, True, self._gate.problem))

    def _fail_signin(self, signin: Signin, problem: Problem, now: Instant) -> None:
        self._end_signin(signin, problem, Trigger.SIGNIN_FAILED, now)
        self._emit_problem("signin.failed", problem)

    def _time_out_signins(self, now: Instant) -> None:
        for signin in self._signins.overdue(now.boot):
            if signin.phase is Phase.OPEN:
                self._end_signin(signin, problems.named("signin.timed-out", now.wall), Trigger.SIGNIN_TIMED_OUT, now)
                self._emit("signin.timed_out", Level.WARNING, minutes=10)
            else:
                self._fail_signin(signin, problems.named("worker.failed", now.wall), now)
            self._out.append(CancelSignins((signin.signin_id,), "timed-out"))

    def _end_signin(self, signin: Signin, problem: Problem, trigger: Trigger, now: Instant) -> None:
        self._signins.end(signin.signin_id)
        if self._committing is not None and self._committing.signin_id == signin.signin_id:
            self._committing = None
        self._step(trigger, now)
        self._signin_problem = problem
        self._out.append(Answer(signin.signin_id, False, problem))

    def _signin_trouble(self, now: Instant) -> Problem | None:
        """The last sign-in's problem, as long as nothing usable is held."""
        return self._signin_problem if self._held(now) is not Held.USABLE else None
