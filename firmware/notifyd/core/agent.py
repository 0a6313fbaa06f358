"""The agent: decides what to do about the token and the mail's gate, and does nothing itself.

Facts come in through `handle`, commands go out; time is an argument and randomness is given. The state moves by the
table in `machine.py` only. What a table cannot hold is kept by the parts beside it: outstanding sign-ins (`signins`),
the renewal's schedule (`refresh`), the gate of the mail (`gate`), things to say in time (`watch`).

Three rules that everything in `decisions/` follows:
- a failure never destroys a grant: only a changed identity, cleared settings or the administrator's wish do;
- an answer counts only for the generation that asked: results of token requests since the last change of identity
  (`epoch`), failures and login checks only under the very present configuration;
- what a restart must know is saved (`SaveSnapshot`) before anything is told or sent.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from notifyd.core.commands import Command, SaveSnapshot, WipeGrant
from notifyd.core.decisions.mail import MailDecisions
from notifyd.core.eventlog import Level
from notifyd.core.events import (
    Change,
    Event,
    GrantCommitFailed,
    GrantCommitted,
    GrantForgotten,
    MailOutcome,
    ProbeFinished,
    RedeemFinished,
    RefreshFinished,
    RefreshRequested,
    SettingsApplied,
    SettingsCleared,
    SigninAnswered,
    SigninStarted,
    Stopping,
    Tick,
    WanDown,
    WanUp,
)
from notifyd.core.failure import FailureClass
from notifyd.core.instant import Instant
from notifyd.core.machine import Held, State, TokenMachine, Trigger, deserved
from notifyd.core.problem import Problem
from notifyd.core.refresh import (
    CLEAN_START_SPREAD_S,
    CLOCK_WATCH_S,
    LOST_ANSWER_S,
    POWER_CUT_SPREAD_S,
    WAN_SPREAD_S,
)
from notifyd.core.settings import Auth, change_between
from notifyd.core.signins import PROBE_DEADLINE_S
from notifyd.core.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """What is true now.

    access_expires_at, refresh_due_at: wall clock seconds. grant_age_s: since the administrator signed in.
    pending: outstanding sign-ins.
    """

    state: State
    can_send: bool
    account: str | None
    access_expires_at: float | None
    refresh_due_at: float | None
    grant_age_s: float | None
    problem: Problem | None
    pending: int
    generation: int


class Agent(MailDecisions):
    """Pure decision object: one `handle` at a time, in the order things happened."""

    def __init__(self, rng: random.Random, snapshot: Snapshot | None, now: Instant, boot_id: str) -> None:
        """rng: for jitter. snapshot: as saved last. boot_id: of the running kernel; another one voids boot times."""
        saved = snapshot or Snapshot(saved=now, boot_id=boot_id)
        super().__init__(rng, saved, now, boot_id)
        self._saved = snapshot
        self._stopping = False
        if saved.boot_id != boot_id or saved.saved.boot > now.boot:
            self._begin_new_boot(saved, now)
        if self._grant is not None and self._renewal.due is None:
            # A crash between storing the grant and saving that it is: the slot has it, no plan came with it.
            self._renewal.due = now.boot + self._rng.uniform(0.0, CLEAN_START_SPREAD_S)
        self._end_told = self._held(now) is Held.ENDED
        initial = deserved(self._held(now)) if self._uses_oauth() else State.UNCONFIGURED
        self._machine = TokenMachine(initial)
        self._restored = self._grant is not None

    def _begin_new_boot(self, saved: Snapshot, now: Instant) -> None:
        """Another boot: how long the power was off is not known, so no access token is believed."""
        shift = now.boot - saved.saved.boot
        self._renewal.rebase(shift)
        self._reminded += shift
        self._offset = now.wall - now.boot
        if self._gate.until is not None:
            self._gate.until += shift
        if self._grant is None:
            return
        self._grant = replace(self._grant, expires_boot=min(now.boot, self._grant.expires_boot + shift))
        if self._renewal.failure_class in (None, FailureClass.TRANSIENT):
            spread = CLEAN_START_SPREAD_S if saved.clean else POWER_CUT_SPREAD_S
            self._renewal.due = now.boot + self._rng.uniform(0.0, spread)

    # ---- the outside ------------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: Instant) -> list[Command]:
        """Take one fact; the answer is what to do, in order."""
        self._out = []
        self._announce_restored()
        self._watch_clock(now)
        self._end_token(now)
        self._dispatch(event, now)
        self._run_timers(now)
        self._tell_gate(now)
        return self._with_snapshot(now)

    def next_wakeup(self, now: Instant) -> float | None:
        """Boot seconds at which a Tick must be delivered; None when nothing waits for time."""
        gate, flight, grant = self._gate, self._renewal.flight, self._grant
        moments = (
            self._signins.next_deadline(),
            self._renewal.next_moment(now.boot) if self._can_refresh() and not self._stopping else None,
            flight.since + LOST_ANSWER_S if flight else None,
            gate.until if gate.problem and self._can_probe(now) else None,
            gate.probing + PROBE_DEADLINE_S if gate.probing is not None else None,
            now.boot + CLOCK_WATCH_S if self._clock_is_wrong() else None,
            self._next_reminder(),
            self._next_warning(now),
            grant.expires_boot if grant and not self._end_told else None,
        )
        return min((moment for moment in moments if moment is not None), default=None)

    def status(self, now: Instant) -> AgentStatus:
        """What is true now."""
        grant, due = self._grant, self._renewal.next_moment(now.boot)
        ended = self.state is State.VALID and self._held(now) is Held.ENDED
        return AgentStatus(
            state=State.EXPIRED if ended else self.state,
            can_send=self._hold_reason(now) is None,
            account=grant.account if grant else None,
            access_expires_at=now.wall + grant.expires_boot - now.boot if grant else None,
            refresh_due_at=now.wall + max(due - now.boot, 0.0) if grant and due is not None else None,
            grant_age_s=max(now.wall - grant.signed_in_wall, 0.0) if grant else None,
            problem=self._problem or self._gate.problem or self._signin_trouble(now) or self._secret_problem(now),
            pending=len(self._signins),
            generation=self._generation,
        )

    # ---- facts ------------------------------------------------------------------------------------------------------

    def _dispatch(self, event: Event, now: Instant) -> None:
        match event:
            case SettingsApplied():
                self._settings_applied(event, now)
            case SettingsCleared():
                self._settings_cleared(now)
            case SigninStarted():
                self._signin_started(event, now)
            case SigninAnswered():
                self._signin_answered(event, now)
            case RedeemFinished():
                self._redeem_finished(event, now)
            case RefreshRequested():
                self._refresh_requested(event, now)
            case RefreshFinished():
                self._refresh_finished(event, now)
            case GrantCommitted():
                self._grant_committed(event, now)
            case GrantCommitFailed():
                self._grant_commit_failed(event, now)
            case ProbeFinished():
                self._probe_finished(event, now)
            case MailOutcome():
                self._mail_outcome(event, now)
            case GrantForgotten():
                self._grant_forgotten(now)
            case WanUp():
                self._wan_up(now)
            case WanDown():
                self._step(Trigger.WAN_CHANGED, now)
                self._emit("network.wan_down", Level.WARNING)
            case Stopping():
                self._stopping = True
            case Tick():
                pass

    def _settings_applied(self, event: SettingsApplied, now: Instant) -> None:
        before, self._settings = self._settings, event.settings
        change = max(event.change, change_between(before, event.settings) if before else Change.NONE)
        self._secret_known = event.secret_known
        if before is None or before.secret_expires_on != event.settings.secret_expires_on:
            self._warned = None
        if before is not None and change is Change.NONE:
            return
        self._bump(now)
        if event.settings.auth is not Auth.OAUTH2:
            self._stop_oauth(now)
        elif before is None or change is Change.IDENTITY or before.auth is not Auth.OAUTH2:
            self._begin_identity(now, wipe=event.change is not Change.NONE or before is not None)
        else:
            self._keep_identity(change, now)
        self._emit("settings.applied", Level.NOTICE, change=change.name.lower())

    def _stop_oauth(self, now: Instant) -> None:
        """A credential that nobody uses is not kept."""
        self._cancel_signins("settings-changed")
        self._drop_grant("another authentication method was applied", wipe=self._grant is not None)
        self._step(Trigger.SETTINGS_CLEARED, now)

    def _begin_identity(self, now: Instant, *, wipe: bool) -> None:
        self._cancel_signins("settings-changed")
        self._drop_grant("tenant, client, sender or cloud was changed", wipe=wipe)
        self._step(Trigger.IDENTITY_APPLIED, now)

    def _keep_identity(self, change: Change, now: Instant) -> None:
        self._step(Trigger.SETTINGS_KEPT, now)
        refused = self._renewal.failure_class in (FailureClass.CLIENT, FailureClass.CONFIG)
        if refused or (change is Change.SECRET and self._problem is not None):
            self._renewal.hasten(now.boot, "admin")
        self._gate.hasten(now.boot)

    def _settings_cleared(self, now: Instant) -> None:
        self._settings, self._secret_known = None, False
        self._bump(now)
        self._cancel_signins("settings-cleared")
        self._drop_grant("the settings were cleared", wipe=True)
        self._step(Trigger.SETTINGS_CLEARED, now)
        self._emit("settings.cleared", Level.NOTICE)

    def _grant_forgotten(self, now: Instant) -> None:
        self._bump(now)
        self._cancel_signins("forgotten")
        self._drop_grant("the administrator asked for it", wipe=True)
        self._step(Trigger.GRANT_FORGOTTEN, now)

    def _refresh_requested(self, event: RefreshRequested, now: Instant) -> None:
        if event.by == "admin":
            self._gate.hasten(now.boot)
        if self._step(Trigger.REFRESH_REQUESTED, now):
            return
        usable = self._held(now) is Held.USABLE
        match event.by:
            case "admin" if event.force or not usable or self._problem is not None:
                self._renewal.hasten(now.boot, "admin")
            case "wan-up":
                self._retry_soon(now, "wan-up")
            case "smtp-rejected":
                self._doubt_token(now)
            case "mail-waiting" if not usable and self._renewal.failures == 0:
                self._renewal.hasten(now.boot + self._rng.uniform(0.0, WAN_SPREAD_S), "mail-waiting")

    def _grant_committed(self, event: GrantCommitted, now: Instant) -> None:
        commit = self._committing
        if commit is None or commit.generation != event.generation:
            return
        self._committing = None
        self._adopt(commit, now)
        if commit.signin_id:
            self._gate.open()
            self._signin_committed(commit, now)
            return
        self._step(Trigger.REFRESHED, now)
        self._gate.hasten(now.boot)

    def _grant_commit_failed(self, event: GrantCommitFailed, now: Instant) -> None:
        """The grant before it still stands, in the store and here."""
        commit = self._committing
        if commit is None or commit.generation != event.generation:
            return
        self._committing = None
        self._step(Trigger.COMMIT_FAILED, now)
        self._emit_problem("token.store_failed", event.problem)
        signin = self._signins.committing(commit.signin_id)
        if signin is not None:
            self._fail_signin(signin, event.problem, now)
            return
        left = self._grant.expires_boot - now.boot if self._grant else 0.0
        self._renewal.failed(self._rng, now.boot, FailureClass.TRANSIENT, life_left_s=left)
        self._set_problem(event.problem)

    # ---- time -------------------------------------------------------------------------------------------------------

    def _run_timers(self, now: Instant) -> None:
        self._time_out_signins(now)
        self._give_up_lost_answer(now)
        self._warn_of_secret(now)
        self._remind(now)
        if not self._stopping:
            self._refresh_if_due(now)
            self._probe_if_due(now)

    def _announce_restored(self) -> None:
        if self._restored and self._grant is not None:
            self._emit("token.restored", Level.INFO, account=self._grant.account, state=self.state.value)
        self._restored = False

    def _with_snapshot(self, now: Instant) -> list[Command]:
        """Save what changed, after the erasing of a grant and before everything else."""
        current = self._snapshot(self._saved.saved if self._saved is not None else now)
        if current == self._saved:
            return self._out
        self._saved = current = replace(current, saved=now)
        wiped = [command for command in self._out if isinstance(command, WipeGrant)]
        rest = [command for command in self._out if not isinstance(command, WipeGrant)]
        return [*wiped, SaveSnapshot(current), *rest]

    def _snapshot(self, saved: Instant) -> Snapshot:
        renewal, gate = self._renewal, self._gate
        return Snapshot(
            saved=saved,
            boot_id=self._boot_id,
            settings=self._settings,
            secret_known=self._secret_known,
            generation=self._generation,
            epoch=self._epoch,
            grant=self._grant,
            attempts=tuple(renewal.attempts),
            due_boot=renewal.due,
            failures=renewal.failures,
            failure_class=renewal.failure_class.value if renewal.failure_class else "",
            first_delay_s=renewal.first_delay_s,
            problem=self._problem,
            gate_problem=gate.problem,
            gate_until=gate.until,
            gate_failures=gate.failures,
            gate_breaker=gate.breaker,
            warned_days=self._warned,
            reminders=self._reminders,
            reminded_boot=self._reminded,
            clean=self._stopping,
        )
