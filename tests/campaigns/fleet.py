"""A fleet of gateways, each with the shipped `Agent`, against one identity provider. No sockets, no waiting.

`python -m tests.campaigns.fleet [--gateways N] [--seed S]` runs two disasters and writes `build/fleet.json` and
`build/fleet.svg`; docs/fleet.md tells what they show.

- power: all lose power together for half an hour and regain it within a minute and a half.
- outage: the identity provider fails for six hours, half by 503 and half by silence.

Promises: refresh requests per second (over ten seconds) stay under 3 × the steady mean, and every gateway is Valid
again within thirty minutes. With fewer gateways the window grows in proportion, so that chance weighs the same.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from notifyd.core.agent import Agent
from notifyd.core.commands import Command, CommitGrant, Refresh, SaveSnapshot
from notifyd.core.events import (
    Event,
    Failure,
    FailureKind,
    GrantCommitted,
    GrantResult,
    RefreshFinished,
    RefreshRequested,
    Tick,
    WanUp,
)
from notifyd.core.instant import Instant
from notifyd.core.machine import State
from notifyd.core.secret import Secret
from notifyd.core.settings import Auth, Security, Settings
from notifyd.core.snapshot import HeldGrant, Snapshot

BUILD = Path(__file__).resolve().parents[2] / "build"
HOUR, MINUTE = 3600.0, 60.0
FULL_FLEET = 100_000
WINDOW_S = 10.0
SETTLED_S, BEGIN_S, AFTER_S = HOUR / 2, 1.5 * HOUR, 1.2 * HOUR
WALL = 1_795_564_800.0
LIFETIME_S = (60 * MINUTE, 90 * MINUTE)
"""Microsoft's access tokens live a random 60 to 90 minutes."""
ANSWER_S, SILENCE_S = 1.0, 60.0
MAIL_WAITING = 0.02
"""Share of gateways that have mail to send the moment they start."""
SETTINGS = Settings("smtp", 587, Security.STARTTLS, Auth.OAUTH2, "public", "g@c.example", "client", "tenant")


@dataclass
class Result:
    """What a disaster did. Rates in requests a second over ten seconds; minutes counted from its end."""

    name: str
    gateways: int
    steady_mean: float
    peak: float
    peak_ratio: float
    requests: int
    last_valid_min: float
    median_valid_min: float
    never_valid: int
    seconds: float
    rates: list[float]


