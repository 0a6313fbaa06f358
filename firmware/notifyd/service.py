"""The resident service: one queue of facts, one agent that decides, one place that carries out what it decided.

Every fact (an API call, an answer of a worker, a network change, a timer) enters by `post`. Facts are decided one
after the other; the commands that the agent gives back are carried out in their order, and what must be durable is on
the disk before the next command runs. Whatever takes time runs as a task and comes back as a fact. Nothing else changes
the token.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from notifyd.adapters.clock import boot_id, now
from notifyd.adapters.database import SettingsStore, StoredSettings
from notifyd.adapters.entra import BegunSignin, Entra
from notifyd.adapters.eventlog import EventLog
from notifyd.adapters.process import MemoryReturn
from notifyd.adapters.vault import Slot, Vault
from notifyd.core import commands, events
from notifyd.core.agent import Agent
from notifyd.core.clouds import Cloud
from notifyd.core.events import Failure, FailureKind, GrantResult
from notifyd.core.faults import StoreFailed, StoreFull
from notifyd.core.instant import Instant
from notifyd.core.problem import Problem
from notifyd.core.problems import named
from notifyd.core.secret import Secret
from notifyd.core.settings import Auth, Settings
from notifyd.core.snapshot import Snapshot
from notifyd.recovery import identity
from notifyd.signins import Ending, Signins

SNAPSHOT, SECRET_NAMES = "agent", "secret_names"
LONGEST_SLEEP_S = 300.0  # the loop's clock stands still in suspend, the boot clock does not: look again this often
SHORTEST_SLEEP_S = 0.05


class MailGate(Protocol):
    """What the agent may tell the mailer."""

    def hold(self, problem: Problem) -> None: ...

    def release(self) -> None: ...

    def settings_changed(self) -> None: ...

    def wan_up(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Login:
    """What is needed to log in at the mail server now. secret: access token or password, None for `auth=none`."""

    settings: Settings
    cloud: Cloud
    username: str
    secret: Secret | None


ProbeFunction = Callable[[Login], Coroutine[Any, Any, Problem | None]]


@dataclass(slots=True)
class Parts:
    """What the service is made of; `probe` logs in at the mail server without sending."""

    events: EventLog
    store: SettingsStore
    vault: Vault
    entra: Entra
    probe: ProbeFunction
    clouds: Mapping[str, Cloud]


@dataclass(frozen=True, slots=True)
class _Posted:
    """A fact with what its sender knows of the event that follows from it."""

    fact: events.Event
    event: str = ""
    fields: Mapping[str, object] = field(default_factory=dict)


class Service:
    """The actor. Use it from the event loop's thread only."""

    def __init__(self, parts: Parts, agent: Agent) -> None:
        self.parts = parts
        self.agent = agent
        self.signins = Signins()
        self.stored: StoredSettings | None = parts.store.load()
        self.gate: MailGate | None = None
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._slot: Slot | None = parts.vault.load()
        self._access_token: Secret | None = None
        self._at_microsoft = asyncio.Lock()  # one-time refresh tokens: two renewals at once would end the grant
        self._facts: deque[_Posted] = deque()
        self._deciding = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._memory = MemoryReturn()
        self._asking = 0
        self.renewals = 0
        self._unsaved: Snapshot | None = None
        self.secret_names = frozenset(parts.store.document(SECRET_NAMES) or ())

    # ---- facts in ---------------------------------------------------------------------------------------------------

    def post(self, fact: events.Event, event: str = "", /, **fields: object) -> None:
        """Takes one fact. Everything that it decides is done when this returns, except what takes time.

        fields: what the caller knows beyond the agent (who, from where), added to the `event` that follows.
        Raises StoreFailed when the storage failed; the service then ends.
        """
        self._facts.append(_Posted(fact, event, fields))
        if self._deciding:
            return
        self._deciding = True
        try:
            while self._facts:
                posted = self._facts.popleft()
                for command in self.agent.handle(posted.fact, now()):
                    self._carry_out(command, posted)
        except StoreFailed as error:
            self.fail(f"the storage failed: {error}")
            raise
        finally:
            self._deciding = False
        self._arm()
        self._memory.soon()

    async def settled(self) -> None:
        """Returns when nothing is being asked of Microsoft or the mail server any more."""
        while self._asking:
            await self._changed.wait()

    def secret_known(self, name: str) -> bool:
        """Whether `client_secret` or `password` is stored."""
        return self.stored is not None and name in self.secret_names

    def remember_secrets(self, names: frozenset[str]) -> None:
        """Keeps which secrets the sealed blob holds; the blob itself does not tell."""
        self.parts.store.save_document(SECRET_NAMES, dict.fromkeys(sorted(names), True))
        self.secret_names = names

    def fail(self, reason: str) -> None:
        """Ends the service with an error, so that its manager starts it anew and it reads what is on the disk."""
        if not self.failed.done():
            self.parts.events.emit("store.write_failed", reason=reason)
            self.failed.set_result(reason)

    # ---- commands out -----------------------------------------------------------------------------------------------

    def _carry_out(self, command: commands.Command, posted: _Posted) -> None:
        match command:
            case commands.Redeem(signin_id, generation):
                self._ask(self._redeem(signin_id, generation))
            case commands.Refresh(generation):
                self.renewals += 1
                self._ask(self._refresh(generation))
            case commands.Probe(generation):
                self._ask(self._probe(generation))
            case commands.CommitGrant(generation, result, obtained):
                self._commit(generation, result, obtained)
            case commands.SaveSnapshot(snapshot):
                self._save(snapshot)
            case commands.WipeGrant():
                self._wipe()
            case commands.CancelSignins(ids, reason):
                for signin_id in ids:
                    self.signins.finish(signin_id, Ending(False), reason)
                self._cool_when_quiet()
            case commands.Answer(signin_id, ok, problem):
                self.signins.finish(signin_id, Ending(ok, problem), "used")
                self._cool_when_quiet()
            case commands.HoldMail(problem):
                if self.gate is not None:
                    self.gate.hold(problem)
            case commands.ReleaseMail():
                if self.gate is not None:
                    self.gate.release()
            case commands.Emit(event, level, fields):
                more = posted.fields if event == posted.event else {}
                self.parts.events.emit(event, level=level.value, **dict[str, Any]({**fields, **more}))

    def _commit(self, generation: int, result: GrantResult, obtained: Instant) -> None:
        try:
            self.keep(generation, result, obtained)
        except StoreFailed as error:
            problem = named("store.write-failed", now().wall, str(error))
            self._facts.append(_Posted(events.GrantCommitFailed(generation, problem)))
            self.fail(str(error))
        else:
            self._facts.append(_Posted(events.GrantCommitted(generation)))

    def keep(self, generation: int, result: GrantResult, obtained: Instant | None = None) -> None:
        """Makes this the held grant: on the disk first, then in use. Raises StoreFailed; the old one is then kept.

        obtained: from when its life counts, as the agent holds it; now, when the agent did not ask for it.
        """
        moment = obtained or now()
        meta = {
            "generation": generation,
            "sealed_for": result.sealed_for,
            "account": result.account,
            "object_id": result.object_id,
            "tenant_id": result.tenant_id,
            "scopes": list(result.scopes),
            "expires_in": result.expires_in,
            "obtained": {"boot": moment.boot, "wall": moment.wall},
            "boot_id": boot_id(),
            "identity": identity(self.stored.settings) if self.stored else "",
        }
        self._slot = self.parts.vault.commit(meta, result.sealed)
        self._access_token = result.access_token

    def _save(self, snapshot: Snapshot) -> None:
        """A full disk must not stop renewals: the slots have all that a restart needs, the snapshot waits for room."""
        try:
            self.parts.store.save_document(SNAPSHOT, snapshot.as_json())
        except StoreFull:
            if self._unsaved is None:
                self.parts.events.emit("store.full", free=0)
            self._unsaved = snapshot
        else:
            self._unsaved = None

    def _wipe(self) -> None:
        self.parts.vault.wipe()
        self._slot = None
        self._access_token = None

    def _cool_when_quiet(self) -> None:
        if not len(self.signins):
            self.start(self.parts.entra.cool())

    # ---- what takes time --------------------------------------------------------------------------------------------

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs something beside the loop; an exception that it lets out is a fault of ours and is recorded."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _ask(self, work: Coroutine[Any, Any, None]) -> None:
        self._asking += 1
        self.start(self._counted(work))

    async def _counted(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            self._asking -= 1
            self._changed.set()
            self._changed = asyncio.Event()

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, StoreFailed):
            self.parts.events.emit("service.fault", reason=type(error).__name__, where=task.get_name(), exc_info=error)

    async def _redeem(self, signin_id: str, generation: int) -> None:
        signin = self.signins.find(signin_id)
        if signin is None or self.stored is None:
            result: GrantResult | Failure = Failure(kind=FailureKind.WORKER, error="signin_gone")
        else:
            async with self._at_microsoft:
                result = await self.parts.entra.redeem(
                    signin.begun,
                    signin.params,
                    self.stored.settings,
                    self.parts.clouds[self.stored.settings.cloud],
                    self.stored.sealed_secret,
                    generation,
                )
        self.post(events.RedeemFinished(signin_id, generation, result))

    async def _refresh(self, generation: int) -> None:
        async with self._at_microsoft:
            slot, stored = self._slot, self.stored
            if slot is None or stored is None:
                result: GrantResult | Failure = Failure(kind=FailureKind.STORE, error="no_grant")
            else:
                result = await self.parts.entra.refresh(
                    stored.settings,
                    self.parts.clouds[stored.settings.cloud],
                    stored.sealed_secret,
                    slot.sealed,
                    int(slot.meta["sealed_for"]),
                    generation,
                )
            self.post(events.RefreshFinished(generation, result))

    async def prove(self, candidate: StoredSettings, generation: int) -> GrantResult | Failure | None:
        """Renews the held grant with a new client secret; None when there is no grant to prove it with."""
        async with self._at_microsoft:
            slot = self._slot
            if slot is None:
                return None
            return await self.parts.entra.prove_secret(
                candidate.settings,
                self.parts.clouds[candidate.settings.cloud],
                candidate.sealed_secret,
                slot.sealed,
                int(slot.meta["sealed_for"]),
                generation,
            )

    async def _probe(self, generation: int) -> None:
        self.post(events.ProbeFinished(generation, await self.probe_now()))

    async def probe_now(self) -> Problem | None:
        """Logs in at the mail server with the held token, without sending; None when that works."""
        login = await self.login()
        return login if isinstance(login, Problem) else await self.parts.probe(login)

    async def login(self) -> Login | Problem:
        """Mailbox and credential for the mail server, or why there are none."""
        stored = self.stored
        if stored is None:
            return named("settings.not-applied", now().wall)
        settings, cloud = stored.settings, self.parts.clouds[stored.settings.cloud]
        if settings.auth is Auth.NONE:
            return Login(settings, cloud, "", None)
        if settings.auth is Auth.OAUTH2:
            token = await self.access_token()
            account = self.agent.status(now()).account
            return (
                Login(settings, cloud, account or settings.sender, token) if token else named("token.none", now().wall)
            )
        password = await self.parts.entra.open_password(stored.sealed_secret)
        if isinstance(password, Failure):
            return named("store.no-secret", now().wall, password.error)
        return Login(settings, cloud, settings.username or settings.sender, password)

    async def begin_signin(self, redirect_uri: str) -> BegunSignin | Failure:
        """Asks for the authorize address of a new sign-in; a helper process is kept ready for its answer."""
        stored = self.stored
        if stored is None:
            raise ValueError("nothing is applied")
        problem = self.agent.status(now()).problem
        begun = await self.parts.entra.begin(
            stored.settings,
            self.parts.clouds[stored.settings.cloud],
            redirect_uri,
            stored.settings.sender,
            problem.claims if problem else "",
            stored.sealed_secret,
        )
        self.start(self.parts.entra.warm())
        return begun

    async def access_token(self) -> Secret | None:
        """The held access token, opened from the slot after a restart; None when there is none."""
        if self._access_token is None and self._slot is not None and self.stored is not None:
            slot = self._slot
            opened = await self.parts.entra.open_access_token(
                self.stored.settings, slot.sealed, int(slot.meta["sealed_for"])
            )
            if isinstance(opened, Failure):
                self.parts.events.emit("store.unsealable", reason=opened.error)
            elif self._slot is slot:
                self._access_token = opened
        return self._access_token

    # ---- time -------------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        """One timer, for the next moment that the agent waits for; none when it waits for nothing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.failed.done():
            return
        moment = now()
        due = self.agent.next_wakeup(moment)
        if due is not None:
            delay = min(max(due - moment.boot, SHORTEST_SLEEP_S), LONGEST_SLEEP_S)
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        moment = now()
        due = self.agent.next_wakeup(moment)
        if due is None or due > moment.boot:
            self._arm()
            return
        try:
            self.post(events.Tick())
        except StoreFailed:
            return

    async def stop(self) -> None:
        """Saves, ends what runs and lets the waiting tabs go."""
        if self._timer is not None:
            self._timer.cancel()
        if not self.failed.done():
            self.post(events.Stopping())
        self.signins.clear()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.parts.entra.close()
