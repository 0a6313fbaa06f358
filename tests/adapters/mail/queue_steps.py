"""One step on the mail queue, run by the fault tests in a process of its own.

`python -m tests.adapters.mail.queue_steps STEP DIRECTORY` prints `ack` when the step is durable by its own account,
`refused` when it was refused by name.
"""

from __future__ import annotations

import random
import resource
import signal
import sys
from pathlib import Path

from notifyd.adapters import clock
from notifyd.adapters.database import open_database
from notifyd.adapters.queue import MailQueue, QueueFull, Submission
from notifyd.core.addresses import Mailbox
from notifyd.core.delivery import Result
from notifyd.core.faults import StoreFailed, StoreFull
from notifyd.core.message import Composed, Draft, Stamp, compose
from notifyd.core.outbox import Recipient, RecipientState

KEPT = 3
"""Mails that are in the queue before the step."""

_open: list[object] = []
"""Keeps connections open: closing one would begin a checkpoint, which is no part of the step."""


def mail(number: int) -> Composed:
    """Always the same mail for a number, some of them longer than a page of the database."""
    draft = Draft((Mailbox("", "ops@contoso.example"),), f"Mail {number}", "x" * (3_000 * (number % 3) + 10))
    return compose(draft, "gateway@contoso.example", Stamp(1_795_500_000.0, f"{number:024x}"))


def open_queue(directory: Path) -> MailQueue:
    """The queue of a directory, with its connection kept open."""
    database = open_database(directory / "notifyd.db")
    _open.append(database)
    return MailQueue(database, now=clock.now, boot_id=clock.boot_id())


def prepare(directory: Path) -> None:
    """The state that each run begins with."""
    queue = open_queue(directory)
    for number in range(KEPT):
        queue.accept(Submission(mail(number), idempotency_key=f"key-{number}"))


def accept(queue: MailQueue) -> None:
    """Accept one more mail."""
    queue.accept(Submission(mail(KEPT), idempotency_key=f"key-{KEPT}"))


def deliver(queue: MailQueue) -> None:
    """Take the first mail and note that it was sent."""
    waiting = queue.peek()
    assert waiting is not None
    job = queue.take(waiting.seq, waiting.pending)
    settled = {a: Recipient(a, RecipientState.DELIVERED, "250 ok") for a in job.recipients}
    queue.finish(job, Result(settled, "250 ok"), random.Random(1))


STEPS = {"accept": accept, "deliver": deliver}


def main() -> None:
    """Run a step; a third argument limits the size of every file, so that a write ends short in its middle."""
    step, directory = STEPS[sys.argv[1]], Path(sys.argv[2])
    queue = open_queue(directory)
    if len(sys.argv) > 3:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
    print("open", flush=True)
    try:
        step(queue)
    except (StoreFull, StoreFailed, QueueFull) as refusal:
        print("refused", type(refusal).__name__, flush=True)
    else:
        print("ack", flush=True)
    signal.raise_signal(signal.SIGKILL)  # no good end: what is on the disk now is what counts


if __name__ == "__main__":
    main()
