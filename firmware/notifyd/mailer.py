"""The mailer: takes mail in, and sends what is due through as few connections as the pace allows.

One task (`run`) sleeps until the next moment at which something can be sent: a mail falls due, the governor allows one
more, the server may be tried again. It never wakes without a reason. Sending happens in lanes, each with one session;
a second lane is opened only when the first is slow.

Three things can keep a mail waiting, and each is kept apart: the mail's own back-off (in the queue), a pause of this
server (unreachable, or it asked for less), and the reasons of `core.holds` under which nothing flows and nothing ages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from math import inf
from typing import Protocol

from notifyd.adapters.queue import Accepted, Job, MailQueue, QueueFull, Submission
from notifyd.adapters.smtp import Envelope, Session, SessionFailed, SmtpTarget
from notifyd.core.delivery import COMPLAINTS, Outcome, weigh
from notifyd.core.events import MailOutcome
from notifyd.core.faults import StoreFailed, StoreFull
from notifyd.core.governor import EXCHANGE, Governor, Limits, Throttle
from notifyd.core.holds import AGEING, GateView, Holds, Reason, no_account, no_room, paused, problem_from_json
from notifyd.core.instant import Instant
from notifyd.core.message import Composed, readdress
from notifyd.core.outbox import Chance, Fate, MailRecord, MailState, Priority, RecipientState, retry_delay
from notifyd.core.problem import Problem
from notifyd.core.secret import Secret
from notifyd.core.settings import Auth
from notifyd.core.smtp_reply import Meaning, Stage

IDLE_S = 65.0
"""A session without work stays this long: a whole minute's allowance goes through one connection."""

SLOW_SEND_S = 2.0
"""A lane that has been sending one mail for so long gets a second one beside it."""

ROOM_RETRY_S = 10.0
"""While the disk is full: how often to look for room."""

CLOSING_S = 5.0
"""What is in flight at the end gets so long to finish; else it is sent again at the next start."""

HIGH_WATER = 0.8


@dataclass(frozen=True, slots=True)
class Account:
    """What mail is sent with. sender: the address of the mailbox, for envelope and From; secret: token or password."""

    target: SmtpTarget
    sender: str
    username: str
    auth: Auth
    secret: Secret | None
    limits: Limits = EXCHANGE

    def same_way_as(self, other: Account | None) -> bool:
        """Whether a session opened with the other still serves; a session outlives the token that opened it."""
        return other is not None and replace(self, secret=None) == replace(other, secret=None)


class Emit(Protocol):
    """`EventLog.emit`."""

    def __call__(self, event: str, /, **fields: object) -> object: ...


@dataclass(slots=True)
class _Lane:
    session: Session | None = None
    account: Account | None = None
    busy: bool = False
    connecting: bool = False
    fresh: bool = True
    since: float = 0.0
    task: asyncio.Task[None] | None = None
    idle: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class _Outage:
    """The server cannot be reached: strikes in a row, and the powered second of the next try."""

    strikes: int = 0
    until: float = 0.0
    problem: Problem | None = None


@dataclass(slots=True)
class _Trouble:
    """One stretch in which mail did not get out, for the summary after it."""

    since: float
    told: bool = False
    over: bool = False
    sent: int = 0
    failed: int = 0


