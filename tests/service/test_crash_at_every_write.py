"""The service itself, killed, full or failing at each system call on its stores: the grant survives (P2, P4, P8, P9).

Each run is a process of its own under strace; afterwards the stores are opened as at the next start. All points are
tried, so the figures printed with `-s` are not samples.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from notifyd.adapters.clock import now
from notifyd.adapters.eventlog import EventLog
from notifyd.core.agent import AgentStatus
from notifyd.core.machine import State
from tests.service import crash_steps
from tests.support.injection import FAILING_CALLS, WRITING_CALLS, Run, every_point, strace_is_missing

pytestmark = [
    pytest.mark.skipif(strace_is_missing(), reason="strace is not installed"),
    pytest.mark.timeout(600),
]


def _every(step: str, tmp_path: Path, call: str, injection: str) -> Iterator[tuple[Run, Path]]:
    state, workplace = tmp_path / "state", tmp_path / call
    workplace.mkdir()
    if not state.exists():
        state.mkdir()
        asyncio.run(crash_steps.prepare(state, granted=step != "sign_in"))
    yield from every_point(("tests.service.crash_steps", step), state, workplace, call, injection)


async def _next_start(directory: Path) -> tuple[AgentStatus, bytes | None]:
    """What the next start makes of the stores: the agent's view, and the sealed grant it would use."""
    log = EventLog(None)
    service = crash_steps.compose(directory, log)
    slot = service.parts.vault.load()
    status = service.agent.status(now())
    await service.stop()
    service.parts.vault.close()
    service.parts.store._connection.close()
    log.close()
    return status, slot.sealed if slot else None


def _check(step: str, run: Run, directory: Path) -> None:
    status, sealed = asyncio.run(_next_start(directory))
    held = status.state in (State.VALID, State.EXPIRED)
    assert held == (sealed is not None), (status, run.output)
    allowed = {
        "sign_in": [crash_steps.NEW] if run.acknowledged else [None, crash_steps.NEW],
        "renew": [crash_steps.NEW] if run.acknowledged else [crash_steps.OLD, crash_steps.NEW],
        "forget": [None] if run.acknowledged else [None, crash_steps.OLD],
    }
    assert sealed in allowed[step], run.output


@pytest.mark.parametrize(
    "step",
    ["renew", pytest.param("sign_in", marks=pytest.mark.campaign), pytest.param("forget", marks=pytest.mark.campaign)],
)
def test_grant_survives_a_kill_at_every_system_call(tmp_path: Path, step: str) -> None:
    """kill -9 at each call: the next start holds the old grant or the new one, and the new one when it was told."""
    points = 0
    for call in WRITING_CALLS:
        for run, directory in _every(step, tmp_path, call, "signal=SIGKILL"):
            _check(step, run, directory)
            points += 1
    assert points > 10
    print(f"\nkill -9, service, {step}: all {points} points hit, 0 grants lost")


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("renew", "ENOSPC"),
        pytest.param("renew", "EIO", marks=pytest.mark.campaign),
        pytest.param("sign_in", "ENOSPC", marks=pytest.mark.campaign),
        pytest.param("sign_in", "EIO", marks=pytest.mark.campaign),
    ],
)
def test_grant_survives_every_failing_write_and_sync(tmp_path: Path, step: str, error: str) -> None:
    """Each write and sync fails in turn: nothing that was told is missing at the next start, and no grant is lost."""
    points = 0
    for call in FAILING_CALLS:
        for run, directory in _every(step, tmp_path, call, f"error={error}"):
            _check(step, run, directory)
            points += 1
    assert points > 4
    print(f"\n{error}, service, {step}: all {points} points hit, 0 grants lost")
