"""One step of the real service on real stores, for the crash tests: only Microsoft and the mail server are stand-ins.

`python -m tests.service.crash_steps STEP DIRECTORY` prints `ack` when the step is done by the service's own account.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path
from typing import Any

from notifyd.adapters.clock import boot_id, now
from notifyd.adapters.database import SettingsStore, open_database
from notifyd.adapters.entra import BegunSignin
from notifyd.adapters.eventlog import EventLog
from notifyd.adapters.vault import Vault
from notifyd.core.agent import Agent
from notifyd.core.clouds import Cloud
from notifyd.core.events import (
    GrantForgotten,
    GrantResult,
    RefreshRequested,
    SettingsApplied,
    SigninAnswered,
    SigninStarted,
)
from notifyd.core.faults import StoreFailed, StoreFull
from notifyd.core.machine import State
from notifyd.core.secret import Secret
from notifyd.core.settings import Auth, Change, Security, Settings
from notifyd.core.snapshot import from_json
from notifyd.recovery import change_since, reconcile
from notifyd.service import SNAPSHOT, Login, Parts, Service

OLD, NEW = b"old grant" * 200, b"new grant" * 200
SENDER, TENANT, CLIENT = "gateway@contoso.example", "11111111-2222-4333-8444-555555555555", "client"
SETTINGS = Settings("smtp.example", 587, Security.STARTTLS, Auth.OAUTH2, "simulated", SENDER, CLIENT, TENANT)
CLOUD = Cloud("simulated", "", "https://login.example", "https://outlook.office.com/SMTP.Send", "smtp.example", 587)
BEGUN = BegunSignin("state-of-the-sign-in", "https://login.example/authorize", Secret("{}"))
DONE_S = 10.0


def result(sealed: bytes) -> GrantResult:
    """A token answer for the sender."""
    claims = {"aud": CLIENT, "tid": TENANT, "preferred_username": SENDER, "oid": "oid"}
    token = Secret("access token")
    return GrantResult(SENDER, "oid", TENANT, (CLOUD.scope,), 3600, None, claims, True, sealed, token)


class Microsoft:
    """Answers every request with a new grant."""

    async def redeem(self, *_: Any) -> GrantResult:
        """A sign-in succeeds."""
        return result(NEW)

    refresh = redeem

    async def cool(self) -> None:
        """There is no worker."""

    warm = close = cool


async def _probe(login: Login) -> None:
    """The mail server lets everybody in."""


def compose(directory: Path, log: EventLog) -> Service:
    """The service as `notifyd.__main__` puts it together."""
    store = SettingsStore(open_database(directory / "notifyd.db"))
    vault, stored, document = Vault(directory / "grant.slots"), store.load(), store.document(SNAPSHOT)
    snapshot = from_json(document) if document else None
    snapshot = reconcile(snapshot, vault.load(), stored.settings if stored else None)
    agent = Agent(random.Random(1), snapshot, now(), boot_id())
    entra: Any = Microsoft()
    service = Service(Parts(log, store, vault, entra, _probe, {"simulated": CLOUD}), agent)
    if stored is not None:
        service.post(SettingsApplied(stored.settings, change_since(snapshot, stored.settings), True))
    return service


async def _settled(service: Service) -> None:
    async with asyncio.timeout(DONE_S):
        await service.settled()
    if service.failed.done():
        raise StoreFailed(service.failed.result())


async def sign_in(service: Service) -> bool:
    """A whole sign-in, from Get New Token to Valid."""
    service.signins.add(BEGUN)
    status = service.agent.status(now())
    service.post(SigninStarted(BEGUN.signin_id, status.generation))
    service.post(SigninAnswered(BEGUN.signin_id, True))
    await _settled(service)
    return service.agent.status(now()).state is State.VALID


async def renew(service: Service) -> bool:
    """A renewal."""
    service.post(RefreshRequested("admin", force=True))
    await _settled(service)
    return service.agent.status(now()).state is State.VALID


async def forget(service: Service) -> bool:
    """The administrator gives the grant up."""
    service.post(GrantForgotten())
    await _settled(service)
    return service.agent.status(now()).state is State.APPLIED


STEPS = {step.__name__: step for step in (sign_in, renew, forget)}


async def prepare(directory: Path, *, granted: bool) -> None:
    """Applied settings, and a grant that is Valid when asked for."""
    log = EventLog(directory / "events.db", sinks=())
    store = SettingsStore(open_database(directory / "notifyd.db"))
    store.save(SETTINGS, b"sealed secret", 1)
    store._connection.close()
    service = compose(directory, log)
    service.post(SettingsApplied(SETTINGS, Change.IDENTITY, True))
    if granted:
        service.keep(service.agent.status(now()).generation, result(OLD))
        assert await sign_in(service)
        service.keep(service.agent.status(now()).generation, result(OLD))
    await service.stop()
    service.parts.vault.close()
    service.parts.store._connection.close()
    log.close()


async def _run(step: str, directory: Path) -> bool:
    service = compose(directory, EventLog(directory / "events.db", sinks=()))
    return await STEPS[step](service)


def main() -> int:
    """Run one step."""
    try:
        done = asyncio.run(_run(sys.argv[1], Path(sys.argv[2])))
    except (StoreFailed, StoreFull, OSError) as error:
        print("refused", type(error).__name__, error, flush=True)
        return 3
    print("ack" if done else "not done", flush=True)
    return 0


if __name__ == "__main__":
    os._exit(main())
