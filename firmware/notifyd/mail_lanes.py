"""The connections to the mail server: as few as the pace needs, reused while they are good, closed when idle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from notifyd.adapters.smtp import Session, SmtpTarget
from notifyd.core.governor import EXCHANGE, OTHER_SERVER, Limits
from notifyd.core.secret import Secret
from notifyd.core.settings import Auth

IDLE_S = 65.0
"""A session without work stays this long: a whole minute's allowance goes through one connection."""

SLOW_SEND_S = 2.0
"""A lane that has been sending one mail for so long gets a second one beside it."""

CLOSING_S = 5.0
"""What is in flight at the end gets so long to finish; else it is sent again at the next start."""


@dataclass(frozen=True, slots=True)
class Account:
    """What mail is sent with. sender: the address of the mailbox, for envelope and From; secret: token or password."""

    target: SmtpTarget
    sender: str
    username: str
    auth: Auth
    secret: Secret | None
    limits: Limits | None = None

    @property
    def pace(self) -> Limits:
        """The limits to keep: those given, else Exchange's for its tokens and a modest pace for any other server."""
        return self.limits or (EXCHANGE if self.auth is Auth.OAUTH2 else OTHER_SERVER)

    def same_way_as(self, other: Account | None) -> bool:
        """Whether a session opened with the other still serves; a session outlives the token that opened it."""
        return other is not None and replace(self, secret=None) == replace(other, secret=None)


@dataclass(slots=True, eq=False)
class Lane:
    """One connection and the task that uses it. since: powered seconds at which its present mail began.

    fresh: the session has not sent anything yet, so that its end is the server's doing and not old age.
    retired: its login no longer counts: not to be kept when what is in flight is done.
    """

    session: Session | None = None
    account: Account | None = None
    busy: bool = False
    connecting: bool = False
    fresh: bool = True
    since: float = 0.0
    task: asyncio.Task[None] | None = None
    idle: asyncio.TimerHandle | None = None
    retired: bool = False

    def serves(self, account: Account) -> bool:
        """Whether the open session can be used for this account."""
        return self.session is not None and self.session.alive and account.same_way_as(self.account)

    async def drop(self) -> None:
        """Close the session, if there is one."""
        session, self.session = self.session, None
        if self.idle is not None:
            self.idle.cancel()
        if session is not None:
            await session.close()


class Lanes:
    """All lanes. Opens no connection itself: whoever gets a lane does."""

    def __init__(self, allowed: Callable[[], int]) -> None:
        """allowed: how many connections may be open now."""
        self._allowed = allowed
        self._lanes: list[Lane] = []
        self._closing: set[asyncio.Task[None]] = set()

    def others(self, lane: Lane) -> int:
        """Connections besides that one."""
        return sum(other is not lane and other.session is not None for other in self._lanes)

    def may_grow(self) -> bool:
        """Whether another lane could be opened."""
        return len(self._lanes) < self._allowed()

    def free(self, powered: float) -> Lane | None:
        """An idle lane, or a new one when all others are slow; None when it is better to wait."""
        idle = sorted((lane for lane in self._lanes if not lane.busy), key=lambda lane: lane.session is None)
        if idle:
            if idle[0].idle is not None:
                idle[0].idle.cancel()
            return idle[0]
        hasty = any(lane.connecting or powered - lane.since < SLOW_SEND_S for lane in self._lanes)
        if hasty or not self.may_grow():
            return None
        self._lanes.append(Lane())
        return self._lanes[-1]

    async def rest(self, lane: Lane, *, keep: bool) -> None:
        """A lane has nothing more to do now: keep its session for a while if it is good, wanted and allowed."""
        surplus = len(self._lanes) > self._allowed()
        if not keep or surplus or lane.retired or lane.session is None or not lane.session.alive:
            if lane in self._lanes:
                self._lanes.remove(lane)
            await lane.drop()
        else:
            lane.idle = asyncio.get_running_loop().call_later(IDLE_S, self._hang_up, lane)

    def hang_up_idle(self) -> None:
        """End sessions that only wait, the others when they have done: no login outlives its grant or settings."""
        for lane in tuple(self._lanes):
            lane.retired = True
            if lane.idle is not None:
                lane.idle.cancel()
            self._hang_up(lane)

    def _hang_up(self, lane: Lane) -> None:
        if lane.busy or lane not in self._lanes:
            return
        self._lanes.remove(lane)
        task = asyncio.get_running_loop().create_task(lane.drop())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Let what is in flight finish for a moment, then say goodbye to the server."""
        running = [lane.task for lane in self._lanes if lane.task is not None and lane.busy]
        if running:
            _, late = await asyncio.wait(running, timeout=CLOSING_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        lanes, self._lanes = self._lanes, []
        for lane in lanes:
            await lane.drop()
        await asyncio.gather(*self._closing, return_exceptions=True)
