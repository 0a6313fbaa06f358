"""Exhaustive search instead of examples: every reachable situation, every fact, and a crash after every step.

Two searches over the shipped code, not over copies of it:

- the table alone, with all it can be told, to closure;
- the whole `Agent` with its store, its requests under way and real recovery, over an alphabet of facts that covers
  every event and every class of answer. Situations are merged when they agree in everything that a decision depends on
  (states, phases, kinds of failure, what is older than what), so moments in time are reduced to their order. It ends
  when no new situation turns up.
"""

from __future__ import annotations

import copy
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from notifyd.adapters.vault import Slot
from notifyd.core.agent import Agent
from notifyd.core.commands import Answer, Command, CommitGrant, Probe, Redeem, Refresh, SaveSnapshot, WipeGrant
from notifyd.core.events import (
    Event,
    Failure,
    GrantCommitFailed,
    GrantCommitted,
    GrantForgotten,
    GrantResult,
    MailOutcome,
    OAuthError,
    ProbeFinished,
    RedeemFinished,
    RefreshFinished,
    RefreshRequested,
    SettingsApplied,
    SettingsCleared,
    SigninAnswered,
    SigninStarted,
    Stopping,
    Tick,
    WanUp,
)
from notifyd.core.instant import Instant
from notifyd.core.machine import TABLE, Held, Refuse, State, TokenMachine, Trigger, deserved
from notifyd.core.problems import named, smtp_problem
from notifyd.core.settings import Change, Settings
from notifyd.core.snapshot import Snapshot
from notifyd.recovery import change_since, identity, reconcile
from tests.core.world import BUSY, INVALID_CLIENT, INVALID_GRANT, SETTINGS, WALL, grant

# ---- the table alone -----------------------------------------------------------------------------------------------

Situation = tuple[State, int, Held]


def consequences(situation: Situation) -> Iterator[tuple[Trigger, Situation]]:
    """Every fact that can happen in this situation, with what the world is like afterwards."""
    state, tabs, held = situation
    facts: list[tuple[Trigger, int, Held]] = [
        (Trigger.IDENTITY_APPLIED, 0, Held.NOTHING),
        (Trigger.SETTINGS_KEPT, tabs, held),
        (Trigger.SETTINGS_CLEARED, 0, Held.NOTHING),
        (Trigger.GRANT_FORGOTTEN, 0, Held.NOTHING),
        *((trigger, tabs, held) for trigger in (
            Trigger.CODE_RECEIVED, Trigger.REFRESH_REQUESTED, Trigger.REFRESH_FAILED, Trigger.PROBE_FINISHED,
            Trigger.MAIL_OUTCOME, Trigger.COMMIT_FAILED, Trigger.WAN_CHANGED)),
    ]  # fmt: skip
    if state is not State.UNCONFIGURED and tabs < 3:
        facts.append((Trigger.SIGNIN_STARTED, tabs + 1, held))
    if tabs:
        facts += [(Trigger.SIGNIN_FAILED, tabs - 1, held), (Trigger.SIGNIN_TIMED_OUT, tabs - 1, held)]
        facts.append((Trigger.SIGNIN_SUCCEEDED, 0, Held.USABLE))
    if held is not Held.NOTHING:
        facts += [(Trigger.TOKEN_ENDED, tabs, Held.ENDED), (Trigger.REFRESHED, tabs, Held.USABLE)]
    for trigger, tabs_after, held_after in facts:
        machine = TokenMachine(state)
        yield trigger, (machine.step(trigger, tabs_after, held_after).state, tabs_after, held_after)


def test_the_table_is_sound_in_every_reachable_situation() -> None:
    """To closure: each state means what it says, every cell but the refusals is used, and none is a dead end."""
    begin: Situation = (State.UNCONFIGURED, 0, Held.NOTHING)
    seen: dict[Situation, set[Situation]] = {}
    used = set()
    todo = [begin]
    while todo:
        situation = todo.pop()
        if situation in seen:
            continue
        seen[situation] = set()
        for trigger, after in consequences(situation):
            used.add((trigger, situation[0]))
            seen[situation].add(after)
            todo.append(after)
    for state, tabs, held in seen:
        assert (state is State.PENDING) == (tabs > 0), (state, tabs, held)
        assert state in (State.UNCONFIGURED, State.PENDING) or state is deserved(held), (state, held)
    refused = {(t, s) for t, row in TABLE.items() for s, cell in row.items() if isinstance(cell, Refuse)}
    every = {(t, s) for t in Trigger for s in State}
    assert every - refused <= used
    assert {state for state, _, _ in seen} == set(State)
    assert can_reach(seen, lambda situation: situation[0] is State.VALID) == set(seen)
    assert can_reach(seen, lambda situation: situation[0] is State.UNCONFIGURED) == set(seen)


