"""What the agent wants done. The service carries them out in list order; the answers come back as events.

`CommitGrant` and `SaveSnapshot` are on disk and synced before the next command of the list runs, so whatever stands
after them in the list may rely on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from notifyd.core.eventlog import FieldValue, Level
from notifyd.core.events import GrantResult
from notifyd.core.instant import Instant
from notifyd.core.problem import Problem
from notifyd.core.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Redeem:
    """Exchange the code that came back for this sign-in → `RedeemFinished` with this generation."""

    signin_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class Refresh:
    """Renew the held grant → `RefreshFinished` with this generation."""

    generation: int


@dataclass(frozen=True, slots=True)
class CommitGrant:
    """Make the result the held grant → `GrantCommitted` or `GrantCommitFailed`. Use its access token from then on.

    obtained: from when its life counts; stored with it, so that a restart knows the grant of its snapshot again.
    """

    generation: int
    result: GrantResult
    obtained: Instant


@dataclass(frozen=True, slots=True)
class Probe:
    """Log in at the mail server without sending → `ProbeFinished` with this generation."""

    generation: int


@dataclass(frozen=True, slots=True)
class SaveSnapshot:
    """Make this the agent's state that a restart begins from."""

    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class WipeGrant:
    """Erase the held grant from the store and from memory."""


@dataclass(frozen=True, slots=True)
class CancelSignins:
    """Forget the flows (PKCE verifier, nonce) of these sign-ins. reason: stable word such as `superseded`."""

    ids: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class HoldMail:
    """Stop sending and stop ageing what waits, because of this problem."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class ReleaseMail:
    """Mail may flow again."""


@dataclass(frozen=True, slots=True)
class Emit:
    """Write an event record; names and fields as in `core/eventlog.py`."""

    event: str
    level: Level
    fields: Mapping[str, FieldValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """Tell the CGI that waits for this sign-in how it ended."""

    signin_id: str
    ok: bool
    problem: Problem | None = None


Command = (
    Redeem
    | Refresh
    | CommitGrant
    | Probe
    | SaveSnapshot
    | WipeGrant
    | CancelSignins
    | HoldMail
    | ReleaseMail
    | Emit
    | Answer
)
