"""The mailer: takes mail in, and sends what is due through as few connections as the pace allows.

One task (`run`) sleeps until the next moment at which something can be sent: a mail falls due, the governor allows one
more, the server may be tried again. It never wakes without a reason. Sending happens in lanes, each with one session;
a second lane is opened only when the first is slow.

Three things can keep a mail waiting, and each is kept apart: the mail's own back-off (in the queue), a pause of this
server (unreachable, or it asked for less), and the reasons of `core.holds` under which nothing flows and nothing ages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from math import inf

from notifyd.adapters.queue import Accepted, Job, MailQueue, QueueFull, Submission
from notifyd.adapters.smtp import Envelope, Session, SessionFailed
from notifyd.core.delivery import COMPLAINTS, Outcome, weigh
from notifyd.core.events import MailOutcome
from notifyd.core.faults import StoreFailed, StoreFull
from notifyd.core.governor import EXCHANGE, Governor, Throttle
from notifyd.core.holds import AGEING, GateView, Holds, Reason, no_account, no_room, paused, problem_from_json
from notifyd.core.instant import Instant
from notifyd.core.message import Composed, readdress
from notifyd.core.outbox import Chance, Fate, MailRecord, MailState, Priority, retry_delay
from notifyd.core.problem import Problem
from notifyd.core.settings import Auth
from notifyd.core.smtp_reply import Meaning, Stage
from notifyd.mail_lanes import SLOW_SEND_S, Account, Lane, Lanes
from notifyd.mail_news import Emit, MailNews

ROOM_RETRY_S = 10.0
"""While the disk is full: how often to look for room."""


@dataclass(slots=True)
class _Outage:
    """The server cannot be reached: strikes in a row, and the powered second of the next try."""

    strikes: int = 0
    until: float = 0.0
    problem: Problem | None = None


@dataclass(slots=True)
class _Inbox:
    """Submissions of one turn of the loop: they share one sync."""

    waiting: list[tuple[Submission, asyncio.Future[Accepted]]] = field(default_factory=list)


__all__ = ["Account", "Emit", "Mailer"]


class Mailer:
    """All mail, in and out. Lives on the event loop; nothing here blocks longer than one sync of the database."""

    def __init__(
        self,
        queue: MailQueue,
        *,
        account: Callable[[], Awaitable[Account | None]],
        report: Callable[[MailOutcome], None],
        emit: Emit,
        now: Callable[[], Instant],
        chance: Chance,
    ) -> None:
        """account: what to send with now, None when there is nothing; report: what the agent has to know."""
        self._queue = queue
        self._account = account
        self._report = report
        self._news = MailNews(queue, emit, now)
        self._now = now
        self._chance = chance
        self._governor = Governor(EXCHANGE, queue.attempts(), self._stored_throttle())
        self._slow: Problem | None = None
        self._holds = Holds()
        self._outage = _Outage()
        self._lanes = Lanes(lambda: self._governor.connections(queue.clock().powered))
        self._woken = asyncio.Event()
        self._inbox = _Inbox()
        self._failed: StoreFailed | None = None
        self._works: bool | None = None
        self._pace_known = False
        for name, reason in (("paused", Reason.PAUSED), ("breaker", Reason.BREAKER)):
            if (stored := queue.document(name)) is not None:
                self._holds.add(reason, problem_from_json(stored))
        self._queue.set_held(not self._holds.ageing)

    async def run(self) -> None:
        """Send until cancelled. Raises StoreFailed: the process must end, start anew and read what is on the disk."""
        try:
            while True:
                self._woken.clear()
                if self._failed is not None:
                    raise self._failed
                await self._learn_pace()
                await self._sleep(self._step())
        finally:
            await self.close()

    # --- in ---------------------------------------------------------------------------------------------------------

    async def submit(
        self,
        mail: Composed,
        *,
        kind: str = "message",
        priority: Priority = Priority.REPORT,
        idempotency_key: str | None = None,
        submitter: str = "",
    ) -> Accepted:
        """Accept a mail; it is durable when this returns.

        Raises QueueFull and StoreFull (507), KeyReused (422), StoreFailed (503, and the service ends).
        """
        answer: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        if not self._inbox.waiting:
            asyncio.get_running_loop().call_soon(self._accept)
        self._inbox.waiting.append((Submission(mail, kind, priority, idempotency_key, submitter), answer))
        return await answer

    def _accept(self) -> None:
        taken, self._inbox = self._inbox.waiting, _Inbox()
        try:
            answers = self._queue.accept_all([submission for submission, _ in taken])
        except (StoreFull, StoreFailed) as error:
            answers = [error] * len(taken)
            self._failed = self._failed or (error if isinstance(error, StoreFailed) else None)
        for (submission, future), answer in zip(taken, answers, strict=True):
            self._answer(submission, future, answer)
        self._news.look_at_fullness()
        self._news.held(self._problem())
        self._woken.set()

    def _answer(self, submission: Submission, future: asyncio.Future[Accepted], answer: Accepted | Exception) -> None:
        if isinstance(answer, Accepted):
            if not answer.duplicate:
                self._news.accepted(submission, answer.id)
                if submission.kind == "test":
                    self._close_breaker()
            if not future.done():
                future.set_result(answer)
            return
        if isinstance(answer, QueueFull | StoreFull):
            self._news.refused(submission, answer)
        if not future.done():
            future.set_exception(answer)

    # --- what others decide -----------------------------------------------------------------------------------------

    def hold(self, problem: Problem) -> None:
        """The agent's HoldMail: nothing is sent and nothing ages until `release`."""
        self._hold(Reason.AGENT, problem)
        self._lanes.hang_up_idle()

    def release(self) -> None:
        """The agent's ReleaseMail. A breaker stays: that the login works does not mean that its cause is gone."""
        self._lift(Reason.AGENT, Reason.LOGIN, Reason.ACCOUNT)
        if (problem := self._holds.get(Reason.BREAKER)) is not None:
            self._report(MailOutcome(ok=False, problem=problem, breaker=True))

    def pause(self) -> None:
        """The administrator's "hold all"; survives a restart."""
        problem = paused(self._now().wall)
        self._queue.save_document("paused", problem.as_json())
        self._hold(Reason.PAUSED, problem)

    def resume(self) -> None:
        """The administrator's "resume": also closes a breaker and tries a server that was given a pause."""
        self._queue.save_document("paused", None)
        self._close_breaker()
        self._outage = _Outage()
        self._lift(Reason.PAUSED, Reason.LOGIN, Reason.ACCOUNT)

    def settings_changed(self) -> None:
        """Another server, login or sender may work where the last one did not."""
        self._close_breaker()
        self._outage = _Outage()
        self._pace_known = False
        self._works = None
        self._lanes.hang_up_idle()
        self._lift(Reason.LOGIN, Reason.ACCOUNT)

    def wake(self) -> None:
        """Look again now; always safe."""
        self._woken.set()

    def wan_up(self) -> None:
        """The way out is back: try at once."""
        self._outage = _Outage()
        self._lift(Reason.ACCOUNT)

    # --- looking and steering ---------------------------------------------------------------------------------------

    def gate(self) -> GateView:
        """Why all mail waits; `open` with a problem means that the server is given a pause."""
        view = self._holds.view()
        pause = self._server_pause()
        return view if pause is None or not view.open else replace(view, problem=pause[1].as_json())

    def records(self, state: MailState | None = None, limit: int = 200, before: str | None = None) -> list[MailRecord]:
        """The newest mails first. HELD asks for what waits while mail is held."""
        if state is MailState.HELD:
            waiting = (MailState.READY, MailState.DEFERRED)
            found = [r for s in waiting for r in self._queue.records(s, limit, before)] if not self._holds.open else []
            found = sorted(found, key=lambda r: r.id, reverse=True)[:limit]
        else:
            found = self._queue.records(state, limit, before)
        return [self._as_seen(record) for record in found]

    def record(self, mail_id: str) -> MailRecord | None:
        """One mail, with why it waits."""
        found = self._queue.record(mail_id)
        return None if found is None else self._as_seen(found)

    def counts(self) -> dict[str, int]:
        """Mails by state (`held` while nothing flows), `sent_today`, `queued` and `bytes`."""
        counts = self._queue.counts()
        if self._holds.open:
            return {**counts, "held": 0}
        return {**counts, "held": counts["ready"] + counts["deferred"], "ready": 0, "deferred": 0}

    def delete(self, mail_id: str) -> MailRecord | None:
        """Remove a mail; what it was, or None when there is none. Raises Busy while it is being sent."""
        return self._queue.delete(mail_id)

    def retry(self, mail_id: str) -> bool:
        """Try one waiting mail now; False when there is no such mail waiting."""
        found = self._queue.retry(mail_id) > 0
        self._outage.until = 0.0
        self._woken.set()
        return found

    def retry_all(self) -> int:
        """Try every waiting mail now; how many there are."""
        count = self._queue.retry()
        self._outage.until = 0.0
        self._woken.set()
        return count

    def _as_seen(self, record: MailRecord) -> MailRecord:
        if record.state not in (MailState.READY, MailState.DEFERRED):
            return record
        if (problem := self._holds.problem) is not None:
            return replace(record, state=MailState.HELD, problem=problem.as_json(), next_attempt_at=None)
        if (pause := self._server_pause()) is not None:
            until = max(self._queue.wall_of(pause[0]), record.next_attempt_at or 0.0)
            return replace(record, problem=pause[1].as_json(), next_attempt_at=until)
        return record

    def _server_pause(self) -> tuple[float, Problem] | None:
        powered = self._queue.clock().powered
        if self._outage.problem is not None and self._outage.until > powered:
            return self._outage.until, self._outage.problem
        if self._slow is not None and self._governor.throttle.until > powered:
            return self._governor.throttle.until, self._slow
        return None

    # --- the loop ---------------------------------------------------------------------------------------------------

    async def _sleep(self, delay: float | None) -> None:
        try:
            async with asyncio.timeout(delay):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _learn_pace(self) -> None:
        """Before the first mail, and after a change of settings: whose limits count."""
        if not self._pace_known and self._holds.open and self._queue.next_due() is not None:
            account = await self._account()
            if account is not None:
                self._keep_pace(account)

    def _keep_pace(self, account: Account) -> None:
        self._pace_known = True
        if account.pace != self._governor.limits and not self._governor.flying:
            self._governor = Governor(account.pace, self._queue.attempts(), self._stored_throttle())

    def _step(self) -> float | None:
        """Start what can be started; seconds until there may be more to do, None when only an event can tell."""
        start = self._next_start()
        powered = self._queue.clock().powered
        if start > powered:
            self._news.look_at_recovery()
            return None if start == inf else start - powered
        lane = self._lanes.free(powered)
        if lane is not None:
            lane.busy, lane.since = True, powered
            lane.task = asyncio.get_running_loop().create_task(self._drive(lane))
        return SLOW_SEND_S if self._lanes.may_grow() else None

    def _next_start(self) -> float:
        """The powered second at which the next mail may start; infinity while only an event can tell."""
        if not self._holds.open or self._failed is not None:
            return inf
        powered = self._queue.clock().powered
        due = self._queue.next_due()
        if due is None:
            return inf
        if (first := max(due, self._outage.until)) > powered:
            return first
        waiting = self._queue.peek()
        if waiting is None:
            return inf
        return self._governor.next_start(self._governor.chunk(waiting.pending, powered), powered)

    async def _drive(self, lane: Lane) -> None:
        """Send through one lane for as long as something may be sent."""
        try:
            while self._next_start() <= (powered := self._queue.clock().powered) and await self._ready(lane):
                lane.since = powered
                claimed = self._claim()
                if claimed is None:
                    break
                await self._attempt(lane, *claimed)
        except StoreFailed as error:
            self._failed = error
        finally:
            lane.busy = False
            lane.connecting = False
            await self._lanes.rest(lane, keep=self._failed is None)
            self._woken.set()

    async def _ready(self, lane: Lane) -> bool:
        """Have a session that is logged in with what is valid now; False when there is none to be had."""
        account = await self._account()
        if account is None:
            self._hold(Reason.ACCOUNT, no_account(self._now().wall))
            return False
        if lane.serves(account):
            return True
        await lane.drop()
        self._keep_pace(account)
        session = Session(account.target, oauth=account.auth is Auth.OAUTH2, now_wall=self._now().wall)
        lane.connecting = True
        try:
            await session.open(account.auth, account.username, account.secret)
        except SessionFailed as failed:
            await session.close()
            lane.fresh = True
            self._react(lane, Outcome(failed.stage, failed.reply, failed.meaning, problem=failed.problem), store=True)
            return False
        finally:
            lane.connecting = False
        lane.session, lane.account, lane.fresh = session, account, True
        return True

    def _claim(self) -> tuple[Job, int] | None:
        """Take the next mail out of the queue and its share of the allowance."""
        waiting = self._queue.peek() if self._holds.open else None
        powered = self._queue.clock().powered
        if waiting is None:
            return None
        chunk = self._governor.chunk(waiting.pending, powered)
        if self._governor.next_start(chunk, powered) > powered:
            return None
        ticket = self._governor.begin(chunk)
        try:
            return self._queue.take(waiting.seq, chunk), ticket
        except StoreFull:
            self._governor.cancel(ticket)
            self._hold(Reason.STORE, no_room(self._now().wall))
            asyncio.get_running_loop().call_later(ROOM_RETRY_S, self._lift, Reason.STORE)
            return None

    async def _attempt(self, lane: Lane, job: Job, ticket: int) -> None:
        if lane.session is None or lane.account is None:
            raise RuntimeError("a lane without a session has claimed a mail")
        wall = self._now().wall
        lane.session.now_wall = wall
        raw = readdress(job.raw, lane.account.sender, wall)
        outcome = await lane.session.send(
            Envelope(lane.account.sender, job.recipients, raw, utf8=job.utf8, eight_bit=job.eight_bit)
        )
        self._governor.finish(ticket, self._queue.clock().powered)
        throttle = self._react(lane, outcome)
        lane.fresh = False
        record, fate = await self._note(job, outcome, throttle)
        self._news.outcome(job, record, fate, outcome)

    async def _note(self, job: Job, outcome: Outcome, throttle: Throttle | None) -> tuple[MailRecord, Fate]:
        """Write down what became of a mail. While there is no room for that nothing else is sent."""
        result = weigh(outcome, None if throttle is None else throttle.as_json())
        while True:
            try:
                noted = self._queue.finish(job, result, self._chance)
            except StoreFull:
                self._hold(Reason.STORE, no_room(self._now().wall))
                await asyncio.sleep(ROOM_RETRY_S)
            else:
                self._lift(Reason.STORE)
                return noted

    # --- what follows from a reply ----------------------------------------------------------------------------------

    def _react(self, lane: Lane, outcome: Outcome, *, store: bool = False) -> Throttle | None:
        """Draw the conclusions that concern more than one mail; a throttle to be stored comes back."""
        problem = outcome.problem
        match outcome.meaning:
            case Meaning.DONE:
                self._reached()
                return self._governor.throttle if self._governor.succeeded() else None
            case Meaning.RECONNECT if outcome.unknown or lane.fresh:
                self._strike(problem)
            case Meaning.TOKEN | Meaning.STOP if problem is not None:
                breaker = outcome.meaning is Meaning.STOP and outcome.stage is not Stage.AUTH
                self._refused(problem, breaker=breaker)
            case complaint if complaint in COMPLAINTS:
                self._slow = problem
                powered, others = self._queue.clock().powered, self._lanes.others(lane)
                throttle = self._governor.complained(COMPLAINTS[complaint], powered, others)
                if problem is not None:
                    self._news.trouble(problem)
                if store:
                    self._queue.save_document("throttle", throttle.as_json())
                return throttle
        return None

    def _reached(self) -> None:
        self._outage = _Outage()
        if self._works is not True:
            self._works = True
            self._report(MailOutcome(ok=True))
        self._news.worked()

    def _strike(self, problem: Problem | None) -> None:
        strikes = self._outage.strikes + 1
        until = self._queue.clock().powered + retry_delay(strikes, self._chance)
        self._outage = _Outage(strikes, until, problem)
        if problem is not None:
            self._news.trouble(problem)
            for record in self._queue.expire(problem.as_json()):
                self._news.failed(record, problem)

    def _refused(self, problem: Problem, *, breaker: bool) -> None:
        self._works = False
        if breaker:
            self._queue.save_document("breaker", problem.as_json())
            self._news.breaker_opened(problem)
        self._hold(Reason.BREAKER if breaker else Reason.LOGIN, problem)
        self._report(MailOutcome(ok=False, problem=problem, breaker=breaker))

    def _close_breaker(self) -> None:
        problem = self._holds.get(Reason.BREAKER)
        if problem is None:
            return
        self._queue.save_document("breaker", None)
        self._news.breaker_closed(problem)
        self._lift(Reason.BREAKER)

    def _hold(self, reason: Reason, problem: Problem) -> None:
        self._holds.add(reason, problem)
        self._queue.set_held(not self._holds.ageing)
        if reason not in AGEING and reason is not Reason.PAUSED:
            self._news.trouble(problem)

    def _lift(self, *reasons: Reason) -> None:
        was_closed = not self._holds.open
        self._holds.lift(*reasons)
        self._queue.set_held(not self._holds.ageing)
        if was_closed and self._holds.open:
            self._news.flowing()
        self._woken.set()

    def _problem(self) -> Problem | None:
        """Why all mail waits now, held or not."""
        return self._holds.problem or self._outage.problem or self._slow

    # --- the end ----------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Let what is in flight finish for a moment, then say goodbye to the server."""
        self._holds.add(Reason.PAUSED, paused(self._now().wall))  # lanes take nothing new
        await self._lanes.close()

    def _stored_throttle(self) -> Throttle | None:
        stored = self._queue.document("throttle")
        return None if stored is None else Throttle.from_json(stored)
