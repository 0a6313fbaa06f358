"""What the event log writes to flash in a day at one event a minute, as batched as the service does it."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from notifyd.adapters.eventlog import BATCH_S, EventLog

EVENTS = 24 * 60
DISK = Path(__file__).resolve().parents[2] / "build"  # /tmp may be memory, where nothing is written


def measure() -> dict[str, float]:
    """`event_log_bytes_per_day` for ordinary events, `event_log_bytes_per_day_durable` when each is written at once."""
    DISK.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DISK) as directory:
        return {
            "event_log_bytes_per_day": _day(Path(directory) / "batched.db", per_write=round(BATCH_S / 60)),
            "event_log_bytes_per_day_durable": _day(Path(directory) / "durable.db", per_write=1),
        }


def _day(path: Path, per_write: int) -> int:
    return asyncio.run(_emit_a_day(path, per_write))


async def _emit_a_day(path: Path, per_write: int) -> int:
    """In a loop, where the event log batches; without one it would write each event at once."""
    log = EventLog(path)
    before = _written()
    for number in range(1, EVENTS + 1):
        log.emit(
            "mail.sent",
            mail_id=f"{number:08d}",
            kind="alert",
            to="admin@contoso.example",
            reply="250 2.0.0 OK",
            attempts=1,
        )
        if number % per_write == 0:
            log.flush()  # what the one-shot timer does after five minutes
    written = _written() - before
    log.close()
    return written


def _written() -> int:
    """Bytes this process has handed to file systems (proc(5), /proc/self/io)."""
    figures = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return max(int(figures["wchar"]), int(figures["write_bytes"]))