def can_reach(edges: dict[object, set[object]] | dict[Situation, set[Situation]], goal: object) -> set[object]:
    """All nodes from which a node that fulfils `goal` can be reached."""
    backward: dict[object, list[object]] = {}
    for node, targets in edges.items():
        for target in targets:
            backward.setdefault(target, []).append(node)
    found = {node for node in edges if goal(node)}  # type: ignore[operator]  # a predicate on nodes
    todo = list(found)
    while todo:
        for before in backward.get(todo.pop(), []):
            if before not in found:
                found.add(before)
                todo.append(before)
    return found


# ---- the whole agent -----------------------------------------------------------------------------------------------


class Middle(random.Random):
    """Jitter without chance: always the middle."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


@dataclass
class Gateway:
    """Agent, store and requests under way; copied at every branch."""

    agent: Agent
    boot: float = 1000.0
    boot_id: str = "b1"
    settings: Settings | None = None
    snapshot: Snapshot | None = None
    slot: Slot | None = None
    believed_boot: str = ""
    before_commit: tuple[Slot | None, str] = (None, "")
    states: list[str] = field(default_factory=list)
    redeems: list[Redeem] = field(default_factory=list)
    refreshes: list[Refresh] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    commits: list[CommitGrant] = field(default_factory=list)

    @property
    def now(self) -> Instant:
        return Instant(self.boot, WALL + self.boot)

    def fork(self) -> Gateway:
        twin = copy.copy(self)
        twin.states, twin.redeems, twin.refreshes = [*self.states], [*self.redeems], [*self.refreshes]
        twin.probes, twin.commits = [*self.probes], [*self.commits]
        twin.agent = copy.copy(self.agent)
        for part in ("_signins", "_renewal", "_gate", "_machine"):
            setattr(twin.agent, part, copy.deepcopy(getattr(self.agent, part)))
        return twin


OTHER = replace(SETTINGS, sender="other@contoso.example")
AUTH_OFF = smtp_problem(535, "5.7.139", "no", "auth", 0.0)
BAD_TOKEN = smtp_problem(535, "5.7.3", "no", "auth", 0.0)
ANSWERS: tuple[GrantResult | Failure, ...] = (grant(), BUSY, INVALID_GRANT, INVALID_CLIENT)
MOST_TABS = 1


def moves(world: Gateway) -> Iterator[tuple[str, Event | None]]:
    """The alphabet: what can happen now. None: time passes, or the machine is restarted, by the name."""
    yield "apply", SettingsApplied(SETTINGS, Change.IDENTITY)
    if world.settings is not None:
        yield "other", SettingsApplied(OTHER, Change.IDENTITY)
        yield "relay", SettingsApplied(replace(world.settings, server="relay.example"), Change.COSMETIC)
        yield "secret", SettingsApplied(world.settings, Change.SECRET)
        yield "clear", SettingsCleared()
    yield "forget", GrantForgotten()
    if len(world.states) < MOST_TABS:
        name = next(name for name in "abc" if name not in world.states)
        yield f"start {name}", SigninStarted(name, world.agent.status(world.now).generation)
    for name in (*world.states, "forged"):
        yield f"code {name}", SigninAnswered(name, True)
    if world.states:
        yield f"declined {world.states[0]}", SigninAnswered(world.states[0], False, OAuthError("access_denied"))
    for redeem in world.redeems:
        yield f"redeemed {redeem.signin_id}", RedeemFinished(redeem.signin_id, redeem.generation, grant())
        yield f"not redeemed {redeem.signin_id}", RedeemFinished(redeem.signin_id, redeem.generation, INVALID_GRANT)
    for refresh in world.refreshes:
        for answer in ANSWERS:
            yield "refreshed", RefreshFinished(refresh.generation, answer)
    for commit in world.commits:
        yield "committed", GrantCommitted(commit.generation)
        yield "not committed", GrantCommitFailed(commit.generation, named("store.write-failed", 0.0))
        return
    for probe in world.probes[:1]:
        for outcome in (None, AUTH_OFF, BAD_TOKEN):
            yield "probed", ProbeFinished(probe.generation, outcome)
    yield "sent", MailOutcome(True)
    yield "refused", MailOutcome(False, BAD_TOKEN)
    yield "broken", MailOutcome(False, smtp_problem(554, "5.2.252", "", "mail", 0.0), breaker=True)
    yield "asked", RefreshRequested("admin", force=True)
    yield "wan", WanUp()
    for name in ("wake", "hours", "crash", "reboot", "orderly"):
        yield name, None


WIPERS = ("apply", "other", "clear", "forget", "orderly", "crash", "reboot")


def play(world: Gateway, name: str, event: Event | None) -> Iterator[Gateway]:
    """The gateway after the move; and every gateway that a crash in the middle of it leaves behind."""
    if event is None:
        yield from pass_or_restart(world, name)
        return
    take_off(world, event)
    commands = world.agent.handle(event, world.now)
    for done in range(1, len(commands)):
        if isinstance(commands[done - 1], SaveSnapshot | WipeGrant | CommitGrant):
            crashed = world.fork()
            obey(crashed, commands[:done], name)
            restart(crashed, reboot=False)
            yield crashed
    obey(world, commands, name)
    yield world


def take_off(world: Gateway, event: Event) -> None:
    """What was under way has come back."""
    match event:
        case RedeemFinished(signin_id):
            world.redeems = [redeem for redeem in world.redeems if redeem.signin_id != signin_id]
        case RefreshFinished():
            world.refreshes.clear()
        case GrantCommitted():
            world.commits.clear()
        case GrantCommitFailed():
            world.commits.clear()
            world.slot, world.believed_boot = world.before_commit
        case ProbeFinished():
            world.probes.pop(0)
        case SettingsApplied(settings):
            world.settings = settings
        case SettingsCleared():
            world.settings = None
        case SigninStarted(signin_id):
            world.states.append(signin_id)


def obey(world: Gateway, commands: list[Command], name: str) -> None:
    for command in commands:
        match command:
            case SaveSnapshot(snapshot):
                world.snapshot = snapshot
            case WipeGrant():
                assert name.split()[0] in WIPERS, f"{name} erased a grant"
                world.slot, world.before_commit = None, (None, "")
            case CommitGrant(generation, result, obtained):
                world.commits.append(command)
                world.before_commit = (world.slot, world.believed_boot)
                meta = {"generation": generation, "account": result.account, "object_id": result.object_id,
                        "expires_in": result.expires_in, "boot_id": world.boot_id,
                        "identity": identity(world.settings) if world.settings else "",
                        "obtained": {"boot": obtained.boot, "wall": obtained.wall}}  # fmt: skip
                world.slot = Slot(meta, result.sealed, world.slot.sequence + 1 if world.slot else 1)
                world.believed_boot = world.boot_id
            case Refresh():
                assert not world.refreshes, "two refreshes at once"
                assert world.slot is not None, "a refresh of nothing"
                world.refreshes.append(command)
            case Redeem():
                world.redeems.append(command)
            case Probe():
                world.probes = [command]
            case Answer(signin_id, ok):
                if ok:
                    assert world.slot is not None, "success was shown, nothing is stored"
                    assert world.snapshot is not None
                    assert world.snapshot.grant is not None, "success was shown, a restart would not know"
                if signin_id in world.states:
                    world.states.remove(signin_id)
    world.states = [name for name in world.states if world.agent._signins.knows(name)]


def pass_or_restart(world: Gateway, name: str) -> Iterator[Gateway]:
    match name:
        case "wake":
            due = world.agent.next_wakeup(world.now)
            if due is None:
                return
            world.boot = max(world.boot, due)
        case "hours":
            world.boot += 5 * 3600
        case "orderly":
            obey(world, world.agent.handle(Stopping(), world.now), name)
            restart(world, reboot=True)
        case "crash" | "reboot":
            restart(world, reboot=name == "reboot")
    if name in ("wake", "hours"):
        flight = world.agent._renewal.flight
        if flight is not None and world.boot >= flight.since + 300:
            world.refreshes.clear()
        obey(world, world.agent.handle(Tick(), world.now), name)
    yield world


def restart(world: Gateway, *, reboot: bool) -> None:
    """What the service's start does, with the service's own recovery."""
    if reboot:
        world.boot_id = "b2" if world.boot_id == "b1" else "b1"
        world.boot = 20.0
    world.redeems, world.refreshes, world.probes, world.commits, world.states = [], [], [], [], []
    found = reconcile(world.snapshot, world.slot, world.settings)
    world.agent = Agent(Middle(), found, world.now, world.boot_id)
    if world.settings is not None:
        applied = SettingsApplied(world.settings, change_since(world.snapshot, world.settings), True)
        obey(world, world.agent.handle(applied, world.now), "crash")


def check(world: Gateway) -> None:
    """What must hold in every situation."""
    status = world.agent.status(world.now)
    if status.state is State.VALID:
        assert world.slot is not None, "Valid without a grant"
        assert world.believed_boot == world.boot_id, "Valid on another boot's word"
    if world.slot is not None and not world.commits and world.settings is not None:
        assert status.account is not None, "a stored grant is forgotten"
        assert world.slot.meta["identity"] == identity(world.settings), "a grant of another identity is held"
    if status.state is State.PENDING:
        assert status.pending
        assert world.agent.next_wakeup(world.now) is not None, "Pending for ever"
    if status.state is State.EXPIRED:
        waiting = world.agent.next_wakeup(world.now) is not None or world.refreshes or world.commits
        assert waiting, "Expired, and nothing will happen"


def key(world: Gateway) -> tuple[object, ...]:
    """Everything that a decision depends on, with moments reduced to their order."""
    agent, now = world.agent, world.now
    renewal, gate, snapshot = agent._renewal, agent._gate, world.snapshot
    status = agent.status(now)
    return (
        status.state, agent._held(now), world.settings and (world.settings.server, world.settings.sender),
        tuple(sorted((s.signin_id, s.phase) for s in agent._signins._by_id.values())),
        tuple(sorted(redeem.signin_id for redeem in world.redeems)),
        None if renewal.flight is None else (renewal.flight.generation >= agent._epoch,
                                             renewal.flight.generation == agent._generation, bool(world.refreshes)),
        agent._committing is not None, bool(world.commits), renewal.failure_class, min(renewal.failures, 4),
        renewal.due is None, agent._problem and agent._problem.code,
        gate.problem and gate.problem.code, gate.breaker, gate.probing is not None, gate.token_doubted,
        [probe.generation == agent._generation for probe in world.probes].count(True), len(world.probes),
        world.slot is not None, world.believed_boot == world.boot_id,
        snapshot and (snapshot.grant is not None, snapshot.generation == agent._generation,
                      snapshot.boot_id == world.boot_id, snapshot.clean),
    )  # fmt: skip


@dataclass
class Explored:
    """What a search saw. open: situations at the edge of the depth, whose consequences were not looked at."""

    situations: int
    steps: int
    open: int
    depth: int
    dead_ends: int


def explore(deepest: int | None = None) -> Explored:
    """Search breadth first, to closure or to a depth; every promise is checked after every step."""
    begin = Gateway(Agent(Middle(), None, Instant(1000.0, WALL + 1000.0), "b1"))
    seen: dict[object, set[object]] = {key(begin): set()}
    good: set[object] = set()
    todo = deque([(begin, 0)])
    steps, depth = 0, 0
    while todo and (deepest is None or todo[0][1] < deepest):
        world, depth = todo.popleft()
        here = key(world)
        for name, event in moves(world):
            for after in play(world.fork(), name, event):
                steps += 1
                check(after)
                there = key(after)
                seen[here].add(there)
                if there not in seen:
                    seen[there] = set()
                    todo.append((after, depth + 1))
                    if after.agent.status(after.now).state is State.VALID:
                        good.add(there)
    edge = {key(world) for world, _ in todo}
    alive = can_reach(seen, (good | edge).__contains__)
    return Explored(len(seen), steps, len(todo), depth + 1, len(seen) - len(alive))


def test_every_situation_within_eight_steps_keeps_the_promises() -> None:
    """With crashes in the middle of each step; the search to closure is `python -m tests.campaigns.explore`."""
    found = explore(deepest=8)
    assert found.situations > 600
    assert found.dead_ends == 0
