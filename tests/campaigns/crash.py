"""kill -9 at random moments of accepting and sending under load (promise P1).

`python -m tests.campaigns.crash --kills 2000` prints the figures and ends with status 1 at the first violation:

* every mail whose acceptance was answered arrives;
* a mail arrives twice at most once per kill, and then with the same Message-ID;
* a submission repeated with its idempotency key after a lost answer is one mail;
* the database is whole (`PRAGMA integrity_check`) after every kill.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from qemu.m365.authority import TlsMaterial
from tests.campaigns.sink import Sink

CLIENTS = 3
EARLY_KILLS, ACCEPTING_KILLS = 0.2, 0.3
EARLY_S, ACCEPTING_S, SENDING_S = 0.1, 0.1, 0.06
"""One kill in five falls into starting and recovery, counted from the fork; three in ten into accepting and connecting,
counted from the first answer; the others into sending, counted from the first mail that arrives."""

FIRST_SIGN_S = 20.0

DRAIN_S = 120.0
SIZES = (20, 200, 2_000, 20_000)
BACKLOG = 40
"""Submitters wait while so many have not arrived: the database stays small, each kill is checked quickly."""


@dataclass
class Book:
    """What the submitters know: numbers asked for, and the id of each that was answered."""

    asked: int = 0
    open: set[int] = field(default_factory=set)
    acknowledged: dict[int, str] = field(default_factory=dict)
    doubled_ids: int = 0
    answer: asyncio.Event = field(default_factory=asyncio.Event)

    def next(self) -> int:
        """The next number to submit: one whose answer was lost first."""
        if self.open:
            return self.open.pop()
        self.asked += 1
        return self.asked

    def answered(self, number: int, mail_id: str) -> None:
        self.answer.set()
        if self.acknowledged.setdefault(number, mail_id) != mail_id:
            self.doubled_ids += 1


@dataclass
class Campaign:
    """One run: the nursery, the server, the submitters and the killing."""

    kills: int
    seed: int
    home: Path
    book: Book = field(default_factory=Book)
    unclean: int = 0
    idle_kills: int = 0

    async def run(self) -> Sink:
        tls = TlsMaterial(self.home / "tls", ("localhost",))
        sink = Sink(ca_file=tls.ca_file, context=tls.context("good"))
        server = await asyncio.start_server(sink.serve, "127.0.0.1", 0, limit=1 << 20)
        sink.port = server.sockets[0].getsockname()[1]
        nursery = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.campaigns.crash_child", stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self._order = {"directory": str(self.home), "port": sink.port, "ca_file": str(tls.ca_file)}
        try:
            await self._kill_again_and_again(nursery, sink)
            await self._drain(nursery, sink)
        finally:
            nursery.kill()
            await nursery.wait()
            server.close()
        return sink

    async def _kill_again_and_again(self, nursery: asyncio.subprocess.Process, sink: Sink) -> None:
        chance = random.Random(self.seed)
        for number in range(self.kills):
            before = len(self.book.acknowledged), len(sink.arrivals)
            pid = await self._spawn(nursery)
            load = [asyncio.create_task(self._submit(chance, sink)) for _ in range(CLIENTS)]
            await self._live(chance, sink)
            await self._kill(pid)
            for task in load:
                task.cancel()
            await asyncio.gather(*load, return_exceptions=True)
            sink.epoch += 1
            self.idle_kills += before == (len(self.book.acknowledged), len(sink.arrivals))
            self._inspect()
            if (number + 1) % 100 == 0:
                print(f"  {number + 1} kills, {len(self.book.acknowledged)} accepted, {len(sink.arrivals)} arrived",
                      flush=True)  # fmt: skip

    async def _live(self, chance: random.Random, sink: Sink) -> None:
        self.book.answer.clear()
        sink.arrival.clear()
        kind = chance.random()
        if kind < EARLY_KILLS:
            await asyncio.sleep(chance.uniform(0.0, EARLY_S))
            return
        full = len(self.book.acknowledged) - len(sink.arrivals) > BACKLOG  # then nothing is answered before one arrives
        sending = full or kind >= EARLY_KILLS + ACCEPTING_KILLS
        async with asyncio.timeout(FIRST_SIGN_S):
            await (sink.arrival if sending else self.book.answer).wait()
        await asyncio.sleep(chance.uniform(0.0, SENDING_S if sending else ACCEPTING_S))

    async def _spawn(self, nursery: asyncio.subprocess.Process) -> int:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        nursery.stdin.write(json.dumps(self._order).encode() + b"\n")
        return int(await nursery.stdout.readline())

    async def _kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(pid, 0)
                await asyncio.sleep(0.001)

    async def _submit(self, chance: random.Random, sink: Sink) -> None:
        """Submit one mail after the other until the connection breaks; what was not answered is asked again later."""
        reader, writer = await self._connect()
        try:
            while True:
                while len(self.book.acknowledged) - len(sink.arrivals) > BACKLOG:
                    await asyncio.sleep(0.01)
                number = self.book.next()
                self.book.open.add(number)
                wish = {"number": number, "size": SIZES[number % len(SIZES)]}
                writer.write(json.dumps(wish).encode() + b"\n")
                answer = await reader.readline()
                if not answer.endswith(b"\n"):
                    return
                self.book.answered(number, json.loads(answer)["id"])
                self.book.open.discard(number)
                await asyncio.sleep(chance.uniform(0, 0.01))
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while True:
            try:
                return await asyncio.open_unix_connection(self.home / "in.sock")
            except OSError:
                await asyncio.sleep(0.002)

    def _inspect(self) -> None:
        """Check a copy: opening the files themselves would tidy up what the next child has to cope with."""
        copy = self.home / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for name in ("notifyd.db", "notifyd.db-wal"):
            if (self.home / name).exists():
                shutil.copy(self.home / name, copy / name)
        database = sqlite3.connect(copy / "notifyd.db")
        (verdict,) = database.execute("PRAGMA integrity_check").fetchone()
        database.close()
        self.unclean += verdict != "ok"

    async def _drain(self, nursery: asyncio.subprocess.Process, sink: Sink) -> None:
        """One child is left alone until everything has arrived."""
        pid = await self._spawn(nursery)
        wanted = set(self.book.acknowledged)
        deadline = time.monotonic() + DRAIN_S
        while not wanted <= {arrival.number for arrival in sink.arrivals} and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
        await asyncio.sleep(0.5)
        await self._kill(pid)


@dataclass(frozen=True)
class Verdict:
    """The figures of a campaign."""

    kills: int
    accepted: int
    arrived: int
    lost: int
    duplicates: int
    most_duplicates_per_kill: int
    other_ids: int
    unclean: int
    idle_kills: int
    seconds: float

    @property
    def good(self) -> bool:
        """Whether every promise held."""
        return not (self.lost or self.other_ids or self.unclean) and self.most_duplicates_per_kill <= 1


def weigh(campaign: Campaign, sink: Sink, seconds: float) -> Verdict:
    """What the books say."""
    ids: dict[int, set[str]] = defaultdict(set)
    epochs: dict[int, list[int]] = defaultdict(list)
    for arrival in sink.arrivals:
        ids[arrival.number].add(arrival.message_id)
        epochs[arrival.number].append(arrival.epoch)
    # A mail comes twice because the kill that ended the epoch of its first arrival fell before our note of it.
    again = Counter(epoch for found in epochs.values() for epoch in sorted(found)[:-1])
    return Verdict(
        kills=campaign.kills,
        accepted=len(campaign.book.acknowledged),
        arrived=len(sink.arrivals),
        lost=len(set(campaign.book.acknowledged) - set(epochs)),
        duplicates=sum(again.values()),
        most_duplicates_per_kill=max(again.values(), default=0),
        other_ids=sum(len(found) > 1 for found in ids.values()) + campaign.book.doubled_ids,
        unclean=campaign.unclean,
        idle_kills=campaign.idle_kills,
        seconds=seconds,
    )


def crash(kills: int, seed: int) -> Verdict:
    """Run a campaign in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="crash-") as home:
        campaign = Campaign(kills, seed, Path(home))
        began = time.monotonic()
        sink = asyncio.run(campaign.run())
        return weigh(campaign, sink, time.monotonic() - began)


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    options = parser.parse_args()
    print(f"crash campaign: {options.kills} kills, seed {options.seed}", flush=True)
    verdict = crash(options.kills, options.seed)
    print(json.dumps(verdict.__dict__))
    bound = 3 / verdict.kills
    print(
        f"{verdict.accepted} accepted, {verdict.lost} lost, {verdict.duplicates} duplicates (at most "
        f"{verdict.most_duplicates_per_kill} per kill, {verdict.other_ids} with another Message-ID), "
        f"{verdict.unclean} databases unclean in {verdict.kills} kills; "
        f"95 % bound on the chance of a loss per kill: {bound:.2%}"
    )
    return 0 if verdict.good else 1


if __name__ == "__main__":
    sys.exit(main())
