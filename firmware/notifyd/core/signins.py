"""Outstanding sign-ins: each with its own `state`, generation, phase and deadline on the boot clock.

They live in memory only. A `state` is good once: what is unknown, late, used or made up finds nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

REDEEM_DEADLINE_S = 120.0
"""A code that came back in the last second still gets its exchange; the worker itself is killed after 60 s."""
PROBE_DEADLINE_S = 45.0
"""The CGI's page waits at most 90 s for the whole; the mail server is given half of that."""
MOST_OUTSTANDING = 16
"""More tabs than anyone opens; the oldest one gives way."""


class Phase(StrEnum):
    """How far a sign-in has come."""

    OPEN = "open"
    REDEEMING = "redeeming"
    COMMITTING = "committing"
    PROBING = "probing"


@dataclass(slots=True)
class Signin:
    """One browser tab at Microsoft. deadline, asked: boot seconds; asked: when the exchange of the code began."""

    signin_id: str
    generation: int
    deadline: float
    phase: Phase = Phase.OPEN
    asked: float = 0.0


class Signins:
    """The outstanding ones, by `state`."""

    def __init__(self) -> None:
        self._by_id: dict[str, Signin] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def begin(self, signin_id: str, generation: int, deadline: float) -> None:
        """A browser was sent to Microsoft."""
        self._by_id[signin_id] = Signin(signin_id, generation, deadline)

    def get(self, signin_id: str, phase: Phase) -> Signin | None:
        """The sign-in, when it is known and in this phase."""
        signin = self._by_id.get(signin_id)
        return signin if signin is not None and signin.phase is phase else None

    def knows(self, signin_id: str) -> bool:
        """True while this sign-in is outstanding, in whatever phase."""
        return signin_id in self._by_id

    def in_phase(self, phase: Phase) -> Signin | None:
        """The one sign-in that is being committed or probed, if any."""
        return next((signin for signin in self._by_id.values() if signin.phase is phase), None)

    def committing(self, signin_id: str) -> Signin | None:
        """The sign-in whose grant is being stored, if it is this one."""
        return self.get(signin_id, Phase.COMMITTING)

    def oldest_open(self) -> Signin | None:
        """The open one that was begun first."""
        return self.in_phase(Phase.OPEN)

    def end(self, signin_id: str) -> None:
        """It is over, whichever way; its `state` is worthless from now on."""
        self._by_id.pop(signin_id, None)

    def end_others(self, winner: str) -> list[Signin]:
        """The first success ends all others."""
        losers = [signin for signin in self._by_id.values() if signin.signin_id != winner]
        for signin in losers:
            self.end(signin.signin_id)
        return losers

    def end_all(self) -> list[Signin]:
        """End every one."""
        return self.end_others("")

    def overdue(self, now: float) -> list[Signin]:
        """Those whose deadline has passed, the probing one excepted: its grant is already held."""
        return [s for s in self._by_id.values() if s.deadline <= now and s.phase is not Phase.PROBING]

    def next_deadline(self) -> float | None:
        """The earliest deadline, boot seconds."""
        return min((signin.deadline for signin in self._by_id.values()), default=None)
