"""A simulated Microsoft 365, a device key, and the worker's operations against both."""

from __future__ import annotations

import asyncio
import os
import time
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from notifyd.adapters.devicekey import device_key_path
from notifyd.adapters.entra import Entra, identity
from notifyd.adapters.entra_worker import grants, operations
from notifyd.adapters.entra_worker.faults import OperationFailed
from notifyd.adapters.sealing import Context, unseal
from notifyd.core.clouds import Cloud
from notifyd.core.events import Failure
from notifyd.core.settings import Auth, Security, Settings
from qemu.m365.simulator import ThreadedSimulator, start_in_thread
from tests.m365.browser import Browser

REDIRECT_URI = "https://127.0.0.1:8443/cgi-bin/msoauth2.cgi"
SENDER = "gateway@contoso.example"
T = TypeVar("T")


@pytest.fixture(scope="session")
def running_sim() -> Iterator[ThreadedSimulator]:
    """One simulator for the folder."""
    with start_in_thread(redirect_uris=(REDIRECT_URI,)) as simulator:
        yield simulator


@pytest.fixture
def sim(running_sim: ThreadedSimulator) -> ThreadedSimulator:
    """The simulator as after a fresh start."""
    running_sim.reset()
    return running_sim


@dataclass
class Device:
    """A gateway's side: its key, its settings, and the operations of the worker run in this process."""

    key: Path
    settings: Settings
    cloud: Cloud
    secrets: bytes = b""
    defaults: dict[str, Any] = field(default_factory=dict)

    def perform(self, op: str, **fields: Any) -> dict[str, Any] | Failure:
        """One operation; bytes among the fields are sent as the parent sends them."""
        request = {
            "op": op,
            "deadline_s": 20,
            "key": str(self.key),
            "authority": f"{self.cloud.authority}/{self.settings.tenant_id}",
            "scope": self.cloud.scope,
            "ca_file": self.cloud.ca_file,
            "client_id": self.settings.client_id,
            "tenant_id": self.settings.tenant_id,
            "identity": identity(self.settings),
            "secrets": self.secrets,
            "generation": 1,
            **self.defaults,
            **fields,
        }
        sent = {name: b64encode(v).decode() if isinstance(v, bytes) else v for name, v in request.items()}
        try:
            return operations.perform(sent)
        except OperationFailed as failed:
            return failed.failure

    def ok(self, op: str, **fields: Any) -> dict[str, Any]:
        """One operation that must succeed."""
        result = self.perform(op, **fields)
        assert isinstance(result, dict), result
        return result

    def refused(self, op: str, **fields: Any) -> Failure:
        """One operation that must fail."""
        result = self.perform(op, **fields)
        assert isinstance(result, Failure), "expected a failure"
        return result

    def seal(self, **secrets: str) -> bytes:
        """Sealed settings secrets."""
        return b64decode(self.ok("seal", secrets="", given=secrets)["sealed"])

    def begin(self, **fields: Any) -> dict[str, Any]:
        """A sign-in that was begun."""
        return self.ok("begin", **{"redirect_uri": REDIRECT_URI, "login_hint": SENDER, "claims": "", **fields})

    def refresh(self, grant: bytes, **fields: Any) -> dict[str, Any] | Failure:
        """A renewal."""
        return self.perform("refresh", **{"grant": grant, "grant_generation": 1, **fields})

    def grant(self, sealed: str | bytes, generation: int = 1) -> grants.Grant:
        """Look inside a sealed grant, as only a test may."""
        blob = sealed if isinstance(sealed, bytes) else b64decode(sealed)
        return grants.decode(unseal(self.key.read_bytes(), Context("grant", identity(self.settings), generation), blob))


@pytest.fixture
def device(sim: ThreadedSimulator, tmp_path: Path) -> Device:
    """A gateway with applied settings for the demo tenant."""
    ends = sim.endpoints
    settings = Settings(
        server=ends.smtp[0],
        port=ends.smtp[1],
        security=Security.STARTTLS,
        auth=Auth.OAUTH2,
        cloud="simulated",
        sender=SENDER,
        client_id=ends.client_id,
        tenant_id=ends.tenant_id,
    )
    cloud = Cloud("simulated", "", ends.idp, "https://outlook.office.com/SMTP.Send", *ends.smtp, ends.ca_file)
    made = Device(device_key_path(tmp_path, None), settings, cloud)
    made.secrets = made.seal(client_secret=ends.client_secret)
    return made


@pytest.fixture
def browser(sim: ThreadedSimulator) -> Iterator[Browser]:
    """A browser without a session."""
    visitor = Browser(sim.endpoints.ca_file, REDIRECT_URI)
    yield visitor
    visitor.http.close()


@pytest.fixture
def signed_in(device: Device, browser: Browser) -> dict[str, Any]:
    """The result of a whole sign-in."""
    begun = device.begin()
    params = browser.sign_in(begun["url"]).params
    return device.ok("redeem", flow=begun["flow"], params=params)


def set_workers_clock(monkeypatch: pytest.MonkeyPatch, wall: float) -> None:
    """Give the worker's operations another wall clock, and nobody else in this process."""
    clock = SimpleNamespace(time=lambda: wall, monotonic=time.monotonic)
    monkeypatch.setattr(operations, "time", clock)


def with_entra(device: Device, use: Callable[[Entra], Awaitable[T]], **options: Any) -> T:
    """Run `use` with an Entra that starts real workers, and leave none behind."""

    async def run() -> T:
        entra = Entra(device.key, **options)
        try:
            return await use(entra)
        finally:
            await entra.close()

    return asyncio.run(run())


def children() -> Mapping[int, str]:
    """The processes this one has started and that still live: pid → command line."""
    found = {}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if int(status[1]) == os.getpid() and status[0] != "Z":
                found[int(pid)] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found
