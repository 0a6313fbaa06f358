"""The agent: decides what to do about the token, and does nothing itself (first version: the signatures)."""

from __future__ import annotations

import random
from dataclasses import dataclass

from notifyd.core.commands import Command
from notifyd.core.events import Event
from notifyd.core.instant import Instant
from notifyd.core.machine import State, TokenMachine
from notifyd.core.problem import Problem
from notifyd.core.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """What is true now. access_expires_at, refresh_due_at: wall clock seconds. pending: outstanding sign-ins."""

    state: State
    can_send: bool
    account: str | None
    access_expires_at: float | None
    refresh_due_at: float | None
    grant_age_s: float | None
    problem: Problem | None
    pending: int
    generation: int


class Agent:
    """Pure decision object: events in, commands out."""

    def __init__(self, rng: random.Random, snapshot: Snapshot | None, now: Instant, boot_id: str) -> None:
        self._rng = rng
        self._boot_id = boot_id
        self._machine = TokenMachine(State.UNCONFIGURED)

    def handle(self, event: Event, now: Instant) -> list[Command]:
        """Take one fact; the answer is what to do, in order."""
        return []

    def next_wakeup(self, now: Instant) -> float | None:
        """Boot seconds at which a Tick must be delivered; None when nothing waits for time."""
        return None

    def status(self, now: Instant) -> AgentStatus:
        """What is true now."""
        return AgentStatus(State(self._machine.state), False, None, None, None, None, None, 0, 0)
