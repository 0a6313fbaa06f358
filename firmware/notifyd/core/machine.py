"""The one table of the token's states. Nothing else decides about states; documents and tests are made from it.

How to read it: a row is a state, a column is something that happened, a cell says what becomes of the state:

- `Move(S)`      the state becomes S;
- `STAY`         the fact is taken note of, the state remains;
- `FALL_BACK`    when no sign-in is outstanding any more, the state becomes what the held grant deserves
                 (Valid with a usable access token, Expired with an ended one, Applied with none);
- `Refuse(why)`  it cannot happen here: nothing changes and whoever asked is told the named reason.

An undecided pair is an error at import. What a table cannot hold (deadlines, schedules, generations) is in `agent.py`.
The walking is done by the `transitions` library's synchronous Machine; its `to_STATE()` back doors are off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from transitions import Machine


class State(StrEnum):
    """The five states of the design, by their public names."""

    UNCONFIGURED = "Unconfigured"
    APPLIED = "Applied"
    PENDING = "Pending"
    VALID = "Valid"
    EXPIRED = "Expired"


class Trigger(StrEnum):
    """What can happen to the token."""

    IDENTITY_APPLIED = "identity_applied"
    SETTINGS_KEPT = "settings_kept"
    SETTINGS_CLEARED = "settings_cleared"
    SIGNIN_STARTED = "signin_started"
    CODE_RECEIVED = "code_received"
    SIGNIN_FAILED = "signin_failed"
    SIGNIN_TIMED_OUT = "signin_timed_out"
    SIGNIN_SUCCEEDED = "signin_succeeded"
    REFRESH_REQUESTED = "refresh_requested"
    REFRESHED = "refreshed"
    REFRESH_FAILED = "refresh_failed"
    TOKEN_ENDED = "token_ended"  # noqa: S105  # the name of a fact
    PROBE_FINISHED = "probe_finished"
    MAIL_OUTCOME = "mail_outcome"
    GRANT_FORGOTTEN = "grant_forgotten"
    COMMIT_FAILED = "commit_failed"
    WAN_CHANGED = "wan_changed"


class Held(StrEnum):
    """What the store holds for the applied settings."""

    NOTHING = "nothing"
    ENDED = "ended"
    USABLE = "usable"


@dataclass(frozen=True, slots=True)
class Move:
    """The state becomes `to`."""

    to: State


@dataclass(frozen=True, slots=True)
class Stay:
    """The state remains."""


@dataclass(frozen=True, slots=True)
class FallBack:
    """Back to what the held grant deserves, once no sign-in is outstanding."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """It cannot happen in this state; `reason` is the code of the problem that says so."""

    reason: str


Cell = Move | Stay | FallBack | Refuse

STAY = Stay()
FALL_BACK = FallBack()
APPLIED = Move(State.APPLIED)
UNCONFIGURED = Move(State.UNCONFIGURED)
PENDING = Move(State.PENDING)
VALID = Move(State.VALID)
EXPIRED = Move(State.EXPIRED)
NO_SETTINGS = Refuse("settings.not-applied")
NO_SIGNIN = Refuse("signin.unknown-state")
NO_GRANT = Refuse("token.none")

S, T = State, Trigger

TABLE: Mapping[Trigger, Mapping[State, Cell]] = {
    T.IDENTITY_APPLIED: {
        S.UNCONFIGURED: APPLIED, S.APPLIED: STAY, S.PENDING: APPLIED, S.VALID: APPLIED, S.EXPIRED: APPLIED,
    },
    T.SETTINGS_KEPT: {
        S.UNCONFIGURED: STAY, S.APPLIED: STAY, S.PENDING: STAY, S.VALID: STAY, S.EXPIRED: STAY,
    },
    T.SETTINGS_CLEARED: {
        S.UNCONFIGURED: STAY, S.APPLIED: UNCONFIGURED, S.PENDING: UNCONFIGURED, S.VALID: UNCONFIGURED,
        S.EXPIRED: UNCONFIGURED,
    },
    T.SIGNIN_STARTED: {
        S.UNCONFIGURED: NO_SETTINGS, S.APPLIED: PENDING, S.PENDING: STAY, S.VALID: PENDING, S.EXPIRED: PENDING,
    },
    T.CODE_RECEIVED: {
        S.UNCONFIGURED: NO_SETTINGS, S.APPLIED: NO_SIGNIN, S.PENDING: STAY, S.VALID: NO_SIGNIN, S.EXPIRED: NO_SIGNIN,
    },
    T.SIGNIN_FAILED: {
        S.UNCONFIGURED: NO_SETTINGS, S.APPLIED: NO_SIGNIN, S.PENDING: FALL_BACK, S.VALID: NO_SIGNIN,
        S.EXPIRED: NO_SIGNIN,
    },
    T.SIGNIN_TIMED_OUT: {
        S.UNCONFIGURED: NO_SETTINGS, S.APPLIED: NO_SIGNIN, S.PENDING: FALL_BACK, S.VALID: NO_SIGNIN,
        S.EXPIRED: NO_SIGNIN,
    },
    T.SIGNIN_SUCCEEDED: {
        S.UNCONFIGURED: NO_SETTINGS, S.APPLIED: NO_SIGNIN, S.PENDING: FALL_BACK, S.VALID: NO_SIGNIN,
        S.EXPIRED: NO_SIGNIN,
    },
    T.REFRESH_REQUESTED: {
        S.UNCONFIGURED: NO_SETTINGS, S.APPLIED: NO_GRANT, S.PENDING: STAY, S.VALID: STAY, S.EXPIRED: STAY,
    },
    T.REFRESHED: {
        S.UNCONFIGURED: NO_SETTINGS, S.APPLIED: NO_GRANT, S.PENDING: STAY, S.VALID: STAY, S.EXPIRED: VALID,
    },
    T.REFRESH_FAILED: {
        S.UNCONFIGURED: NO_SETTINGS, S.APPLIED: NO_GRANT, S.PENDING: STAY, S.VALID: STAY, S.EXPIRED: STAY,
    },
    T.TOKEN_ENDED: {
        S.UNCONFIGURED: NO_SETTINGS, S.APPLIED: NO_GRANT, S.PENDING: STAY, S.VALID: EXPIRED, S.EXPIRED: STAY,
    },
    T.PROBE_FINISHED: {
        S.UNCONFIGURED: STAY, S.APPLIED: STAY, S.PENDING: STAY, S.VALID: STAY, S.EXPIRED: STAY,
    },
    T.MAIL_OUTCOME: {
        S.UNCONFIGURED: STAY, S.APPLIED: STAY, S.PENDING: STAY, S.VALID: STAY, S.EXPIRED: STAY,
    },
    T.GRANT_FORGOTTEN: {
        S.UNCONFIGURED: STAY, S.APPLIED: STAY, S.PENDING: APPLIED, S.VALID: APPLIED, S.EXPIRED: APPLIED,
    },
    T.COMMIT_FAILED: {
        S.UNCONFIGURED: NO_SETTINGS, S.APPLIED: NO_SIGNIN, S.PENDING: STAY, S.VALID: STAY, S.EXPIRED: STAY,
    },
    T.WAN_CHANGED: {
        S.UNCONFIGURED: STAY, S.APPLIED: STAY, S.PENDING: STAY, S.VALID: STAY, S.EXPIRED: STAY,
    },
}  # fmt: skip


class UndecidedPair(Exception):
    """The table has a pair that nobody has decided."""


def check_table(table: Mapping[Trigger, Mapping[State, Cell]]) -> None:
    """Raise UndecidedPair naming the first pair that nobody has decided."""
    for trigger in Trigger:
        for state in State:
            if not isinstance(table.get(trigger, {}).get(state), Move | Stay | FallBack | Refuse):
                raise UndecidedPair(f"undecided: {trigger} in {state}")


check_table(TABLE)


def deserved(held: Held) -> State:
    """The state that the held grant deserves when no sign-in is outstanding."""
    return {Held.NOTHING: State.APPLIED, Held.ENDED: State.EXPIRED, Held.USABLE: State.VALID}[held]


@dataclass(frozen=True, slots=True)
class Step:
    """What became of a trigger: the state after it, and why it was refused, if it was."""

    state: State
    refused: str = ""


class TokenMachine:
    """The state of one token, moved by the table only. It knows no time and does nothing."""

    def __init__(self, initial: State) -> None:
        self._state = initial

    @property
    def state(self) -> State:
        """The state after the last trigger."""
        return self._state

    def step(self, trigger: Trigger, outstanding: int = 0, held: Held = Held.NOTHING) -> Step:
        """Take one trigger. outstanding: sign-ins that remain; held: what the store holds now."""
        cell = TABLE[trigger][self._state]
        if isinstance(cell, Refuse):
            return Step(self._state, cell.reason)
        self._state = _WALKER.walk(self._state, trigger, outstanding, held)
        return Step(self._state)


class _Walker:
    """The library's machine over the table. Built once, as that costs milliseconds; keeps nothing between steps."""

    state: str

    def __init__(self) -> None:
        self._outstanding = 0
        self._held = Held.NOTHING
        self._machine = Machine(
            model=self,
            states=[state.value for state in State],
            transitions=_transitions(),
            initial=State.UNCONFIGURED.value,
            auto_transitions=False,
        )

    def walk(self, state: State, trigger: Trigger, outstanding: int, held: Held) -> State:
        """The state that follows."""
        self._outstanding, self._held = outstanding, held
        self._machine.set_state(state.value)
        self.trigger(trigger.value)  # type: ignore[attr-defined]  # added to the model by transitions.Machine
        return State(self.state)

    def quiet(self) -> bool:
        """Condition: no sign-in is outstanding."""
        return self._outstanding == 0

    def deserves_valid(self) -> bool:
        """Condition: the held access token is usable."""
        return self._held is Held.USABLE

    def deserves_expired(self) -> bool:
        """Condition: a grant is held, its access token has ended."""
        return self._held is Held.ENDED


def _transitions() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for trigger, row in TABLE.items():
        for state, cell in row.items():
            rows += _rows(trigger, state, cell)
    return rows


def _rows(trigger: Trigger, state: State, cell: Cell) -> list[dict[str, object]]:
    base: dict[str, object] = {"trigger": trigger.value, "source": state.value}
    match cell:
        case Move(to):
            return [base | {"dest": to.value}]
        case Stay():
            return [base | {"dest": None}]
        case FallBack():
            # The library takes the first row whose conditions hold.
            return [
                base | {"dest": None, "unless": "quiet"},
                base | {"dest": State.VALID.value, "conditions": "deserves_valid"},
                base | {"dest": State.EXPIRED.value, "conditions": "deserves_expired"},
                base | {"dest": State.APPLIED.value},
            ]
        case Refuse():
            return []


_WALKER = _Walker()
