"""What all parts of the simulator share: clock, directory, orders, keys, the log of requests, arrived mail."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import Any

from qemu.m365.catalogue import CATALOGUE
from qemu.m365.clock import SimClock
from qemu.m365.directory import Directory
from qemu.m365.mailstore import MailStore
from qemu.m365.orders import OrderBook
from qemu.m365.tokens import KeyRing, TokenIssuer

# Enough for a day of refreshes at one a minute; a test that needs more reads the counts.
_LOG_ENTRIES = 5000


class RequestLog:
    """Requests seen: counts per endpoint, and the newest entries with their time."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.entries: deque[dict[str, Any]] = deque(maxlen=_LOG_ENTRIES)

    def add(self, endpoint: str, sim_time: float, **facts: Any) -> dict[str, Any]:
        """Note a request; the returned entry may be completed later. Never holds a secret, code or token."""
        self.counts[endpoint] += 1
        entry = {"endpoint": endpoint, "time": time.time(), "sim_time": sim_time, **facts}
        self.entries.append(entry)
        return entry

    def clear(self) -> None:
        """Forget all."""
        self.counts.clear()
        self.entries.clear()


class World:
    """One simulated cloud."""

    def __init__(self, redirect_uris: tuple[str, ...] = ()) -> None:
        self.clock = SimClock()
        self.directory = Directory(self.clock, redirect_uris)
        self.orders = OrderBook(CATALOGUE)
        self.keys = KeyRing()
        self.issuer = TokenIssuer(self.directory, self.keys)
        self.log = RequestLog()
        self.mail = MailStore(self.clock)
        # Sessions of browsers: cookie → sign-in names known to it.
        self.sessions: dict[str, list[str]] = {}

    def reset(self) -> None:
        """As after a fresh start: defaults, no orders, no grants, no mail, real time. Keys and addresses stay."""
        self.clock.reset()
        self.directory.reset()
        self.orders.clear()
        self.log.clear()
        self.mail.clear()
        self.sessions.clear()
