"""10,000 messages in a simulated day through the real SMTP adapter to the simulated Exchange, throttling on.

`python -m tests.campaigns.simulated_day --messages 10000 --speed 90` prints figures and ends with status 1 when the
server saw more than 30 messages in any minute, more than 10,000 recipients in any day, more than 3 connections, refused
or delayed anything, or when less than 97 % of the allowance was used while there was work.

Both sides live on clocks of the same speed; sockets, TLS, XOAUTH2 and the database are real.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import contextlib
import json
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from notifyd.core.addresses import Mailbox
from notifyd.core.instant import Instant
from notifyd.core.message import Draft, Stamp, compose
from notifyd.core.outbox import MailState
from qemu.m365 import ThreadedSimulator, start_in_thread
from tests.campaigns import fast_time
from tests.m365.smtp_client import token_for
from tests.support.mail import SENDER, MovableClock, exchange_account, running_desk

MINUTE_LIMIT, DAY_LIMIT, CONNECTIONS = 30, 10_000, 3
WANTED_USE = 0.97
DAY_S = 86_400.0


class FastClock(MovableClock):
    """The machine's clock, running `speed` times as fast since now."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self._began, self._speed = (time.monotonic(), time.time()), speed

    def now(self) -> Instant:
        passed = (time.monotonic() - self._began[0]) * self._speed
        return Instant(boot=self._began[0] + passed, wall=self._began[1] + passed)


@dataclass(frozen=True)
class Day:
    """What the server saw. use_of_minute: messages against 30 a minute over the whole run, while there was work."""

    messages: int
    arrived: int
    recipients: int
    most_in_a_minute: int
    most_recipients_in_a_day: int
    most_connections: int
    refused_or_delayed: int
    hours: float
    use_of_minute: float
    use_of_day: float
    real_seconds: float

    @property
    def good(self) -> bool:
        """Within every limit, nothing missing, the allowance used."""
        return (
            self.arrived == self.messages
            and self.most_in_a_minute <= MINUTE_LIMIT
            and self.most_recipients_in_a_day <= DAY_LIMIT
            and self.most_connections <= CONNECTIONS
            and self.refused_or_delayed == 0
            and max(self.use_of_minute, self.use_of_day) >= WANTED_USE
        )


async def _send_all(simulator: ThreadedSimulator, home: Path, messages: int, recipients: int, speed: float) -> None:
    ends = simulator.endpoints
    account = exchange_account(*ends.smtp, ends.ca_file, token_for(simulator, seconds=30 * 86_400))
    people = tuple(Mailbox("", f"user{number}@contoso.example") for number in range(recipients))
    async with running_desk(home, account, clock=FastClock(speed)) as desk:
        desk.mailer.pause()
        for number in range(messages):
            draft = Draft(people, f"Message {number}", "A line of text.\n" * 20)
            await desk.mailer.submit(compose(draft, SENDER, Stamp(time.time(), f"{number:024x}")))
        simulator.world.clock.run_at(speed)
        desk.mailer.resume()
        reported = 0
        while (left := desk.queue.waiting()) and desk.queue.counts()[MailState.FAILED] == 0:
            await asyncio.sleep(30)
            if messages - left >= reported + 1_000:
                reported = messages - left
                print(f"  {reported} sent", flush=True)
        await asyncio.sleep(1)


def simulate(messages: int, recipients: int, speed: float) -> Day:
    """One campaign; see `Day`."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="day-") as home, start_in_thread() as simulator:
        with contextlib.suppress(asyncio.CancelledError):
            fast_time.run(_send_all(simulator, Path(home), messages, recipients, speed), speed)
        mail = simulator.world.mail
        times = [arrived.time for arrived in mail.arrived]
        books = mail.account(SENDER)
        hours = (times[-1] - times[0]) / 3_600 if len(times) > 1 else 0.0
        allowed = MINUTE_LIMIT * (hours * 60 + 1)  # a window may be full at both ends
        total = sum(len(arrived.recipients) for arrived in mail.arrived)
        return Day(
            messages=messages,
            arrived=len({arrived.parsed()["Message-ID"] for arrived in mail.arrived}),
            recipients=total,
            most_in_a_minute=most_within(times, 60.0),
            most_recipients_in_a_day=most_within(
                [arrived.time for arrived in mail.arrived for _ in arrived.recipients], DAY_S
            ),
            most_connections=books.max_connections,
            refused_or_delayed=books.refused_connections + books.refused_rate + books.delayed,
            hours=round(hours, 2),
            use_of_minute=round(len(times) / allowed, 4),
            use_of_day=round(total / (DAY_LIMIT * max(1.0, -(-hours // 24))), 4),
            real_seconds=round(time.monotonic() - began, 1),
        )


def most_within(times: list[float], window: float) -> int:
    """The most moments in any half-open window of that length."""
    return max((bisect.bisect_left(times, at + window) - index for index, at in enumerate(times)), default=0)


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--recipients", type=int, default=1, help="of each message")
    parser.add_argument("--speed", type=float, default=90.0)
    options = parser.parse_args()
    threading.current_thread().name = "campaign"
    day = simulate(options.messages, options.recipients, options.speed)
    print(json.dumps(day.__dict__))
    return 0 if day.good else 1


if __name__ == "__main__":
    sys.exit(main())