class Fleet:
    """Gateways and the moments at which something happens to one of them, in order of time."""

    def __init__(self, gateways: int, seed: int) -> None:
        self.rng = random.Random(seed)
        self.agents: list[Agent] = []
        self.began = [0.0] * gateways
        self.snapshots: list[Snapshot | None] = [None] * gateways
        self.valid_at: list[float] = [0.0] * gateways
        self.ticks = [0] * gateways
        self.due: list[tuple[float, int, int, Event]] = []
        self.serial = 0
        self.requests: list[float] = []
        self.answer: Callable[[float], GrantResult | Failure] = self.success
        for number in range(gateways):
            snapshot = self._steady_snapshot()
            self.snapshots[number] = snapshot
            self.agents.append(Agent(self.rng, snapshot, Instant(0.0, WALL), "boot-1"))
            self._tell(number, 0.0, Tick())

    def _steady_snapshot(self) -> Snapshot:
        """A gateway somewhere between two renewals."""
        life = self.rng.uniform(*LIFETIME_S)
        interval = life * self.rng.uniform(0.50, 0.65)
        passed = self.rng.uniform(0.0, interval)
        grant = HeldGrant("g@c.example", "o", "t", (), WALL, Instant(-passed, WALL), life - passed, life)
        return Snapshot(Instant(0.0, WALL), "boot-1", SETTINGS, True, 1, 1, grant, (), interval - passed)

    def success(self, _now: float) -> GrantResult:
        life = int(self.rng.uniform(*LIFETIME_S))
        return GrantResult("g@c.example", "o", "t", (), life, None, {}, True, b"", Secret("t"))

    def at(self, moment: float, number: int, event: Event) -> None:
        self.serial += 1
        heapq.heappush(self.due, (moment, self.serial, number, event))

    def run(self, until: float) -> None:
        while self.due and self.due[0][0] <= until:
            moment, serial, number, event = heapq.heappop(self.due)
            if not isinstance(event, Tick) or serial == self.ticks[number]:
                self._tell(number, moment, event)

    def _tell(self, number: int, moment: float, event: Event) -> None:
        agent = self.agents[number]
        now = Instant(moment - self.began[number], WALL + moment)
        before = agent.state
        for command in agent.handle(event, now):
            self._obey(number, moment, command)
        if agent.state is State.VALID and before is not State.VALID:
            self.valid_at[number] = moment
        if not isinstance(event, GrantCommitted):
            wakeup = agent.next_wakeup(now)
            if wakeup is not None:
                # A millisecond late, as timers are: rounding must not bring it early, for ever at the same moment.
                self._tick_at(max(wakeup + self.began[number], moment) + 0.001, number)

    def _tick_at(self, moment: float, number: int) -> None:
        """The one timer of a gateway; the one before it no longer counts."""
        self.at(moment, number, Tick())
        self.ticks[number] = self.serial

    def _obey(self, number: int, moment: float, command: Command) -> None:
        match command:
            case SaveSnapshot(snapshot):
                self.snapshots[number] = snapshot
            case Refresh(generation):
                self.requests.append(moment)
                result = self.answer(moment)
                silent = isinstance(result, Failure) and result.kind is FailureKind.TIMEOUT
                self.at(moment + (SILENCE_S if silent else ANSWER_S), number, RefreshFinished(generation, result))
            case CommitGrant(generation):
                self._tell(number, moment, GrantCommitted(generation))

    def cut_power(self, moment: float, back: float, boot_spread_s: float) -> None:
        """Every gateway dies now and starts again a little after `back`."""
        self.due.clear()
        for number in range(len(self.agents)):
            start = back + self.rng.uniform(0.0, boot_spread_s)
            self.began[number] = start - 20.0
            self.valid_at[number] = float("inf")
            now = Instant(20.0, WALL + start)
            self.agents[number] = Agent(self.rng, self.snapshots[number], now, "boot-2")
            self._tick_at(start, number)
            self.at(start + 15.0, number, WanUp())
            if self.rng.random() < MAIL_WAITING:
                self.at(start + 5.0, number, RefreshRequested("mail-waiting"))


def window_s(gateways: int) -> float:
    """Seconds over which a rate is taken: ten for the full fleet."""
    return WINDOW_S * FULL_FLEET / gateways


