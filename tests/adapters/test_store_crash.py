"""Promises P2, P4, P8 and P9 for the stores: killed, out of room or failing at every system call in turn.

Each run is a real process on real files under strace, which kills it at the k-th call of a kind, or makes that call
fail. k grows until a run ends untouched. `python -m pytest tests/adapters/test_store_crash.py -s` prints the figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from notifyd.adapters.database import SettingsStore, open_database
from notifyd.adapters.devicekey import device_key_path, read_device_key
from notifyd.adapters.vault import Vault
from tests.adapters import store_steps
from tests.support.injection import FAILING_CALLS, WRITING_CALLS, Run, every_point, strace_is_missing

pytestmark = [
    pytest.mark.skipif(strace_is_missing(), reason="strace is not installed"),
    pytest.mark.timeout(400),
]


def _every(step: str, tmp_path: Path, call: str, injection: str) -> Iterator[tuple[Run, Path]]:
    state, workplace = tmp_path / "state", tmp_path / call
    workplace.mkdir()
    if not state.exists():
        state.mkdir()
        if step != "first_start":
            store_steps.prepare(state)
    yield from every_point(("tests.adapters.store_steps", step), state, workplace, call, injection)


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


@pytest.mark.parametrize(
    "step", ["token_commit", "token_wipe", "config_apply", pytest.param("first_start", marks=pytest.mark.campaign)]
)
def test_kill_at_every_system_call_loses_nothing(tmp_path: Path, step: str) -> None:
    """SIGKILL at each call that can change the store: old or new state, whole; new when it was acknowledged."""
    runs = 0
    for call in WRITING_CALLS:
        for run, directory in _every(step, tmp_path, call, "signal=SIGKILL"):
            _check(step, run, directory)
            runs += 1
    _report(f"kill -9, {step}", runs)


@pytest.mark.parametrize("error", ["EIO", pytest.param("ENOSPC", marks=pytest.mark.campaign)])
@pytest.mark.parametrize("step", ["token_commit", "token_wipe", "config_apply"])
def test_no_acknowledgement_after_a_failed_write_or_sync(tmp_path: Path, step: str, error: str) -> None:
    """Each write, sync and rename fails in turn: the step is refused by name, never acknowledged, nothing is lost."""
    runs = 0
    for call in FAILING_CALLS:
        for run, directory in _every(step, tmp_path, call, f"error={error}"):
            assert not run.acknowledged, (call, run.output)
            assert run.refused, (call, run.output)
            _check(step, run, directory)
            runs += 1
    _report(f"{error}, {step}", runs)
