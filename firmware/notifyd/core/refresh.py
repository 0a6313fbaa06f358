"""When to renew: lifetime, jitter, back-off, budget. Everything on the boot clock, in seconds.

Why these figures (measured by the fleet simulation, docs/fleet.md): a hundred thousand gateways must not ask together
after an outage or a power cut, and still each must have a token again within half an hour.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from notifyd.core.failure import FailureClass
from notifyd.core.snapshot import Snapshot

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S

RENEW_FROM, RENEW_TO = 0.50, 0.65
"""Share of the access token's life after which it is renewed: early enough for two tries before it ends."""

REFRESH_IN_SPREAD = 1.10
"""Microsoft's `refresh_in` is the earliest wish; up to a tenth later keeps gateways apart."""

LONGEST_TRUST_S = DAY_S
"""Renew at least daily whatever the answer says: a refresh token dies after 90 days without use."""

FIRST_RETRY_S = 60.0
LONGEST_RETRY_S = 24 * 60.0
"""With its jitter just under half an hour: the longest a gateway may lag behind the end of an outage."""

MOST_DOUBLINGS = 16
"""Beyond them every wait has long reached its bound."""

LOCAL_RETRY_S = 8 * 60.0
"""Longest wait when no name could be resolved: such a try reached nobody, so it burdens nobody."""

JITTER = 0.20
LONGEST_RETRY_AFTER_S = HOUR_S
"""A captive portal may answer `Retry-After: 99999999`; MSAL stops at an hour too."""

SIGNIN_RETRIES_S = (120.0, 240.0, 390.0)
"""`invalid_grant` may be throttling (AADSTS50196): three more tries over 12.5 minutes before anyone is alarmed."""
SIGNIN_JITTER = 0.15
"""10.6 to 14.4 minutes in all: at least ten, and the alarm within fifteen."""
SIGNIN_PROBE_S = 6 * HOUR_S
CLIENT_PROBE_S = HOUR_S

WINDOW_S = HOUR_S + 1.0
"""A sliding hour, and a second for rounding."""
REQUESTS_PER_HOUR = 12
AUTOMATIC_PER_HOUR = 10
"""Two of the twelve are kept for the administrator's own wish."""

LOST_ANSWER_S = 300.0
"""The worker is killed at its deadline of 60 s; an answer that takes five minutes will not come."""

WAN_SPREAD_S = 5.0
WAN_PAUSE_S = 10.0
"""A flapping line must not turn every flap into a request."""

FRESH_TOKEN_S = 120.0
"""A token this young that the mail server refuses is not cured by another one."""

CLOCK_WATCH_S = 30.0
"""While a wrong clock is the trouble: how often to look whether it was set."""
CLOCK_STEP_S = 60.0
"""A smaller step of the wall clock cures nothing and is not worth a word."""

CLEAN_START_SPREAD_S = 10.0
POWER_CUT_SPREAD_S = 22 * 60.0
"""After a power cut whole districts start together; an ordered restart is alone."""


@dataclass(slots=True)
class Flight:
    """The one token request under way. by: who asked. Its answer carries `generation`."""

    generation: int
    since: float
    by: str


