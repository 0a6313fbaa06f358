"""Random lives of a gateway: whatever happens in whatever order, the promises of the design hold.

The model beside the agent is as small as possible: what the store holds, which requests are under way, what the clocks
say. Every rule lets something happen; the invariants are checked after each.
"""

from __future__ import annotations

import random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from notifyd.core.agent import Agent
from notifyd.core.commands import (
    Answer,
    Command,
    CommitGrant,
    Emit,
    HoldMail,
    Probe,
    Redeem,
    Refresh,
    ReleaseMail,
    SaveSnapshot,
    WipeGrant,
)
from notifyd.core.event_definitions import DEFINITIONS
from notifyd.core.events import (
    Event,
    Failure,
    FailureKind,
    GrantCommitFailed,
    GrantCommitted,
    GrantForgotten,
    GrantResult,
    MailOutcome,
    OAuthError,
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
from notifyd.core.instant import Instant
from notifyd.core.machine import State
from notifyd.core.problems import named, network_problem, smtp_problem
from notifyd.core.settings import Auth, Change, Security, Settings
from notifyd.core.snapshot import Snapshot, from_json
from tests.core.world import SENDER, SETTINGS, WALL, grant

FAILURES = [
    Failure(503), Failure(429, retry_after_s=30), Failure(400, "invalid_grant", codes=(50173,)),
    Failure(401, "invalid_client", codes=(7000222,)), Failure(400, "invalid_scope"), Failure(kind=FailureKind.DNS),
    Failure(kind=FailureKind.TIMEOUT), Failure(kind=FailureKind.TLS_TIME), Failure(kind=FailureKind.MALFORMED),
    Failure(kind=FailureKind.WORKER), Failure(200),
]  # fmt: skip
PROBES = [
    None, None, smtp_problem(535, "5.7.3", "no", "auth", 0.0), smtp_problem(535, "5.7.139", "no", "auth", 0.0),
    network_problem("timeout", "h", "", 0.0),
]  # fmt: skip
OTHER = Settings("smtp.example", 587, Security.STARTTLS, Auth.OAUTH2, "public", "other@contoso.example",
                 SETTINGS.client_id, SETTINGS.tenant_id)  # fmt: skip
SERVER = Settings("relay.example", 587, Security.STARTTLS, Auth.OAUTH2, "public", SENDER,
                  SETTINGS.client_id, SETTINGS.tenant_id)  # fmt: skip
PLAIN = Settings("relay.example", 25, Security.NONE, Auth.NONE, "public", SENDER)


class GatewayLife(RuleBasedStateMachine):
    """One gateway, its store, its requests under way."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = random.Random(0)
        self.boot, self.offset, self.boot_id = 100.0, WALL, "b0"
        self.snapshot: Snapshot | None = None
        self.settings: Settings | None = None
        self.stored: tuple[Settings | None, GrantResult] | None = None
        self.rebooted = False
        self.deserved_end = 0.0
        self.serial = 0
        self.signins: dict[str, str] = {}
        self.redeems: list[Redeem] = []
        self.refreshes: list[Refresh] = []
        self.late: list[RefreshFinished] = []
        self.probes: list[Probe] = []
        self.wiped_for: str | None = None
        self.told: bool | None = None
        self.requests: list[float] = []
        self.shortest_life = 3600
        self.agent = Agent(self.rng, None, self.now, self.boot_id)

    @property
    def now(self) -> Instant:
        return Instant(self.boot, self.boot + self.offset)

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.rng.seed(seed)

    def tell(self, event: Event, wipe_allowed: str = "") -> list[Command]:
        commands = self.agent.handle(event, self.now)
        for command in commands:
            self.obey(command, wipe_allowed)
        return commands

    def obey(self, command: Command, wipe_allowed: str) -> None:
        match command:
            case SaveSnapshot(snapshot):
                self.snapshot = from_json(snapshot.as_json())
            case WipeGrant():
                assert wipe_allowed, "a grant was erased although nobody asked for it"
                self.stored = None
            case CommitGrant(generation, result, _):
                assert self.rng is not None
                if self.rng.random() < 0.1:
                    self.tell(GrantCommitFailed(generation, named("store.write-failed", self.now.wall)))
                else:
                    self.stored = (self.settings, result)
                    self.rebooted = False
                    self.shortest_life = min(self.shortest_life, result.expires_in)
                    self.deserved_end = self.boot + result.expires_in
                    self.tell(GrantCommitted(generation))
            case Redeem():
                assert self.signins.get(command.signin_id) == "answered", "redeemed without an answered sign-in"
                self.redeems.append(command)
            case Refresh():
                assert not self.refreshes, "two refreshes at once"
                assert self.stored is not None, "a refresh of nothing"
                self.refreshes.append(command)
                self.requests.append(self.boot)
            case Probe():
                self.probes.append(command)
            case HoldMail() | ReleaseMail():
                self.told = isinstance(command, ReleaseMail)
            case Emit():
                assert command.event in DEFINITIONS, command.event
            case Answer(signin_id, ok):
                if ok:
                    assert self.stored is not None, "the page said success although nothing is stored"
                    assert self.agent.status(self.now).state in (State.VALID, State.EXPIRED)
                self.signins.pop(signin_id, None)

    # ---- what happens -------------------------------------------------------------------------------------------

    @rule(which=st.sampled_from([SETTINGS, SETTINGS, OTHER, SERVER, PLAIN]), secret=st.booleans(), told=st.booleans())
    def apply(self, which: Settings, secret: bool, told: bool) -> None:
        change = Change.NONE
        if told:
            change = Change.SECRET if secret and self.settings == which else Change.NONE
            if self.settings is None:
                change = Change.IDENTITY
        self.settings = which
        self.tell(SettingsApplied(which, change, True), wipe_allowed="settings")

    @rule()
    def clear(self) -> None:
        self.settings = None
        self.tell(SettingsCleared(), wipe_allowed="cleared")

    @rule()
    def forget(self) -> None:
        self.tell(GrantForgotten(), wipe_allowed="forgotten")

    @rule(age=st.sampled_from([0, 0, 0, 1]))
    def start_signin(self, age: int) -> None:
        self.serial += 1
        name = f"state-{self.serial}"
        self.signins[name] = "open"
        self.tell(SigninStarted(name, self.agent.status(self.now).generation - age))

    @rule(data=st.data(), outcome=st.sampled_from(["code", "error", "nothing"]))
    def answer_signin(self, data: st.DataObject, outcome: str) -> None:
        known = [*self.signins, "forged"]
        name = data.draw(st.sampled_from(known))
        if self.signins.get(name) == "open":
            self.signins[name] = "answered"
        error = OAuthError("access_denied", "AADSTS65004: no") if outcome == "error" else None
        self.tell(SigninAnswered(name, outcome == "code", error))

    @precondition(lambda self: self.redeems)
    @rule(data=st.data(), good=st.booleans(), lifetime=st.sampled_from([300, 3600, 86400]))
    def redeem(self, data: st.DataObject, good: bool, lifetime: int) -> None:
        command = self.redeems.pop(data.draw(st.integers(0, len(self.redeems) - 1)))
        result: GrantResult | Failure = grant(lifetime) if good else data.draw(st.sampled_from(FAILURES))
        self.tell(RedeemFinished(command.signin_id, command.generation, result))

    @precondition(lambda self: self.refreshes)
    @rule(data=st.data(), good=st.booleans(), lifetime=st.sampled_from([300, 3600, 86400]))
    def refresh(self, data: st.DataObject, good: bool, lifetime: int) -> None:
        command = self.refreshes.pop()
        result: GrantResult | Failure = grant(lifetime) if good else data.draw(st.sampled_from(FAILURES))
        event = RefreshFinished(command.generation, result)
        self.late.append(event)
        self.tell(event)

    @precondition(lambda self: self.late and not self.refreshes)
    @rule(data=st.data())
    def replay_an_old_answer(self, data: st.DataObject) -> None:
        before = self.stored
        self.tell(data.draw(st.sampled_from(self.late)))
        if before is not None:
            assert self.stored == before, "an answer that nobody waits for was adopted"

    @precondition(lambda self: self.probes)
    @rule(outcome=st.sampled_from(PROBES))
    def probe(self, outcome: object) -> None:
        self.tell(ProbeFinished(self.probes.pop().generation, outcome))  # type: ignore[arg-type]  # of PROBES

    @rule(ok=st.booleans(), breaker=st.booleans(), outcome=st.sampled_from(PROBES[2:]))
    def mail(self, ok: bool, breaker: bool, outcome: object) -> None:
        self.tell(MailOutcome(ok, None if ok else outcome, breaker and not ok))  # type: ignore[arg-type]  # of PROBES

    @rule(by=st.sampled_from(["admin", "wan-up", "smtp-rejected", "schedule", "mail-waiting"]), force=st.booleans())
    def ask(self, by: str, force: bool) -> None:
        self.tell(RefreshRequested(by, force))

    @rule(up=st.booleans())
    def wan(self, up: bool) -> None:
        self.tell(WanUp() if up else WanDown())

    @rule(seconds=st.sampled_from([0.0, 1.0, 30.0, 299.0, 301.0, 601.0, 3600.0, 90000.0]))
    def time(self, seconds: float) -> None:
        self.boot += seconds
        if seconds > 300:
            self.refreshes.clear()  # its answer is given up
        self.tell(Tick())

    @rule()
    def next_moment(self) -> None:
        due = self.agent.next_wakeup(self.now)
        if due is not None:
            self.boot = max(self.boot, due)
            if self.refreshes and self.boot >= self.requests[-1] + 300:
                self.refreshes.clear()
            self.tell(Tick())

    @rule(wall=st.floats(0, 4e9))
    def set_clock(self, wall: float) -> None:
        self.offset = wall - self.boot
        self.tell(Tick())

    @rule(clean=st.booleans(), reboot=st.booleans())
    def restart(self, clean: bool, reboot: bool) -> None:
        if clean:
            self.tell(Stopping())
        if reboot:
            self.serial += 1
            self.boot_id, self.boot = f"b{self.serial}", 5.0
            self.requests.clear()
            self.rebooted = True
        self.signins.clear()
        self.redeems.clear()
        self.refreshes.clear()
        self.probes.clear()
        self.told = None
        self.agent = Agent(self.rng, self.snapshot, self.now, self.boot_id)
        if self.settings is not None:
            self.tell(SettingsApplied(self.settings, Change.NONE, True))

    # ---- what must hold -----------------------------------------------------------------------------------------

    @invariant()
    def valid_only_with_a_grant(self) -> None:
        status = self.agent.status(self.now)
        if status.state is State.VALID:
            assert self.stored is not None
            assert not self.rebooted
            assert status.access_expires_at is not None
            assert status.access_expires_at > self.now.wall - 1e-3
            assert self.boot < self.deserved_end

    @invariant()
    def a_held_grant_belongs_to_the_applied_identity(self) -> None:
        if self.stored is not None and self.agent.status(self.now).account:
            made_for = self.stored[0]
            assert made_for is not None
            assert self.settings is not None
            assert made_for.sender == self.settings.sender

    @invariant()
    def a_stored_grant_is_known(self) -> None:
        if self.stored is not None:
            assert self.agent.status(self.now).account is not None

    @invariant()
    def mail_flows_exactly_when_it_can(self) -> None:
        if self.told is not None:
            status = self.agent.status(self.now)
            due = self.agent.next_wakeup(self.now)
            assert self.told == status.can_send or (due is not None and due <= self.boot)

    @invariant()
    def somebody_or_something_will_act(self) -> None:
        status = self.agent.status(self.now)
        if status.state is State.PENDING:
            assert status.pending > 0
            assert self.agent.next_wakeup(self.now) is not None
        if status.state is State.EXPIRED:
            assert self.agent.next_wakeup(self.now) is not None or not self.settings

    @invariant()
    def never_a_storm(self) -> None:
        recent = [moment for moment in self.requests if self.boot - moment < 3600]
        assert len(recent) <= max(12, 2 * 3600 / self.shortest_life)

    @invariant()
    def a_timer_never_spins(self) -> None:
        due = self.agent.next_wakeup(self.now)
        if due is not None and due <= self.boot:
            self.tell(Tick())
            later = self.agent.next_wakeup(self.now)
            assert later is None or later > self.boot


TestGatewayLife = GatewayLife.TestCase
TestGatewayLife.settings = settings(
    max_examples=40, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
