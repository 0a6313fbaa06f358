"""A world for the agent: clocks that a test turns, a store that keeps what it is told, and words for what happens."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from notifyd.core.agent import Agent, AgentStatus
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
from notifyd.core.events import (
    Event,
    Failure,
    GrantCommitted,
    GrantResult,
    ProbeFinished,
    RedeemFinished,
    RefreshFinished,
    SettingsApplied,
    SigninAnswered,
    SigninStarted,
    Stopping,
    Tick,
)
from notifyd.core.instant import Instant
from notifyd.core.machine import State
from notifyd.core.problem import Problem
from notifyd.core.secret import Secret
from notifyd.core.settings import Auth, Change, Security, Settings
from notifyd.core.snapshot import Snapshot, from_json

TENANT = "11111111-2222-4333-8444-555555555555"
CLIENT = "66666666-7777-4888-9999-aaaaaaaaaaaa"
SENDER = "gateway@contoso.example"
SCOPE = "https://outlook.office.com/SMTP.Send"
WALL = 1_795_564_800.0  # 2026-11-25

SETTINGS = Settings(
    "smtp.office365.com", 587, Security.STARTTLS, Auth.OAUTH2, "public", SENDER, CLIENT, TENANT
)  # fmt: skip

INVALID_GRANT = Failure(400, "invalid_grant", codes=(50173,), description="AADSTS50173: revoked.")
INVALID_CLIENT = Failure(401, "invalid_client", codes=(7000222,), description="AADSTS7000222: expired.")
BUSY = Failure(503)


def claims(**changes: object) -> Mapping[str, object]:
    """The id_token of the sender."""
    issuer = f"https://login.microsoftonline.com/{TENANT}/v2.0"
    base = {"aud": CLIENT, "iss": issuer, "tid": TENANT, "exp": WALL + 1e9, "iat": 0, "preferred_username": SENDER}
    return {**base, "oid": "oid-1", **changes}


def grant(expires_in: int = 3600, refresh_in: int | None = None, **changes: object) -> GrantResult:
    """A token answer for the sender."""
    base = GrantResult(
        SENDER, "oid-1", TENANT, (SCOPE,), expires_in, refresh_in, claims(), True, b"sealed", Secret("access")
    )  # fmt: skip
    return replace(base, **changes)  # type: ignore[arg-type]  # names of GrantResult's fields


def is_a(command: Command, *kinds: type[Command]) -> bool:
    """True when the command is one of these kinds."""
    return isinstance(command, kinds)


class World:
    """One gateway. `done` keeps every command since the last `forget`; the store obeys and answers at once.

    answers_probes, probe_outcome: the mail server answers login checks at once. refresh_answer: Microsoft does, too.
    """

    def __init__(self, seed: int = 1, boot: float = 1000.0, wall: float = WALL) -> None:
        self.boot, self.wall_offset = boot, wall - boot
        self.boot_id = "boot-1"
        self.rng = random.Random(seed)
        self.snapshot: Snapshot | None = None
        self.stored: GrantResult | None = None
        self.done: list[Command] = []
        self.commit_works = True
        self.answers_probes = False
        self.probe_outcome: Problem | None = None
        self.refresh_answer: GrantResult | Failure | None = None
        self.agent = Agent(self.rng, None, self.now, self.boot_id)

    @property
    def now(self) -> Instant:
        return Instant(self.boot, self.boot + self.wall_offset)

    @property
    def status(self) -> AgentStatus:
        return self.agent.status(self.now)

    @property
    def state(self) -> State:
        return self.status.state

    @property
    def problem(self) -> Problem:
        """The problem that the page shows; there must be one."""
        found = self.status.problem
        assert found is not None
        return found

    def tell(self, event: Event) -> list[Command]:
        """One fact; what the store must do is done, and its answer told, before this returns."""
        commands = self.agent.handle(event, self.now)
        self.done += commands
        for command in commands:
            match command:
                case SaveSnapshot(snapshot):
                    self.snapshot = from_json(snapshot.as_json())
                case WipeGrant():
                    self.stored = None
                case CommitGrant(generation, result, _) if self.commit_works:
                    self.stored = result
                    self.tell(GrantCommitted(generation))
                case Probe(generation) if self.answers_probes:
                    self.tell(ProbeFinished(generation, self.probe_outcome))
                case Refresh(generation) if self.refresh_answer is not None:
                    self.tell(RefreshFinished(generation, self.refresh_answer))
        return commands

    def forget(self) -> None:
        self.done = []

    def saw(self, *kinds: type[Command]) -> list[Command]:
        """Commands of these kinds since the last `forget`."""
        return [command for command in self.done if isinstance(command, kinds)]

    def events(self, name: str = "") -> list[Emit]:
        """Event records since the last `forget`, by name."""
        found = [command for command in self.done if isinstance(command, Emit)]
        return [emitted for emitted in found if not name or emitted.event == name]

    def answers(self) -> list[Answer]:
        return [command for command in self.done if isinstance(command, Answer)]

    def holds(self) -> list[HoldMail | ReleaseMail]:
        return [command for command in self.done if isinstance(command, HoldMail | ReleaseMail)]

    # ---- what people and servers do -----------------------------------------------------------------------------

    def apply(self, settings: Settings = SETTINGS, change: Change = Change.IDENTITY, secret: bool = True) -> None:
        self.tell(SettingsApplied(settings, change, secret))

    def start_signin(self, signin_id: str = "state-1") -> None:
        self.tell(SigninStarted(signin_id, self.status.generation))

    def code_arrives(self, signin_id: str = "state-1") -> None:
        self.tell(SigninAnswered(signin_id, has_code=True))

    def redeemed(self, result: GrantResult | Failure, signin_id: str = "state-1") -> None:
        self.tell(RedeemFinished(signin_id, self.status.generation, result))

    def probed(self, outcome: Problem | None = None) -> None:
        self.tell(ProbeFinished(self.status.generation, outcome))

    def sign_in(self, result: GrantResult | None = None, outcome: Problem | None = None, name: str = "state-1") -> None:
        """The whole path to Valid."""
        self.start_signin(name)
        self.code_arrives(name)
        self.redeemed(result or grant(), name)
        self.probed(outcome)

    def valid(self, result: GrantResult | None = None) -> World:
        """A gateway in the state Valid, with an empty record."""
        self.apply()
        self.sign_in(result)
        assert self.state is State.VALID
        self.forget()
        return self

    def refreshed(self, result: GrantResult | Failure) -> None:
        """The answer to the refresh under way."""
        flights = self.saw(Refresh)
        assert flights, "no refresh is under way"
        command = flights[-1]
        assert isinstance(command, Refresh)
        self.tell(RefreshFinished(command.generation, result))

    def refresh_now(self, result: GrantResult | Failure) -> None:
        """Let time pass until the next refresh and answer it."""
        self.until_refresh()
        self.refreshed(result)

    # ---- time ---------------------------------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        """Let time pass, with a Tick at every moment the agent asks for."""
        end = self.boot + seconds
        while True:
            due = self.agent.next_wakeup(self.now)
            if due is None or due > end:
                break
            self.boot = max(self.boot, due)
            self.tell(Tick())
        self.boot = end
        self.tell(Tick())

    def until_refresh(self, limit: float = 40 * 86400.0) -> float:
        """Let time pass until a refresh goes out; the seconds it took."""
        self.forget()
        begin = self.boot
        while not self.saw(Refresh):
            due = self.agent.next_wakeup(self.now)
            assert due is not None, "no refresh will come"
            assert due - begin < limit, "no refresh within the limit"
            self.boot = max(self.boot, due)
            self.tell(Tick())
        return self.boot - begin

    def set_clock(self, wall: float) -> None:
        self.wall_offset = wall - self.boot

    def restart(self, *, clean: bool = False, power_off_s: float | None = None, wall: float | None = None) -> None:
        """End the process and begin again from what was saved; with `power_off_s` the machine as well."""
        if clean:
            self.tell(Stopping())
        if power_off_s is not None:
            self.boot_id += "+"
            self.wall_offset = (self.now.wall + power_off_s if wall is None else wall) - 10.0
            self.boot = 10.0
        self.agent = Agent(self.rng, self.snapshot, self.now, self.boot_id)


__all__ = ["Probe", "Redeem", "World", "claims", "grant", "is_a"]
