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

    async def _say(self, writer: asyncio.StreamWriter, verb: str) -> bool:
        if verb == "message":
            found = {name.lower(): value for name, value in _HEADER.findall(self.messages.pop())}
            number, message_id = int(found[b"subject"] or found[b"Subject"]), found[b"message-id"].decode()
            self.arrivals.append(Arrival(number, message_id, self.epoch))
            self.arrival.set()
        self.lines.clear()
        self.clear.clear()
        self.secured.clear()
        return await super()._say(writer, verb)
