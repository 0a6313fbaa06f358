"""The table of states: complete, walked exactly as written, and saying what the design says."""

from __future__ import annotations

import itertools

import pytest

from notifyd.core.machine import (
    _WALKER,
    TABLE,
    FallBack,
    Held,
    Move,
    Refuse,
    State,
    Stay,
    TokenMachine,
    Trigger,
    UndecidedPair,
    check_table,
    deserved,
)
from notifyd.core.problems import named

PAIRS = list(itertools.product(Trigger, State))
CIRCUMSTANCES = list(itertools.product((0, 1, 2), Held))


def expected(trigger: Trigger, state: State, outstanding: int, held: Held) -> tuple[State, str]:
    match TABLE[trigger][state]:
        case Move(to):
            return to, ""
        case FallBack():
            return (state if outstanding else deserved(held)), ""
        case Refuse(reason):
            return state, reason
        case Stay():
            return state, ""


@pytest.mark.parametrize(("trigger", "state"), PAIRS)
def test_every_pair_goes_where_the_table_says(trigger: Trigger, state: State) -> None:
    """The library walks the table as written, in every circumstance; a refusal changes nothing and names its reason."""
    for outstanding, held in CIRCUMSTANCES:
        machine = TokenMachine(state)
        step = machine.step(trigger, outstanding, held)
        assert (step.state, step.refused) == expected(trigger, state, outstanding, held)
        assert machine.state is step.state


@pytest.mark.parametrize(("trigger", "state"), PAIRS)
def test_an_undecided_pair_is_an_error(trigger: Trigger, state: State) -> None:
    """Taking any one cell out of the table is noticed (the module checks itself at import)."""
    holed = {t: {s: cell for s, cell in row.items() if (t, s) != (trigger, state)} for t, row in TABLE.items()}
    with pytest.raises(UndecidedPair, match=f"{trigger} in {state}"):
        check_table(holed)


def test_every_refusal_has_words() -> None:
    """Each reason of the table is a problem with a title and a remedy."""
    reasons = {cell.reason for row in TABLE.values() for cell in row.values() if isinstance(cell, Refuse)}
    assert reasons == {"settings.not-applied", "signin.unknown-state", "token.none"}
    for reason in reasons:
        assert named(reason, 0.0).remedy


@pytest.mark.parametrize(
    ("state", "trigger", "held", "becomes"),
    [
        (State.UNCONFIGURED, Trigger.IDENTITY_APPLIED, Held.NOTHING, State.APPLIED),
        (State.APPLIED, Trigger.SIGNIN_STARTED, Held.NOTHING, State.PENDING),
        (State.PENDING, Trigger.SIGNIN_SUCCEEDED, Held.USABLE, State.VALID),
        (State.PENDING, Trigger.SIGNIN_FAILED, Held.NOTHING, State.APPLIED),
        (State.PENDING, Trigger.SIGNIN_FAILED, Held.ENDED, State.EXPIRED),
        (State.PENDING, Trigger.SIGNIN_TIMED_OUT, Held.USABLE, State.VALID),
        (State.VALID, Trigger.SIGNIN_STARTED, Held.USABLE, State.PENDING),
        (State.VALID, Trigger.REFRESH_FAILED, Held.USABLE, State.VALID),
        (State.VALID, Trigger.TOKEN_ENDED, Held.ENDED, State.EXPIRED),
        (State.VALID, Trigger.IDENTITY_APPLIED, Held.USABLE, State.APPLIED),
        (State.VALID, Trigger.SETTINGS_KEPT, Held.USABLE, State.VALID),
        (State.VALID, Trigger.GRANT_FORGOTTEN, Held.USABLE, State.APPLIED),
        (State.EXPIRED, Trigger.REFRESHED, Held.USABLE, State.VALID),
        (State.EXPIRED, Trigger.REFRESH_FAILED, Held.ENDED, State.EXPIRED),
    ],
)
def test_the_table_says_what_the_design_says(state: State, trigger: Trigger, held: Held, becomes: State) -> None:
    """The sentences of the design about states, one by one, written down independently of the table."""
    assert TokenMachine(state).step(trigger, 0, held).state is becomes


def test_there_is_no_back_door_into_a_state() -> None:
    """The library's to_STATE() triggers, which would bypass the table, do not exist."""
    assert not [name for name in dir(_WALKER) if name.startswith("to_")]
