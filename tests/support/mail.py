"""A mailer on a database of its own, with a clock that a test may move, and what it reported."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from notifyd.adapters.database import open_database
from notifyd.adapters.queue import Accepted, MailQueue, QueueLimits
from notifyd.adapters.smtp import Deadlines, SmtpTarget
from notifyd.core.addresses import Mailbox
from notifyd.core.events import MailOutcome
from notifyd.core.governor import EXCHANGE
from notifyd.core.instant import Instant
from notifyd.core.message import Composed, Draft, Stamp, compose
from notifyd.core.outbox import MailRecord, MailState, Priority
from notifyd.core.secret import Secret
from notifyd.core.settings import Auth, Security
from notifyd.mailer import Account, Mailer

SENDER = "gateway@contoso.example"
SHORT = Deadlines(connect=3, greeting=3, login=3, command=3, data=3, block=3, final=3)
DEADLINE_S = 10.0


class MovableClock:
    """The machine's clock plus what a test added."""

    def __init__(self) -> None:
        self.added = 0.0
        self.boots = 1
        self._booted = 0.0

    @property
    def boot_id(self) -> str:
        return f"boot-{self.boots}"

    def now(self) -> Instant:
        return Instant(boot=time.monotonic() + self.added - self._booted, wall=time.time() + self.added)

    def reboot(self) -> None:
        """Another boot: its clock begins at zero."""
        self.boots += 1
        self._booted = time.monotonic() + self.added

    def advance(self, seconds: float) -> None:
        self.added += seconds


def mail(number: int = 0, to: tuple[str, ...] = ("admin@contoso.example",), text: str = "Hello") -> Composed:
    """A small mail; `number` goes into subject and Message-ID."""
    draft = Draft(tuple(Mailbox("", address) for address in to), f"Mail {number}", text)
    return compose(draft, SENDER, Stamp(time.time(), f"{number:08d}{random.getrandbits(64):016x}"))


@contextmanager
def open_queue(path: Path, clock: MovableClock, limits: QueueLimits | None = None) -> Iterator[MailQueue]:
    """The queue in `path`/notifyd.db, until the block ends."""
    with closing(open_database(path / "notifyd.db")) as database:
        yield MailQueue(database, limits, now=clock.now, boot_id=clock.boot_id)


@dataclass
class Desk:
    """A running mailer and everything that it told."""

    mailer: Mailer
    queue: MailQueue
    clock: MovableClock
    account: Account | None
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    outcomes: list[MailOutcome] = field(default_factory=list)

    def told(self, event: str) -> list[dict[str, Any]]:
        """The fields of every event of this name."""
        return [fields for name, fields in self.events if name == event]

    async def submit(self, composed: Composed | None = None, **options: Any) -> Accepted:
        return await self.mailer.submit(composed or mail(), **options)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition holds; a failure names it."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, f"never came: {what}; events: {self.events}; {self.mailer.gate()}"
            await asyncio.sleep(0.01)

    async def becomes(self, mail_id: str, *states: MailState) -> MailRecord:
        """The record of a mail once it is in one of these states."""
        await self.until(lambda: self.record(mail_id).state in states, f"{mail_id} {states}: {self.record(mail_id)}")
        return self.record(mail_id)

    def record(self, mail_id: str) -> MailRecord:
        found = self.mailer.record(mail_id)
        assert found is not None
        return found

    def later(self, seconds: float) -> None:
        """Let time pass at once."""
        self.clock.advance(seconds)
        self.mailer.wake()


@asynccontextmanager
async def running_desk(
    path: Path,
    account: Account | None,
    *,
    clock: MovableClock | None = None,
    limits: QueueLimits | None = None,
    on_outcome: Callable[[MailOutcome], None] = lambda outcome: None,
) -> AsyncIterator[Desk]:
    """A mailer that runs until the block ends."""
    clock = clock or MovableClock()
    with open_queue(path, clock, limits) as queue:
        desk = _desk(queue, account, clock, on_outcome)
        task = asyncio.create_task(desk.mailer.run())
        try:
            yield desk
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _desk(
    queue: MailQueue, account: Account | None, clock: MovableClock, on_outcome: Callable[[MailOutcome], None]
) -> Desk:
    events: list[tuple[str, dict[str, Any]]] = []
    outcomes: list[MailOutcome] = []

    async def current() -> Account | None:
        return desk.account

    def report(outcome: MailOutcome) -> None:
        outcomes.append(outcome)
        on_outcome(outcome)

    def emit(event: str, /, **fields: object) -> None:
        events.append((event, fields))

    mailer = Mailer(queue, account=current, report=report, emit=emit, now=clock.now, chance=random.Random(1))
    desk = Desk(mailer, queue, clock, account, events, outcomes)
    return desk


def exchange_account(host: str, port: int, ca_file: str | Path, token: str) -> Account:
    """An account for the simulated Exchange."""
    target = SmtpTarget(host, port, Security.STARTTLS, Path(ca_file), deadlines=SHORT)
    return Account(target, SENDER, SENDER, Auth.OAUTH2, Secret(token), EXCHANGE)


__all__ = ["DEADLINE_S", "Desk", "MovableClock", "Priority", "exchange_account", "mail", "open_queue", "running_desk"]
