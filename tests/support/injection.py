"""Runs a program under strace again and again, each time with the next of its system calls killed or made to fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_POINTS = 600
DATABASE_FILES = tuple(f"notifyd.db{ending}" for ending in ("", "-wal", "-shm", "-journal"))
STORE_FILES = ("grant.slots", "grant.new", "device.key", "device.new", *DATABASE_FILES)
WRITING_CALLS = ("openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "ftruncate", "close")
FAILING_CALLS = ("write", "pwrite64", "fsync", "fdatasync", "rename")


def strace_is_missing() -> bool:
    """Whether such runs are impossible here."""
    return shutil.which("strace") is None


@dataclass(frozen=True)
class Run:
    """How one run ended: what it said, and whether the injection took place."""

    acknowledged: bool
    refused: bool
    touched: bool
    output: str


def run_with_injection(program: Sequence[str], directory: Path, call: str, injection: str) -> Run:
    """One run of `python -m program directory` with `injection` (strace's syntax) on the store's files."""
    trace = directory.parent / "trace"
    command = ["strace", "-f", "-qq", "-o", str(trace)]
    # SQLite syncs the directory with fdatasync and swallows its error; ours, before it, is an fsync that does not.
    command += [] if call == "fdatasync" else ["-P", str(directory)]
    for name in STORE_FILES:
        command += ["-P", str(directory / name)]
    command += ["-e", f"trace={call}", "-e", f"inject={call}:{injection}", sys.executable, "-m", *program]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*command, str(directory)], capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    text = trace.read_text()
    touched = "(INJECTED)" in text or "killed by SIGKILL" in text
    return Run("ack" in done.stdout, "refused" in done.stdout, touched, done.stdout + done.stderr)


def every_point(
    program: Sequence[str], state: Path, workplace: Path, call: str, injection: str
) -> Iterator[tuple[Run, Path]]:
    """Runs on a fresh copy of `state` each, hit at the first, second, … call, until one run is not hit any more."""
    for occurrence in range(1, MOST_POINTS):
        directory = workplace / "run"
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(state, directory)
        run = run_with_injection(program, directory, call, f"{injection}:when={occurrence}")
        if not run.touched:
            assert run.acknowledged, run.output
            return
        yield run, directory
    raise AssertionError(f"no end after {MOST_POINTS} runs")
