"""Promises P2, P8 and P9 for mail: killed, out of room, failing or cut short at every system call in turn.

Each run is a real process on real files. Under strace it is killed at the k-th call of a kind, or that call fails;
k grows until a run ends untouched. `-s` prints the figures.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from notifyd.adapters import clock
from notifyd.adapters.database import open_database
from notifyd.adapters.queue import MailQueue, Submission
from notifyd.core.outbox import MailState
from tests.adapters.mail import queue_steps

CHANGING = ("openat", "pwrite64", "fdatasync", "ftruncate", "unlink")
FAILING = ("pwrite64", "fdatasync")
LIMIT = 200

pytestmark = [
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
    pytest.mark.timeout(600),
]


# Every step is a campaign of its own; on every commit the one that an acknowledgement hangs on is enough.
STEPS = ["accept", pytest.param("deliver", marks=pytest.mark.campaign)]


@dataclass(frozen=True)
class Run:
    """How one run ended, by what it printed."""

    output: str

    @property
    def acknowledged(self) -> bool:
        return "ack" in self.output.splitlines()

    @property
    def refused(self) -> bool:
        return "refused" in self.output or "StoreFailed" in self.output or "StoreFull" in self.output


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state that each run begins with."""
    directory = tmp_path_factory.mktemp("state")
    queue_steps.prepare(directory)
    return directory


def fresh(state: Path, tmp_path: Path) -> Path:
    directory = tmp_path / "run"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(state, directory)
    return directory


def program(step: str, directory: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "tests.adapters.mail.queue_steps", step, str(directory), *more]


def run(command: list[str]) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    return done.stdout + done.stderr


def every(step: str, state: Path, tmp_path: Path, call: str, injection: str) -> Iterator[tuple[Run, Path]]:
    """Runs of `step` from the same state, with the injection at the first, second, … occurrence of `call`."""
    trace = tmp_path / "trace"
    for occurrence in range(1, LIMIT):
        directory = fresh(state, tmp_path)
        command = ["strace", "-f", "-qq", "-o", str(trace)]
        if not injection.startswith("signal"):  # strace 6.1 with --seccomp-bpf injects errors, but no signals
            command.append("--seccomp-bpf")
        for name in ("notifyd.db", "notifyd.db-wal", "notifyd.db-shm", "notifyd.db-journal"):
            command += ["-P", str(directory / name)]
        command += ["-e", f"trace={call}", "-e", f"inject={call}:{injection}:when={occurrence}"]
        result = Run(run(command + program(step, directory)))
        if result.acknowledged and "(INJECTED)" not in trace.read_text():
            return
        yield result, directory
    raise AssertionError(f"no end after {LIMIT} runs")


def check(step: str, result: Run, directory: Path) -> None:
    """What the next start must find: every mail accepted before, whole; the step's own as it was acknowledged."""
    with closing(open_database(directory / "notifyd.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        queue = MailQueue(database, now=clock.now, boot_id=clock.boot_id())
        records = {record.subject: record for record in queue.records()}
        for number in range(queue_steps.KEPT):
            record = records[f"Mail {number}"]
            sent = record.state is MailState.SENT
            assert sent or queue.body(record.id) == queue_steps.mail(number).raw
            assert not sent or (step == "deliver" and number == 0)
        if step == "deliver":
            assert records["Mail 0"].state in ((MailState.SENT,) if result.acknowledged else (MailState.SENT, "ready"))
            return
        newest = f"Mail {queue_steps.KEPT}"
        assert newest in records or not result.acknowledged, result.output
        if newest in records:
            assert queue.body(records[newest].id) == queue_steps.mail(queue_steps.KEPT).raw
        again = queue.accept(Submission(queue_steps.mail(queue_steps.KEPT), idempotency_key=f"key-{queue_steps.KEPT}"))
        assert again.duplicate == (newest in records)
        assert sum(record.subject == newest for record in queue.records()) == 1


@pytest.mark.parametrize("step", STEPS)
def test_kill_at_every_system_call_loses_no_mail(state: Path, tmp_path: Path, step: str) -> None:
    """SIGKILL at each call that can change the files: nothing accepted is lost, nothing is half."""
    runs = 0
    for call in CHANGING:
        for result, directory in every(step, state, tmp_path, call, "signal=SIGKILL"):
            check(step, result, directory)
            runs += 1
    assert runs > 5
    print(f"\nkill -9, {step}: {runs} points, 0 violations")


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("step", STEPS)
def test_no_mail_is_acknowledged_after_a_failed_write_or_sync(
    state: Path, tmp_path: Path, step: str, error: str
) -> None:
    """Each write and sync fails in turn: refused by name, never acknowledged, nothing older is lost."""
    runs = 0
    for call in FAILING:
        for result, directory in every(step, state, tmp_path, call, f"error={error}"):
            assert not result.acknowledged, (call, result.output)
            assert result.refused, (call, result.output)
            check(step, result, directory)
            runs += 1
    assert runs > 2
    print(f"\n{error}, {step}: {runs} points, 0 violations")


@pytest.mark.parametrize("step", STEPS)
def test_writes_cut_short_lose_nothing(state: Path, tmp_path: Path, step: str) -> None:
    """No file may grow beyond a limit that lies ever further in: each write is cut somewhere in its middle once."""
    base = (state / "notifyd.db-wal").stat().st_size
    runs = 0
    for extra in range(1_000, 60_000, 3_001):
        directory = fresh(state, tmp_path)
        result = Run(run(program(step, directory, str(base + extra))))
        assert result.acknowledged or result.refused, result.output
        check(step, result, directory)
        runs += 1
        if result.acknowledged:
            break
    assert runs > 1
    print(f"\nshort writes, {step}: {runs} limits, 0 violations")
