"""Why no mail is sent at all, as a set of reasons: mail flows when there is none.

Each reason has its own way of going away, so that the end of one never lifts another. What the mail server said about a
single mail does not belong here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from notifyd.core.problem import Actor, Problem, Source


class Reason(StrEnum):
    """What holds mail, in the order in which it is shown.

    PAUSED: an administrator; until resumed. BREAKER: a permanent error whose repetition makes Exchange block the
    mailbox; until a setting changes, an administrator resumes, or a test mail is asked for. AGENT: the token or the
    login, as the agent decided. LOGIN: the server refused the login of a delivery; until the agent releases mail or a
    setting changes. ACCOUNT: no mail server or no credentials yet. STORE: no room to note what becomes of a mail.
    """

    PAUSED = "paused"
    BREAKER = "breaker"
    AGENT = "agent"
    LOGIN = "login"
    ACCOUNT = "account"
    STORE = "store"


AGEING = frozenset((Reason.STORE,))
"""Reasons under which mail still ages: they are about this gateway, not about the way out being closed."""


@dataclass(frozen=True, slots=True)
class GateView:
    """What the page, the metrics and the programs see. problem: public form of the first reason's problem."""

    open: bool
    paused: bool
    problem: Mapping[str, object] | None


@dataclass(slots=True)
class Holds:
    """The reasons that hold mail now, each with its problem."""

    _reasons: dict[Reason, Problem] = field(default_factory=dict)

    def __contains__(self, reason: Reason) -> bool:
        return reason in self._reasons

    @property
    def open(self) -> bool:
        """True when nothing holds mail."""
        return not self._reasons

    @property
    def ageing(self) -> bool:
        """True when waiting mail grows older."""
        return not set(self._reasons) - AGEING

    @property
    def problem(self) -> Problem | None:
        """The problem to show: that of the first reason in the order of `Reason`."""
        return next((self._reasons[reason] for reason in Reason if reason in self._reasons), None)

    def get(self, reason: Reason) -> Problem | None:
        """The problem behind one reason."""
        return self._reasons.get(reason)

    def add(self, reason: Reason, problem: Problem) -> None:
        """Hold mail for this reason too."""
        self._reasons[reason] = problem

    def lift(self, *reasons: Reason) -> bool:
        """These reasons are gone; True when any of them was there."""
        found = [reason for reason in reasons if reason in self._reasons]
        for reason in found:
            del self._reasons[reason]
        return bool(found)

    def view(self) -> GateView:
        """The outside's view."""
        problem = self.problem
        return GateView(self.open, Reason.PAUSED in self._reasons, None if problem is None else problem.as_json())


def paused(wall: float) -> Problem:
    """An administrator has paused mail."""
    return _own("mail.paused", "Mail is paused by an administrator", "Press Resume when mail shall flow again.", wall)


def no_account(wall: float) -> Problem:
    """There is nothing yet to send with."""
    return _own(
        "mail.no-account",
        "There is no mail server or no login to send with yet",
        "Fill in System > Notification > Mail Server, Apply, and with Microsoft OAuth 2.0 press Get New Token.",
        wall,
    )


def no_room(wall: float) -> Problem:
    """The disk is full, so that the outcome of a mail could not be noted."""
    return Problem(
        "mail.no-room",
        "The disk is full: what becomes of a mail could not be noted",
        "",
        "Make room; mail goes on by itself within a minute.",
        transient=True,
        since=wall,
        source=Source.STORE,
    )


def _own(code: str, title: str, remedy: str, wall: float) -> Problem:
    return Problem(
        code, title, "", remedy, transient=False, since=wall, source=Source.SETTINGS, actor=Actor.GATEWAY_ADMIN
    )


def problem_from_json(stored: Mapping[str, object]) -> Problem:
    """A problem as `Problem.as_json` gave it, for what outlives a restart."""

    def text(key: str) -> str:
        return str(stored.get(key) or "")

    since = stored.get("since")
    return Problem(
        text("code"),
        text("title"),
        text("detail"),
        text("remedy"),
        transient=stored.get("transient") is True,
        since=float(since) if isinstance(since, int | float) else 0.0,
        source=Source(text("source") or Source.SMTP),
        actor=Actor(text("actor") or Actor.GATEWAY_ADMIN),
    )
