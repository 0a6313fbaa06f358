"""Promises P2, P4, P8 and P9 for the stores: killed, out of room or failing at every system call in turn.

Each run is a real process on real files under strace, which kills it at the k-th call of a kind, or makes that call
fail. k grows until a run ends untouched. `python -m pytest tests/adapters/test_store_crash.py -s` prints the figures.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from notifyd.adapters.database import SettingsStore, open_database
from notifyd.adapters.devicekey import device_key_path, read_device_key
from notifyd.adapters.vault import Vault
from tests.adapters import store_steps

WRITERS = ("openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "ftruncate", "close")
FAILING = ("write", "pwrite64", "fsync", "fdatasync", "rename")
LIMIT = 400

pytestmark = [
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
    pytest.mark.timeout(400),
]


@dataclass(frozen=True)
class Run:
    """How one run ended. touched: the injection took place."""

    acknowledged: bool
    refused: bool
    touched: bool
    output: str


def _run(step: str, directory: Path, call: str, injection: str) -> Run:
    """One run of a step with `injection` (strace's syntax) at some occurrence of `call` on the store's files."""
    trace = directory.parent / "trace"
    command = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", str(trace)]
    # SQLite syncs the directory with fdatasync and swallows its error; ours, before it, is an fsync that does not.
    command += [] if call == "fdatasync" else ["-P", str(directory)]
    for name in ("grant.slots", "grant.new", "device.key", "device.new", *_database_files()):
        command += ["-P", str(directory / name)]
    command += ["-e", f"trace={call}", "-e", f"inject={call}:{injection}"]
    command += [sys.executable, "-m", "tests.adapters.store_steps", step, str(directory)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    text = trace.read_text()
    touched = "(INJECTED)" in text or "killed by SIGKILL" in text
    return Run("ack" in done.stdout, "refused" in done.stdout, touched, done.stdout + done.stderr)


def _database_files() -> list[str]:
    return ["notifyd.db", "notifyd.db-wal", "notifyd.db-shm", "notifyd.db-journal"]


def _every(step: str, tmp_path: Path, call: str, injection: str, prepared: bool) -> Iterator[tuple[Run, Path]]:
    """Runs of `step` on a copy of the same state each, with the injection at the first, second, … occurrence."""
    state = tmp_path / "state"
    state.mkdir()
    if prepared:
        store_steps.prepare(state)
    for occurrence in range(1, LIMIT):
        directory = tmp_path / "run"
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(state, directory)
        run = _run(step, directory, call, f"{injection}:when={occurrence}")
        if not run.touched:
            assert run.acknowledged, run.output
            return
        yield run, directory
    raise AssertionError(f"no end after {LIMIT} runs")


def _grant(directory: Path) -> bytes | None:
    vault = Vault(directory / "grant.slots")
    slot = vault.load()
    vault.close()
    return slot.sealed if slot else None


def _sender(directory: Path) -> str | None:
    connection = open_database(directory / "notifyd.db")
    stored = SettingsStore(connection).load()
    connection.close()
    if stored is None:
        return None
    assert stored.sealed_secret == (b"new secret" if stored.settings.sender.startswith("new") else b"old secret")
    return stored.settings.sender


def _check(step: str, run: Run, directory: Path) -> None:
    """What must be there after a run that was hit, opened by the next start."""
    if step == "first_start":
        assert len(read_device_key(device_key_path(directory, None))) == 32
        expected = [(store_steps.NEW, "new@example")] if run.acknowledged else None
        found = (_grant(directory), _sender(directory))
        assert expected is None or found in expected
        assert found[0] in (None, store_steps.NEW)
        return
    allowed_grants = {"token_commit": [store_steps.NEW], "token_wipe": [None]}.get(step, [store_steps.OLD])
    allowed_senders = ["new@example"] if step == "config_apply" else ["old@example"]
    if not run.acknowledged:
        allowed_grants, allowed_senders = [*allowed_grants, store_steps.OLD], [*allowed_senders, "old@example"]
    assert _grant(directory) in allowed_grants, run.output
    assert _sender(directory) in allowed_senders, run.output


def _report(what: str, runs: int) -> None:
    assert runs > 0, what
    print(f"\n{what}: all {runs} points hit, 0 violations")


@pytest.mark.parametrize("step", list(store_steps.STEPS))
def test_kill_at_every_system_call_loses_nothing(tmp_path: Path, step: str) -> None:
    """SIGKILL at each call that can change the store: old or new state, whole; new when it was acknowledged."""
    runs = 0
    for call in WRITERS:
        base = tmp_path / call
        base.mkdir()
        for run, directory in _every(step, base, call, "signal=SIGKILL", step != "first_start"):
            _check(step, run, directory)
            runs += 1
    _report(f"kill -9, {step}", runs)


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("step", ["token_commit", "token_wipe", "config_apply"])
def test_no_acknowledgement_after_a_failed_write_or_sync(tmp_path: Path, step: str, error: str) -> None:
    """Each write, sync and rename fails in turn: the step is refused by name, never acknowledged, nothing is lost."""
    runs = 0
    for call in FAILING:
        base = tmp_path / call
        base.mkdir()
        for run, directory in _every(step, base, call, f"error={error}", prepared=True):
            assert not run.acknowledged, (call, run.output)
            assert run.refused, (call, run.output)
            _check(step, run, directory)
            runs += 1
    _report(f"{error}, {step}", runs)
