"""A file system of a few MiB filled to its last block while mail comes in and goes out; run by `test_full_queue_disk`.

`python -m tests.adapters.mail.full_disk_steps DIRECTORY` prints what happened as JSON; DIRECTORY is the small one.
"""

from __future__ import annotations

import json
import random
import sys
from contextlib import suppress
from pathlib import Path

from notifyd.adapters import clock
from notifyd.adapters.database import open_database
from notifyd.adapters.queue import MailQueue, QueueLimits, Submission
from notifyd.core.delivery import Result
from notifyd.core.faults import StoreFull
from notifyd.core.outbox import MailState, Recipient, RecipientState
from tests.adapters.mail.queue_steps import mail

CHANCE = random.Random(1)


def deliver(queue: MailQueue) -> None:
    """Take the first mail and note that it was sent. Raises StoreFull when not even the reserve is enough."""
    waiting = queue.peek()
    assert waiting is not None
    job = queue.take(waiting.seq, waiting.pending)
    settled = {a: Recipient(a, RecipientState.DELIVERED, "250 ok") for a in job.recipients}
    queue.finish(job, Result(settled, "250 ok"), CHANCE)


def fill_disk(directory: Path) -> Path:
    """Take every block that is left."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        for size in (65_536, 4_096, 512, 1):
            with suppress(OSError):
                while file.write(b"x" * size) == size:
                    pass
    return filler


def main() -> None:
    """Accept until full, fill what is left, try to send, make room, accept and send again."""
    directory = Path(sys.argv[1])
    limits = QueueLimits(keep_finished=100_000)
    queue = MailQueue(open_database(directory / "notifyd.db"), limits, now=clock.now, boot_id=clock.boot_id())
    accepted, refused = [], 0
    for number in range(100_000):
        try:
            accepted.append(queue.accept(Submission(mail(number))).id)
        except StoreFull:
            refused += 1
            break
    filler = fill_disk(directory)
    with suppress(StoreFull):
        accepted.append(queue.accept(Submission(mail(0))).id)
        refused -= 1
    refused += 1
    whole = sum(queue.body(mail_id) is not None for mail_id in accepted)
    sent = 0
    while queue.peek() is not None:
        deliver(queue)
        sent += 1
    filler.unlink()
    again = queue.accept(Submission(mail(1))).id
    assert queue.body(again) is not None
    deliver(queue)
    states = [record.state for record in queue.records(limit=100_000)]
    figures = {
        "accepted": len(accepted),
        "refused": refused,
        "whole": whole,
        "sent_at_zero_blocks": sent,
        "sent_in_all": states.count(MailState.SENT),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
