"""Five years of one gateway in simulated time, with the shipped `Agent`. No sockets, no waiting.

`python -m tests.campaigns.five_years [--years Y] [--seed S] [--runs N]` draws outages, rotations, password changes,
secret expiries, policies, throttling, clock faults, reboots, crashes and mail at random, lets a person act only when
asked, and prints:

- the share of time with a usable token, of the time in which Microsoft would have granted one (promise: ≥ 99.99 %);
- refresh tokens lost (promise: 0);
- actions asked for that were not needed (promise: 0), and the longest time from Microsoft's first refusal to the
  alarm (promise: ≤ 15 minutes).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from notifyd.core.agent import Agent
from notifyd.core.commands import Command, CommitGrant, Emit, Probe, Refresh, SaveSnapshot, WipeGrant
from notifyd.core.events import (
    Event,
    Failure,
    FailureKind,
    GrantCommitted,
    GrantResult,
    ProbeFinished,
    RedeemFinished,
    RefreshFinished,
    RefreshRequested,
    SettingsApplied,
    SigninAnswered,
    SigninStarted,
    Stopping,
    Tick,
    WanDown,
    WanUp,
)
from notifyd.core.instant import Instant
from notifyd.core.machine import State
from notifyd.core.secret import Secret
from notifyd.core.settings import Auth, Change, Security, Settings
from notifyd.core.snapshot import Snapshot, from_json

BUILD = Path(__file__).resolve().parents[2] / "build"
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
YEAR = 365.25 * DAY
WALL = 1_795_564_800.0
SETTINGS = Settings("smtp", 587, Security.STARTTLS, Auth.OAUTH2, "public", "g@c.example", "client", "tenant")

PER_YEAR = {
    "wan": 40, "upstream": 6, "microsoft": 6, "throttling": 12, "power": 3, "reboot": 12, "crash": 12, "clock": 10,
    "revoked": 1.5, "policy": 0.5, "disabled": 0.3,
}  # fmt: skip
"""How often each thing happens, on average; gaps are exponential."""

SECRET_LIFE_S = 365 * DAY
MAIL_GAP_S = 20 * MINUTE
REFUSALS = {
    "revoked": Failure(400, "invalid_grant", codes=(50173,)),
    "policy": Failure(400, "interaction_required", codes=(50076,), claims="{}"),
    "disabled": Failure(400, "invalid_grant", codes=(50057,)),
}


@dataclass
class Tally:
    """What is counted. lost_s: Microsoft would have granted, and no usable token was held."""

    granted_s: float = 0.0
    lost_s: float = 0.0
    requests: int = 0
    most_per_hour: int = 0
    tokens_lost: int = 0
    alarms: int = 0
    needless: int = 0
    slowest_alarm_s: float = 0.0
    happened: Counter[str] = field(default_factory=Counter)


class Life:
    """One gateway, Microsoft, the line between them, and a person who acts when asked."""

    def __init__(self, seed: int, years: float) -> None:
        self.rng = random.Random(seed)
        self.end = years * YEAR
        self.t = 0.0
        self.tally = Tally()
        self.boot_began, self.boots = 0.0, 1
        self.clock_error = 0.0
        self.powered, self.wan, self.upstream = True, True, True
        self.microsoft: Failure | None = None
        self.throttled = False
        self.refusal: str | None = None
        self.refused_since: float | None = None
        self.secret_ends = SECRET_LIFE_S
        self.stored: GrantResult | None = None
        self.access_ends = 0.0
        self.last_use = 0.0
        self.recent: list[float] = []
        self.plans: list[tuple[float, int, str]] = []
        self.serial = 0
        self.inbox: list[Event] = []
        self.person_comes: float | None = None
        self.snapshot: Snapshot | None = None
        self.agent = Agent(self.rng, None, self.now, "boot-1")

    @property
    def now(self) -> Instant:
        return Instant(self.t - self.boot_began, WALL + self.t + self.clock_error)

    # ---- the world ----------------------------------------------------------------------------------------------

    def plan(self, after: float, what: str) -> None:
        self.serial += 1
        self.plans.append((self.t + after, self.serial, what))
        self.plans.sort(reverse=True)

    def often(self, what: str) -> None:
        self.plan(self.rng.expovariate(PER_YEAR[what] / YEAR), what)

    def microsoft_says(self) -> GrantResult | Failure:
        """The answer to a token request made now."""
        if not self.wan:
            return Failure(kind=FailureKind.NETWORK)
        if not self.upstream:
            return Failure(kind=FailureKind.DNS)
        if abs(self.clock_error) > 30 * DAY:
            return Failure(kind=FailureKind.TLS_TIME)
        if self.microsoft is not None:
            return self.microsoft
        if self.throttled:
            return Failure(400, "invalid_grant", codes=(50196,))
        if self.t >= self.secret_ends:
            return Failure(401, "invalid_client", codes=(7000222,))
        if self.refusal is not None:
            return REFUSALS[self.refusal]
        if self.t - self.last_use > 90 * DAY:
            return Failure(400, "invalid_grant", codes=(700082,))
        return self.new_token()

    def new_token(self) -> GrantResult:
        life = int(self.rng.uniform(60 * MINUTE, 90 * MINUTE))
        return GrantResult("g@c.example", "o", "t", (), life, None, {}, True, b"", Secret("t"))

    def would_grant(self) -> bool:
        return self.powered and isinstance(self.microsoft_says(), GrantResult)

    def usable(self) -> bool:
        held = self.agent.status(self.now).state in (State.VALID, State.PENDING)
        return self.powered and held and self.t < self.access_ends

    # ---- the service --------------------------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        if not self.powered:
            return
        for command in self.agent.handle(event, self.now):
            self.obey(command)
        while self.inbox:
            self.tell(self.inbox.pop(0))

    def obey(self, command: Command) -> None:
        match command:
            case SaveSnapshot(snapshot):
                self.snapshot = snapshot
            case WipeGrant():
                self.tally.tokens_lost += self.stored is not None
                self.stored = None
            case Refresh(generation):
                self.refresh(generation)
            case CommitGrant(generation, result):
                self.stored = result
                self.access_ends = self.t + result.expires_in
                self.last_use = self.t
                self.inbox.append(GrantCommitted(generation))
            case Probe(generation):
                self.inbox.append(ProbeFinished(generation, None))
            case Emit("token.signin_needed", fields=fields) if "reminder" not in fields:
                self.alarm(self.refusal is not None or self.t - self.last_use > 90 * DAY)
            case Emit("token.refresh_failed", fields=fields) if fields.get("code") == "AADSTS7000222":
                self.alarm(self.t >= self.secret_ends)
            case _:
                pass

    def refresh(self, generation: int) -> None:
        result = self.microsoft_says()
        self.tally.requests += 1
        self.recent = [*(moment for moment in self.recent if self.t - moment < HOUR), self.t]
        self.tally.most_per_hour = max(self.tally.most_per_hour, len(self.recent))
        human = isinstance(result, Failure) and (result.error == "invalid_client" or result in REFUSALS.values())
        if human and self.refused_since is None:
            self.refused_since = self.t
        self.inbox.append(RefreshFinished(generation, result))

    def alarm(self, needed: bool) -> None:
        """A person is asked; they come within hours, or after the weekend."""
        if self.person_comes is not None:
            return
        self.tally.alarms += 1
        self.tally.needless += not needed
        if self.refused_since is not None:
            self.tally.slowest_alarm_s = max(self.tally.slowest_alarm_s, self.t - self.refused_since)
        self.person_comes = self.t + self.rng.choice([HOUR, 5 * HOUR, 3 * DAY])
        self.plan(self.person_comes - self.t, "person")

    def start(self, *, reboot: bool) -> None:
        if reboot:
            self.boots += 1
            self.boot_began = self.t - 20.0
        assert self.snapshot is not None
        self.agent = Agent(self.rng, from_json(self.snapshot.as_json()), self.now, f"boot-{self.boots}")
        self.tell(SettingsApplied(SETTINGS, Change.NONE, True))
        if reboot:
            self.plan(15.0, "dhcp")

    # ---- what happens -------------------------------------------------------------------------------------------

    def begin(self) -> None:
        self.tell(SettingsApplied(SETTINGS, Change.IDENTITY, True))
        self.sign_in()
        for what in PER_YEAR:
            self.often(what)
        self.plan(MAIL_GAP_S, "mail")

    def sign_in(self) -> None:
        self.serial += 1
        name = f"s{self.serial}"
        self.tell(SigninStarted(name, self.agent.status(self.now).generation))
        self.tell(SigninAnswered(name, True))
        self.tell(RedeemFinished(name, self.agent.status(self.now).generation, self.new_token()))

    def person(self) -> None:
        """Does what the page says: a new secret, or a new sign-in (first setting right what the tenant had wrong)."""
        self.person_comes, self.refused_since = None, None
        if self.t >= self.secret_ends:
            self.secret_ends = self.t + SECRET_LIFE_S
            self.tell(SettingsApplied(SETTINGS, Change.SECRET, True))
        elif self.powered and self.wan and self.upstream:
            self.refusal = None
            self.sign_in()
        else:
            self.plan(HOUR, "person")
            self.person_comes = self.t + HOUR

    def happen(self, what: str) -> None:
        self.tally.happened[what] += 1
        handler = getattr(self, f"on_{what}", None)
        if handler is not None:
            handler()
        if what in PER_YEAR:
            self.often(what)

    def on_person(self) -> None:
        self.person()

    def on_mail(self) -> None:
        if not self.usable():
            self.tell(RefreshRequested("mail-waiting"))
        self.plan(self.rng.expovariate(1 / MAIL_GAP_S), "mail")

    def on_wan(self) -> None:
        if self.wan:
            self.wan = False
            self.tell(WanDown())
            self.plan(self.rng.lognormvariate(5.5, 1.5), "wan_back")

    def on_wan_back(self) -> None:
        self.wan = True
        self.tell(WanUp())

    def on_upstream(self) -> None:
        self.upstream = False
        self.plan(self.rng.lognormvariate(6.5, 1.0), "upstream_back")

    def on_upstream_back(self) -> None:
        self.upstream = True

    def on_microsoft(self) -> None:
        self.microsoft = self.rng.choice([Failure(503), Failure(429, retry_after_s=90.0), Failure(500, "server_error"),
                                          Failure(kind=FailureKind.TIMEOUT), Failure(200)])  # fmt: skip
        self.plan(min(self.rng.lognormvariate(6.5, 1.0), 6 * HOUR), "microsoft_back")

    def on_microsoft_back(self) -> None:
        self.microsoft = None

    def on_throttling(self) -> None:
        self.throttled = True
        self.plan(self.rng.uniform(1, 8) * MINUTE, "throttling_over")

    def on_throttling_over(self) -> None:
        self.throttled = False

    def on_revoked(self) -> None:
        self.refusal = self.refusal or "revoked"

    def on_policy(self) -> None:
        self.refusal = self.refusal or "policy"

    def on_disabled(self) -> None:
        self.refusal = self.refusal or "disabled"

    def on_power(self) -> None:
        if self.powered:
            self.powered = False
            self.plan(min(self.rng.lognormvariate(7.0, 1.5), 20 * DAY), "power_back")

    def on_power_back(self) -> None:
        self.powered = True
        self.clock_error = -(WALL + self.t) + 1000.0 if self.rng.random() < 0.5 else 0.0
        if self.clock_error:
            self.plan(self.rng.uniform(20.0, 90.0), "ntp")
        self.start(reboot=True)

    def on_reboot(self) -> None:
        if self.powered:
            self.tell(Stopping())
            self.start(reboot=True)

    def on_crash(self) -> None:
        if self.powered:
            self.start(reboot=False)

    def on_clock(self) -> None:
        self.clock_error = self.rng.choice([-YEAR, -DAY, -HOUR, -5.0, 5.0, HOUR, 8 * DAY, 10 * YEAR, -50 * YEAR])
        self.plan(self.rng.expovariate(1 / (10 * MINUTE)), "ntp")

    def on_ntp(self) -> None:
        self.clock_error = 0.0

    def on_dhcp(self) -> None:
        if self.wan:
            self.tell(WanUp())

    # ---- time ---------------------------------------------------------------------------------------------------

    def run(self) -> Tally:
        self.begin()
        while self.t < self.end:
            self.advance(*self.next_thing())
        return self.tally

    def next_thing(self) -> tuple[float, str]:
        moment, _, what = self.plans[-1]
        wakeup = self.agent.next_wakeup(self.now) if self.powered else None
        if wakeup is not None and wakeup + self.boot_began + 0.001 < moment:
            return max(wakeup + self.boot_began + 0.001, self.t), ""
        self.plans.pop()
        return moment, what

    def advance(self, moment: float, what: str) -> None:
        """Nothing changes until `moment`, except that the token may end on the way."""
        granted, usable = self.would_grant(), self.usable()
        span = moment - self.t
        good = min(span, max(self.access_ends - self.t, 0.0)) if usable else 0.0
        if granted:
            self.tally.granted_s += span
            self.tally.lost_s += span - good
        self.t = moment
        if what:
            self.happen(what)
        else:
            self.tell(Tick())


def live(seed: int, years: float) -> Tally:
    """One life from this seed."""
    return Life(seed, years).run()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--years", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=4)
    options = parser.parse_args(arguments)
    rows, kept = [], True
    for seed in range(options.seed, options.seed + options.runs):
        started = time.monotonic()
        tally = live(seed, options.years)
        share = 1 - tally.lost_s / tally.granted_s
        good = share >= 0.9999 and not tally.tokens_lost and not tally.needless and tally.slowest_alarm_s <= 900
        good = good and tally.most_per_hour <= 12
        kept = kept and good
        rows.append({"seed": seed, "years": options.years, "share": share, "lost_min": tally.lost_s / 60,
                     "tokens_lost": tally.tokens_lost, "alarms": tally.alarms, "needless": tally.needless,
                     "slowest_alarm_min": tally.slowest_alarm_s / 60, "requests": tally.requests,
                     "most_per_hour": tally.most_per_hour, "seconds": time.monotonic() - started})  # fmt: skip
        print(
            f"seed {seed}: usable {share:.6%} ({tally.lost_s / 60:.0f} min lost), {tally.tokens_lost} tokens lost, "
            f"{tally.alarms} alarms ({tally.needless} needless, slowest {tally.slowest_alarm_s / 60:.1f} min), "
            f"{tally.requests} requests (at most {tally.most_per_hour} in an hour), "
            f"{sum(count for what, count in tally.happened.items() if what in PER_YEAR)} mishaps, "
            f"{time.monotonic() - started:.0f} s; {'kept' if good else 'BROKEN'}",
            flush=True,
        )
    BUILD.mkdir(exist_ok=True)
    (BUILD / "five_years.json").write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
