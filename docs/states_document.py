"""Makes `docs/token-states.md` from the transition table: `render()` gives its text, running this file writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from notifyd.core.machine import TABLE, Cell, FallBack, Move, Refuse, State, Trigger

PATH = Path(__file__).with_name("token-states.md")

_MEANING = {
    State.UNCONFIGURED: "no OAuth settings are applied",
    State.APPLIED: "settings are saved, no grant is held",
    State.PENDING: "one or more sign-ins are outstanding; a grant held before stays in use meanwhile",
    State.VALID: "an access token that has not ended is held, and a refresh token to renew it",
    State.EXPIRED: "the access token has ended and is not yet renewed",
}

_HAPPENED = {
    Trigger.IDENTITY_APPLIED: "Apply with another tenant, client ID, sender or cloud (or the first Apply)",
    Trigger.SETTINGS_KEPT: "Apply with anything else changed, the secret included",
    Trigger.SETTINGS_CLEARED: "settings cleared, or another authentication method applied",
    Trigger.SIGNIN_STARTED: "Get New Token: a browser was sent to Microsoft",
    Trigger.CODE_RECEIVED: "a code came back for an outstanding sign-in",
    Trigger.SIGNIN_FAILED: "a sign-in ended with an error, or its grant was refused",
    Trigger.SIGNIN_TIMED_OUT: "a sign-in was not completed in ten minutes",
    Trigger.SIGNIN_SUCCEEDED: "the new grant is stored and the mail server was asked about it",
    Trigger.REFRESH_REQUESTED: "somebody or the schedule wants the token looked at",
    Trigger.REFRESHED: "the renewed grant is stored",
    Trigger.REFRESH_FAILED: "the renewal failed, for whatever reason",
    Trigger.TOKEN_ENDED: "the access token ended, by the boot clock",
    Trigger.PROBE_FINISHED: "the login check at the mail server is over",
    Trigger.MAIL_OUTCOME: "the mail server answered to a message",
    Trigger.GRANT_FORGOTTEN: "the administrator (or the store) gave the grant up",
    Trigger.COMMIT_FAILED: "the store could not keep a grant; the one before stands",
    Trigger.WAN_CHANGED: "the way to the internet came or went",
}

_HEAD = """\
# Token states

Made from the table in `firmware/notifyd/core/machine.py` by `make docs`; a test fails when the two differ.

| state | meaning |
|---|---|
"""

_LEGEND = """
## The table

Every pair is decided. A state's name: the state becomes that. **stay**: noted, the state remains. **fall back**: once
no sign-in is outstanding, the state becomes what the held grant deserves (Valid with a usable access token, Expired
with an ended one, Applied with none). *italics*: refused, with the code of the problem that says why (problems.md),
and nothing changes.

"""

_RULES = """
## What a table cannot hold

- Every sign-in has its own `state`, nonce, verifier and deadline (ten minutes on the boot clock). The first success
  ends the others. An unknown, late, used or made-up `state` finds nothing and changes nothing.
- An answer counts only for the generation that asked: results of token requests since the last change of identity,
  failures and login checks only under the very present configuration.
- After another boot nobody knows how long the power was off: a held grant is Expired until its renewal succeeds. That
  comes within 10 s of an ordered restart and within 22 min of a power cut (docs/fleet.md says why); a waiting mail or
  the administrator's wish makes it come at once.
- A failure never destroys a grant. Only a changed identity, cleared settings or the administrator's wish do.
- The state speaks of the token. `can_send` speaks of the mail: it is false as well when the mail server refuses a valid
  token, or when sending pauses so that Exchange does not block the mailbox.
"""


def render() -> str:
    """The whole document."""
    meanings = "".join(f"| {state.value} | {meaning} |\n" for state, meaning in _MEANING.items())
    return f"{_HEAD}{meanings}\n```mermaid\n{diagram()}\n```\n{_LEGEND}{_table()}{_RULES}"


def diagram() -> str:
    """The table as a Mermaid state diagram: every cell that can change the state, one arrow for each pair of states."""
    labels: dict[tuple[State, State], list[str]] = {}
    for trigger, row in TABLE.items():
        for state, cell in row.items():
            for target in _targets(cell):
                labels.setdefault((state, target), []).append(trigger.value)
    arrows = [f"    {a.value} --> {b.value}: {', '.join(names)}" for (a, b), names in sorted(labels.items()) if a != b]
    return "\n".join(["stateDiagram-v2", "    [*] --> Unconfigured", *arrows])


def _targets(cell: Cell) -> tuple[State, ...]:
    match cell:
        case Move(to):
            return (to,)
        case FallBack():
            return (State.VALID, State.EXPIRED, State.APPLIED)
        case _:
            return ()


def _table() -> str:
    states = list(State)
    head = f"| what happened | {' | '.join(state.value for state in states)} |\n|---|{'---|' * len(states)}\n"
    return head + "".join(_rows(states))


def _rows(states: list[State]) -> Iterator[str]:
    for trigger, row in TABLE.items():
        cells = " | ".join(_word(row[state]) for state in states)
        yield f"| `{trigger.value}`: {_HAPPENED[trigger]} | {cells} |\n"


def _word(cell: Cell) -> str:
    match cell:
        case Move(to):
            return f"→ {to.value}"
        case Refuse(reason):
            return f"*{reason}*"
        case FallBack():
            return "**fall back**"
        case _:
            return "stay"


if __name__ == "__main__":
    PATH.write_text(render(), "utf-8")
