"""Short samples of the long campaigns, for every commit; `python -m tests.campaigns.NAME` runs them in full."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaigns import scale
from tests.campaigns.crash import crash
from tests.campaigns.simulated_day import simulate


@pytest.mark.timeout(300)
def test_a_hundred_kills_lose_no_accepted_mail() -> None:
    """P1: kill -9 at random points of accepting and sending; duplicates at most one per kill, same Message-ID."""
    verdict = crash(100, seed=1)
    print(f"\n{verdict}; 95 % bound {3 / verdict.kills:.1%}")
    assert verdict.good, verdict
    assert verdict.accepted > 20, "the kills came before anything was accepted: the sample proves nothing"


@pytest.mark.timeout(300)
def test_five_simulated_minutes_stay_within_every_limit() -> None:
    """The server's own books: 30 a minute, 3 connections, nothing delayed or refused, all delivered."""
    day = simulate(messages=150, recipients=3, speed=20)
    print(f"\n{day}")
    assert (day.arrived, day.refused_or_delayed) == (150, 0)
    assert day.most_in_a_minute <= 30
    assert day.most_connections <= 3


def test_a_long_queue_opens_quickly(tmp_path: Path) -> None:
    """5,000 waiting: a tenth of the promise, at a tenth of its time."""
    scale.fill(tmp_path / "queue.db", 5_000)
    fastest = min(scale.start(tmp_path / "queue.db")["open_s"] for _ in range(3))
    print(f"\nopened in {fastest:.3f} s")
    assert fastest < 1.0