@dataclass(slots=True)
class Renewal:
    """Where the renewal of the held grant stands. time_was_named: the server said with `Retry-After` when to come."""

    due: float | None = None
    failures: int = 0
    failure_class: FailureClass | None = None
    first_delay_s: float = 0.0
    attempts: list[float] = field(default_factory=list)
    flight: Flight | None = None
    lifetime_s: float = HOUR_S
    by: str = "schedule"
    time_was_named: bool = False

    @classmethod
    def restored(cls, saved: Snapshot) -> Renewal:
        """Where it stood when the snapshot was taken."""
        return cls(
            due=saved.due_boot,
            failures=saved.failures,
            failure_class=FailureClass(saved.failure_class) if saved.failure_class else None,
            first_delay_s=saved.first_delay_s,
            attempts=list(saved.attempts),
            lifetime_s=saved.grant.lifetime_s if saved.grant else HOUR_S,
        )

    def reset(self) -> None:
        """No grant any more: nothing is due. The history of requests stays, it belongs to the hour."""
        self.due, self.failures, self.failure_class, self.first_delay_s = None, 0, None, 0.0
        self.by, self.time_was_named = "schedule", False

    def succeeded(self, rng: random.Random, now: float, lifetime_s: float, refresh_in_s: float | None) -> None:
        """A fresh token came: plan its renewal."""
        self.reset()
        self.lifetime_s = lifetime_s
        trusted = min(lifetime_s, LONGEST_TRUST_S)
        delay = trusted * rng.uniform(RENEW_FROM, RENEW_TO)
        if refresh_in_s is not None and 0 < refresh_in_s < trusted:
            delay = min(refresh_in_s * rng.uniform(1.0, REFRESH_IN_SPREAD), trusted * RENEW_TO)
        self.due = now + delay

    def failed(
        self, rng: random.Random, now: float, failure: FailureClass, *,
        retry_after_s: float | None = None, local: bool = False, life_left_s: float = 0.0, asked: bool = False,
    ) -> None:  # fmt: skip
        """The request failed: plan the next one.

        local: it reached nobody. life_left_s: what remains of the access token. asked: by the administrator, so that it
        does not count towards the alarm.
        """
        if failure is not self.failure_class:
            self.failures, self.first_delay_s = 0, 0.0
        if not asked or self.failures == 0:
            self.failures += 1
        self.failure_class = failure
        self.time_was_named = retry_after_s is not None
        self.by = "schedule"
        self.due = now + self._delay(rng, failure, retry_after_s, local, max(life_left_s, 0.0))

    def _delay(
        self, rng: random.Random, failure: FailureClass, retry_after_s: float | None, local: bool, life_left_s: float
    ) -> float:
        if failure is FailureClass.SIGNIN:
            if self.failures <= len(SIGNIN_RETRIES_S):
                return SIGNIN_RETRIES_S[self.failures - 1] * rng.uniform(1 - SIGNIN_JITTER, 1 + SIGNIN_JITTER)
            return SIGNIN_PROBE_S * rng.uniform(1.0, 1 + JITTER)
        if failure in (FailureClass.CLIENT, FailureClass.CONFIG):
            return CLIENT_PROBE_S * rng.uniform(1.0, 1 + JITTER)
        if retry_after_s is not None:
            wished = min(max(retry_after_s, FIRST_RETRY_S), LONGEST_RETRY_AFTER_S)
            return wished * rng.uniform(1.0, 1 + JITTER)
        return self._backoff(local, life_left_s) * rng.uniform(1 - JITTER, 1 + JITTER)

    def _backoff(self, local: bool, life_left_s: float) -> float:
        doubled = 2.0 ** min(self.failures - 1, MOST_DOUBLINGS)
        if local:
            return min(LOCAL_RETRY_S, FIRST_RETRY_S / (1 - JITTER) * doubled)
        if self.failures == 1 or self.first_delay_s < FIRST_RETRY_S:
            # While the token lives there is no hurry: half of what is left still leaves time for another try.
            self.first_delay_s = max(FIRST_RETRY_S / (1 - JITTER), life_left_s / 2)
        return min(LONGEST_RETRY_S, self.first_delay_s * doubled)

    def alarmed(self) -> bool:
        """True when the retries of a sign-in failure are used up: a person is needed."""
        return self.failure_class is FailureClass.SIGNIN and self.failures > len(SIGNIN_RETRIES_S)

    def worth_telling(self) -> bool:
        """Ever rarer while the same failure goes on: the 1st, 2nd, 4th, 8th … of a row."""
        return self.failures.bit_count() == 1

    def hasten(self, moment: float, by: str) -> None:
        """Make the next request due at `moment`, unless it is due earlier."""
        if self.due is None or moment < self.due:
            self.due, self.by = moment, by
        elif by == "admin":
            self.by = by

    def free_at(self, now: float, limit: int) -> float:
        """The earliest moment at which one more request stays within `limit` in any hour.

        Tokens that live less than ten minutes need more requests by nature: two for each life, at most.
        """
        allowed = max(limit, int(2 * HOUR_S / max(self.lifetime_s, FIRST_RETRY_S)))
        recent = [moment for moment in self.attempts if now - moment < WINDOW_S]
        return now if len(recent) < allowed else recent[-allowed] + WINDOW_S

    def next_moment(self, now: float) -> float | None:
        """When the next request goes out by itself; None when none is due or one is under way."""
        if self.due is None or self.flight is not None:
            return None
        limit = REQUESTS_PER_HOUR if self.by == "admin" else AUTOMATIC_PER_HOUR
        return max(self.due, self.free_at(now, limit))

    def started(self, rng: random.Random, now: float, generation: int) -> None:
        """A request goes out. Until its answer comes it counts as failed: a crash in between must not hammer."""
        self.attempts = [moment for moment in self.attempts if now - moment < WINDOW_S] + [now]
        self.flight = Flight(generation, now, self.by)
        self.due = now + FIRST_RETRY_S * rng.uniform(1.0, 1 + JITTER)
        self.by = "schedule"

    def rebase(self, shift: float) -> None:
        """Move every moment by `shift` seconds: the boot clock began anew."""
        self.attempts = [moment + shift for moment in self.attempts]
        if self.due is not None:
            self.due += shift