@dataclass(slots=True)
class _Inbox:
    """Submissions of one turn of the loop: they share one sync."""

    waiting: list[tuple[Submission, asyncio.Future[Accepted]]] = field(default_factory=list)


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
        self._emit = emit
        self._now = now
        self._chance = chance
        self._governor = Governor(EXCHANGE, queue.attempts(), self._stored_throttle())
        self._slow: Problem | None = None
        self._holds = Holds()
        self._outage = _Outage()
        self._trouble: _Trouble | None = None
        self._lanes: list[_Lane] = []
        self._woken = asyncio.Event()
        self._inbox = _Inbox()
        self._failed: StoreFailed | None = None
        self._works: bool | None = None
        self._high = False
        self._refusing = False
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
        self._look_at_fullness()
        self._tell_held()
        self._woken.set()

    def _answer(self, submission: Submission, future: asyncio.Future[Accepted], answer: Accepted | Exception) -> None:
        if isinstance(answer, Accepted):
            self._refusing = False
            if not answer.duplicate:
                to = _shown(submission.mail.recipients)
                size = len(submission.mail.raw)
                self._emit("mail.accepted", mail_id=answer.id, kind=submission.kind, to=to, size=size)
                if submission.kind == "test":
                    self._close_breaker()
            if not future.done():
                future.set_result(answer)
            return
        if isinstance(answer, QueueFull | StoreFull) and not self._refusing:
            self._refusing = True  # once until something is accepted again: a failure of mail must not flood the log
            self._emit("mail.refused", reason=str(answer), user=submission.submitter)
        if not future.done():
            future.set_exception(answer)

    # --- what others decide -----------------------------------------------------------------------------------------

    def hold(self, problem: Problem) -> None:
        """The agent's HoldMail: nothing is sent and nothing ages until `release`."""
        self._hold(Reason.AGENT, problem)

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
        self._works = None
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

    def _step(self) -> float | None:
        """Start what can be started; seconds until there may be more to do, None when only an event can tell."""
        start = self._next_start()
        powered = self._queue.clock().powered
        if start > powered:
            self._look_at_recovery()
            return None if start == inf else start - powered
        lane = self._free_lane(powered)
        if lane is not None:
            lane.busy, lane.since = True, powered
            lane.task = asyncio.get_running_loop().create_task(self._drive(lane))
        return SLOW_SEND_S if len(self._lanes) < self._governor.connections(powered) else None

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

    def _free_lane(self, powered: float) -> _Lane | None:
        idle = sorted((lane for lane in self._lanes if not lane.busy), key=lambda lane: lane.session is None)
        if idle:
            if idle[0].idle is not None:
                idle[0].idle.cancel()
            return idle[0]
        hasty = any(lane.connecting or powered - lane.since < SLOW_SEND_S for lane in self._lanes)
        if hasty or len(self._lanes) >= self._governor.connections(powered):
            return None
        self._lanes.append(_Lane())
        return self._lanes[-1]

    async def _drive(self, lane: _Lane) -> None:
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
            await self._rest(lane)
            self._woken.set()

    async def _rest(self, lane: _Lane) -> None:
        surplus = len(self._lanes) > self._governor.connections(self._queue.clock().powered)
        if surplus or lane.session is None or not lane.session.alive or self._failed is not None:
            self._lanes.remove(lane)
            await self._drop(lane)
        else:
            lane.idle = asyncio.get_running_loop().call_later(IDLE_S, self._hang_up, lane)

    def _hang_up(self, lane: _Lane) -> None:
        if lane.busy or lane not in self._lanes:
            return
        self._lanes.remove(lane)
        lane.task = asyncio.get_running_loop().create_task(self._drop(lane))
        lane.task.add_done_callback(lambda _: None)

    async def _drop(self, lane: _Lane) -> None:
        session, lane.session = lane.session, None
        if lane.idle is not None:
            lane.idle.cancel()
        if session is not None:
            await session.close()

    async def _ready(self, lane: _Lane) -> bool:
        """Have a session that is logged in with what is valid now; False when there is none to be had."""
        account = await self._account()
        if account is None:
            self._hold(Reason.ACCOUNT, no_account(self._now().wall))
            return False
        if lane.session is not None and lane.session.alive and account.same_way_as(lane.account):
            return True
        await self._drop(lane)
        if account.limits != self._governor.limits and not self._governor.flying:
            self._governor = Governor(account.limits, self._queue.attempts(), self._stored_throttle())
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

    async def _attempt(self, lane: _Lane, job: Job, ticket: int) -> None:
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
        self._tell(job, record, fate, outcome)

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

    def _react(self, lane: _Lane, outcome: Outcome, *, store: bool = False) -> Throttle | None:
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
                others = sum(other is not lane and other.session is not None for other in self._lanes)
                throttle = self._governor.complained(COMPLAINTS[complaint], self._queue.clock().powered, others)
                self._begin_trouble(problem)
                if store:
                    self._queue.save_document("throttle", throttle.as_json())
                return throttle
        return None

    def _reached(self) -> None:
        self._outage = _Outage()
        if self._works is not True:
            self._works = True
            self._report(MailOutcome(ok=True))
        if self._trouble is not None:
            self._trouble.over = True

    def _strike(self, problem: Problem | None) -> None:
        strikes = self._outage.strikes + 1
        until = self._queue.clock().powered + retry_delay(strikes, self._chance)
        self._outage = _Outage(strikes, until, problem)
        self._begin_trouble(problem)
        if problem is not None:
            for record in self._queue.expire(problem.as_json()):
                self._tell_failed(record, problem)

    def _refused(self, problem: Problem, *, breaker: bool) -> None:
        self._works = False
        if breaker:
            self._queue.save_document("breaker", problem.as_json())
            self._emit("mail.breaker_opened", **_told(problem))
        self._hold(Reason.BREAKER if breaker else Reason.LOGIN, problem)
        self._report(MailOutcome(ok=False, problem=problem, breaker=breaker))

    def _close_breaker(self) -> None:
        problem = self._holds.get(Reason.BREAKER)
        if problem is None:
            return
        self._queue.save_document("breaker", None)
        self._emit("mail.breaker_closed", seconds=max(0, round(self._now().wall - problem.since)))
        self._lift(Reason.BREAKER)

    def _hold(self, reason: Reason, problem: Problem) -> None:
        self._holds.add(reason, problem)
        self._queue.set_held(not self._holds.ageing)
        if reason not in AGEING and reason is not Reason.PAUSED:
            self._begin_trouble(problem)
        self._tell_held()

    def _lift(self, *reasons: Reason) -> None:
        was_closed = not self._holds.open
        self._holds.lift(*reasons)
        self._queue.set_held(not self._holds.ageing)
        if was_closed and self._holds.open and self._trouble is not None and self._trouble.told:
            self._trouble.told = False
            self._emit("mail.released", waiting=self._queue.waiting())
        self._woken.set()

    # --- telling ----------------------------------------------------------------------------------------------------

    def _begin_trouble(self, problem: Problem | None) -> None:
        if self._trouble is None and problem is not None:
            self._trouble = _Trouble(self._now().boot)
        self._tell_held()

    def _tell_held(self) -> None:
        """Say once per trouble that mail waits, and only when some does."""
        problem = self._holds.problem or self._outage.problem or self._slow
        if self._trouble is None or self._trouble.told or problem is None or not self._queue.waiting():
            return
        self._trouble.told = True
        self._emit("mail.held", **_told(problem), waiting=self._queue.waiting())

    def _look_at_recovery(self) -> None:
        """One summary when mail works again and nothing is left to send now."""
        trouble = self._trouble
        if trouble is None or not trouble.over or not self._holds.open:
            return
        self._trouble = None
        if trouble.told or trouble.failed:
            seconds = round(self._now().boot - trouble.since)
            self._emit("mail.recovered", seconds=seconds, sent=trouble.sent, failed=trouble.failed)

    def _look_at_fullness(self) -> None:
        high = self._queue.fullness() >= HIGH_WATER
        if high and not self._high:
            percent = round(100 * self._queue.fullness())
            self._emit("mail.queue_high", percent=percent, waiting=self._queue.waiting())
        self._high = high

    def _tell(self, job: Job, record: MailRecord, fate: Fate, outcome: Outcome) -> None:
        about: dict[str, str | float | bool | None] = {"mail_id": record.id, "kind": record.kind}
        for address, reply in outcome.refused.items():
            self._emit("mail.recipient_refused", **about, to=address, reply=str(reply))
        about |= {"to": _shown(r.address for r in record.recipients), "attempts": record.attempts}
        match fate:
            case Fate.SENT:
                self._emit("mail.sent", **about, reply=record.reply)
                if self._trouble is not None:
                    self._trouble.sent += 1
            case Fate.FAILED if outcome.problem is not None:
                self._tell_failed(record, outcome.problem)
            case Fate.FAILED:
                self._emit("mail.failed", **about, **_partly(record))
            case Fate.LATER:
                retry_at = record.next_attempt_at
                problem = {} if outcome.problem is None else _told(outcome.problem)
                self._emit("mail.deferred", **about, **problem, retry_at=retry_at)

    def _tell_failed(self, record: MailRecord, problem: Problem) -> None:
        to = _shown(r.address for r in record.recipients if r.state is not RecipientState.DELIVERED)
        self._emit(
            "mail.failed", mail_id=record.id, kind=record.kind, to=to, attempts=record.attempts, **_told(problem)
        )
        if self._trouble is not None:
            self._trouble.failed += 1

    # --- the end ----------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Let what is in flight finish for a moment, then say goodbye to the server."""
        running = [lane.task for lane in self._lanes if lane.task is not None and lane.busy]
        self._holds.add(Reason.PAUSED, paused(self._now().wall))  # lanes take nothing new
        if running:
            _, late = await asyncio.wait(running, timeout=CLOSING_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        lanes, self._lanes = self._lanes, []
        for lane in lanes:
            await self._drop(lane)

    def _stored_throttle(self) -> Throttle | None:
        stored = self._queue.document("throttle")
        return None if stored is None else Throttle.from_json(stored)


def _told(problem: Problem) -> dict[str, str]:
    return {"code": problem.code, "title": problem.title, "detail": problem.detail, "remedy": problem.remedy}


def _partly(record: MailRecord) -> dict[str, str]:
    refused = next((r for r in record.recipients if r.state is RecipientState.REFUSED), None)
    title = "Some recipients were refused"
    return {"code": "mail.recipients", "title": title, "detail": refused.reply if refused else "", "remedy": ""}


def _shown(recipients: Iterable[str]) -> str:
    addresses = list(recipients)
    return ", ".join(addresses[:5]) + (f" and {len(addresses) - 5} more" if len(addresses) > 5 else "")
