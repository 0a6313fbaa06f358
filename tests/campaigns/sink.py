"""A mail server for campaigns: real SMTP over TLS, fast, and an exact book of what arrived when."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field

from tests.support.scripted_smtp import ScriptedSmtp

_HEADER = re.compile(rb"(?im)^(subject|message-id):\s*(.*?)\r$")


@dataclass(frozen=True)
class Arrival:
    """One message as the server took it. epoch: how many kills there had been."""

    number: int
    message_id: str
    epoch: int


@dataclass
class Sink(ScriptedSmtp):
    """A scripted server that answers as usual and writes down every message at the moment it is its own."""

    arrivals: list[Arrival] = field(default_factory=list)
    epoch: int = 0
    arrival: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, message: bytes) -> None:
        """Write it down; keep nothing else."""
        found = {name.lower(): value for name, value in _HEADER.findall(message)}
        self.arrivals.append(Arrival(int(found[b"subject"]), found[b"message-id"].decode(), self.epoch))
        self.arrival.set()
        for kept in (self.lines, self.clear, self.secured):
            kept.clear()
