"""Many mails: how long a start takes with 50,000 in the queue, and whether memory stays flat over 100,000 sent.

`python -m tests.campaigns.scale --waiting 50000 --through 100000` prints figures and ends with status 1 when the start
takes longer than 2 seconds or memory grows by more than 5 % between the first and the last tenth.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from notifyd.adapters import clock
from notifyd.adapters.database import open_database
from notifyd.adapters.queue import MailQueue, QueueLimits, Submission
from notifyd.core.addresses import Mailbox
from notifyd.core.delivery import Result
from notifyd.core.message import Composed, Draft, Stamp, compose
from notifyd.core.outbox import Recipient, RecipientState

BATCH = 500
START_LIMIT_S = 2.0
GROWTH_LIMIT = 1.05
ROOMY = QueueLimits(max_mails=1_000_000, max_bytes=1 << 40)

_START = """
import json, sys, time
began = time.perf_counter()
from pathlib import Path
from notifyd.adapters import clock
from notifyd.adapters.database import open_database
from notifyd.adapters.queue import MailQueue, QueueLimits
imported = time.perf_counter()
database = open_database(Path(sys.argv[1]))
queue = MailQueue(database, QueueLimits(1_000_000, 1 << 40), now=clock.now, boot_id=clock.boot_id())
first = queue.peek()
opened = time.perf_counter()
print(json.dumps({"import_s": imported - began, "open_s": opened - imported, "waiting": queue.waiting()}))
"""


def mail(number: int) -> Composed:
    """A mail of about 2 KB."""
    draft = Draft((Mailbox("", "ops@contoso.example"),), f"Mail {number}", "A line of text.\n" * 110)
    return compose(draft, "gateway@contoso.example", Stamp(time.time(), f"{number:024x}"))


def fill(path: Path, count: int) -> None:
    """A queue with so many mails waiting."""
    with closing(open_database(path)) as database:
        queue = MailQueue(database, ROOMY, now=clock.now, boot_id=clock.boot_id())
        for first in range(0, count, BATCH):
            queue.accept_all([Submission(mail(number)) for number in range(first, min(first + BATCH, count))])


def start(path: Path) -> dict[str, float]:
    """A new process opens the database (with its check) and finds the first mail to send."""
    done = subprocess.run([sys.executable, "-c", _START, str(path)], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def through(path: Path, count: int) -> list[int]:
    """Accept and finish so many mails; memory at each hundredth of the way."""
    seen: list[int] = []
    chance = random.Random(1)
    with closing(open_database(path)) as database:
        queue = MailQueue(database, now=clock.now, boot_id=clock.boot_id())
        for first in range(0, count, BATCH):
            queue.accept_all([Submission(mail(number)) for number in range(first, first + BATCH)])
            while (waiting := queue.peek()) is not None:
                job = queue.take(waiting.seq, waiting.pending)
                settled = {a: Recipient(a, RecipientState.DELIVERED, "250 ok") for a in job.recipients}
                queue.finish(job, Result(settled, "250 ok"), chance)
            if first % max(count // 100, 1) < BATCH:
                seen.append(resident())
    return seen


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiting", type=int, default=50_000)
    parser.add_argument("--through", type=int, default=100_000)
    parser.add_argument("--home", help="where to work; for memory /dev/shm will do")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scale-", dir=options.home) as home:
        path = Path(home) / "waiting.db"
        fill(path, options.waiting)
        started = min((start(path) for _ in range(3)), key=lambda one: one["open_s"])
        seen = through(Path(home) / "through.db", options.through)
        size = (Path(home) / "through.db").stat().st_size
    tenth = max(len(seen) // 10, 1)
    # The first tenth warms up: caches of SQLite and the allocator reach their size there.
    early, late = max(seen[tenth : 2 * tenth]), max(seen[-tenth:])
    figures = {
        "waiting": started["waiting"],
        "open_s": round(started["open_s"], 3),
        "import_s": round(started["import_s"], 3),
        "through": options.through,
        "memory_early_mib": round(early / 2**20, 1),
        "memory_late_mib": round(late / 2**20, 1),
        "memory_growth": round(late / early, 3),
        "database_mib_after": round(size / 2**20, 1),
    }
    print(json.dumps(figures))
    return 0 if figures["open_s"] <= START_LIMIT_S and figures["memory_growth"] <= GROWTH_LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