def rates(requests: list[float], begin: float, end: float, window: float) -> list[float]:
    """Requests a second in each window."""
    counts = [0] * int((end - begin) // window)
    for moment in requests:
        slot = int((moment - begin) // window)
        if 0 <= slot < len(counts):
            counts[slot] += 1
    return [count / window for count in counts]


def power(gateways: int, seed: int) -> Result:
    """All lose power for half an hour."""
    started = time.monotonic()
    fleet = Fleet(gateways, seed)
    cut, back = BEGIN_S, BEGIN_S + HOUR / 2
    fleet.run(cut)
    fleet.cut_power(cut, back, 90.0)
    fleet.run(back + AFTER_S)
    return _result("power", fleet, cut, back, back + AFTER_S, started)


def outage(gateways: int, seed: int) -> Result:
    """The identity provider fails for six hours."""
    started = time.monotonic()
    fleet = Fleet(gateways, seed)
    begin, end = BEGIN_S, BEGIN_S + 6 * HOUR
    fleet.run(begin)
    fleet.answer = lambda _now: Failure(503) if fleet.rng.random() < 0.5 else Failure(kind=FailureKind.TIMEOUT)
    fleet.run(end)
    fleet.valid_at = [float("inf") if agent.state is not State.VALID else end for agent in fleet.agents]
    fleet.answer = fleet.success
    fleet.run(end + AFTER_S)
    return _result("outage", fleet, begin, end, end + AFTER_S, started)


def _result(name: str, fleet: Fleet, begin: float, end: float, until: float, started: float) -> Result:
    steady = sum(SETTLED_S <= moment < begin for moment in fleet.requests) / (begin - SETTLED_S)
    window = window_s(len(fleet.agents))
    after = rates(fleet.requests, begin, until, window)
    valid = sorted((moment - end) / MINUTE for moment in fleet.valid_at if moment < float("inf"))
    return Result(
        name=name,
        gateways=len(fleet.agents),
        steady_mean=steady,
        peak=max(after),
        peak_ratio=max(after) / steady,
        requests=len(fleet.requests),
        last_valid_min=valid[-1] if valid else float("inf"),
        median_valid_min=valid[len(valid) // 2] if valid else float("inf"),
        never_valid=sum(moment == float("inf") for moment in fleet.valid_at),
        seconds=time.monotonic() - started,
        rates=rates(fleet.requests, SETTLED_S, until, window),
    )


# ---- chart ---------------------------------------------------------------------------------------------------------

WIDTH, HEIGHT, LEFT, TOP = 860, 230, 60, 34


def chart(results: list[Result]) -> str:
    """Requests a second over time, with the steady mean and three times of it."""
    panels = "".join(_panel(result, index * (HEIGHT + 70)) for index, result in enumerate(results))
    height = len(results) * (HEIGHT + 70) + 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + 90} {height}" font-family="sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="#fff"/>{panels}</svg>\n'
    )


def _panel(result: Result, shift: int) -> str:
    top = max(3.2 * result.steady_mean, 1.05 * result.peak)

    def y(value: float) -> float:
        return shift + TOP + HEIGHT * (1 - value / top)

    step = WIDTH / len(result.rates)
    points = " ".join(f"{LEFT + index * step:.1f},{y(value):.1f}" for index, value in enumerate(result.rates))
    lines = [f'<text x="{LEFT}" y="{shift + TOP - 12}" font-weight="bold">{TITLES[result.name]}</text>']
    for factor, label in ((0, "0"), (1, "mean"), (3, "3 × mean")):
        height = y(factor * result.steady_mean)
        lines.append(f'<path d="M{LEFT} {height:.1f}h{WIDTH}" stroke="#999" stroke-dasharray="4 4"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{height + 4:.1f}" text-anchor="end" fill="#555">{label}</text>')
    window = window_s(result.gateways)
    for hour in range(1 + int(len(result.rates) * window // HOUR)):
        x = LEFT + hour * HOUR / window * step
        lines.append(f'<text x="{x:.0f}" y="{shift + TOP + HEIGHT + 18}" text-anchor="middle">{hour} h</text>')
    lines.append(f'<polyline points="{points}" fill="none" stroke="#0b57d0" stroke-width="1.2"/>')
    return "".join(lines)


TITLES = {
    "power": "Power cut from 1 h to 1.5 h: refresh requests a second",
    "outage": "Identity provider down from 1 h to 7 h: refresh requests a second",
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--gateways", type=int, default=FULL_FLEET)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with ProcessPoolExecutor(2) as pool:
        runs = [pool.submit(disaster, options.gateways, options.seed) for disaster in (power, outage)]
        results = [run.result() for run in runs]
    BUILD.mkdir(exist_ok=True)
    shown = [asdict(replace(result, rates=[])) for result in results]
    (BUILD / "fleet.json").write_text(json.dumps(shown, indent=1) + "\n")
    (BUILD / "fleet.svg").write_text(chart(results))
    kept = True
    for result in results:
        good = result.peak_ratio < 3 and result.last_valid_min <= 30 and not result.never_valid
        kept = kept and good
        print(
            f"{result.name}: {result.gateways} gateways, steady {result.steady_mean:.1f}/s, peak {result.peak:.1f}/s "
            f"({result.peak_ratio:.2f} x), all Valid after {result.last_valid_min:.1f} min "
            f"(median {result.median_valid_min:.1f}), {result.never_valid} never; {result.seconds:.0f} s; "
            f"{'kept' if good else 'BROKEN'}",
            flush=True,
        )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
