"""Simulated time: the world's own clock, which tests may move or run faster than real time."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime


class SimClock:
    """Wall clock of the simulated cloud, in seconds since 1970.

    `speed` is simulated seconds per real second. Moving the clock never moves the machine's own.
    """

    def __init__(self) -> None:
        self._base = time.time()
        self._mark = time.monotonic()
        self._speed = 1.0

    def now(self) -> float:
        """Simulated seconds since 1970."""
        return self._base + (time.monotonic() - self._mark) * self._speed

    def advance(self, seconds: float) -> None:
        """Jump by `seconds` (negative goes back)."""
        self._base += seconds

    def run_at(self, speed: float) -> None:
        """From now on let `speed` simulated seconds pass in one real second."""
        if speed <= 0:
            raise ValueError("speed must be above 0")
        self._base, self._mark = self.now(), time.monotonic()
        self._speed = speed

    @property
    def speed(self) -> float:
        """Simulated seconds per real second."""
        return self._speed

    def reset(self) -> None:
        """Back to the machine's time at real speed."""
        self._base, self._mark, self._speed = time.time(), time.monotonic(), 1.0

    async def sleep(self, seconds: float) -> None:
        """Wait `seconds` of simulated time."""
        await asyncio.sleep(max(0.0, seconds) / self._speed)

    def stamp(self) -> str:
        """The time as Entra prints it in an error body."""
        return datetime.fromtimestamp(self.now(), UTC).strftime("%Y-%m-%d %H:%M:%SZ")
