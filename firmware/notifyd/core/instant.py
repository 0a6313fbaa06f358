"""Time as an argument: the core has no clock of its own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment on both clocks.

    boot: seconds on CLOCK_BOOTTIME; every duration and deadline is measured on it.
    wall: seconds since 1970 on CLOCK_REALTIME; for display, TLS and dates only, since it may be wrong by decades.
    """

    boot: float
    wall: float
