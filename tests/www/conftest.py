"""One gateway with its simulated Microsoft 365 and one browser for the folder; as new before each test."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

from notifyd.ctl.client import Client
from qemu.workstation import administrator
from qemu.workstation.demo import Demo, running_demo
from qemu.workstation.demo_once import free_port
from qemu.workstation.gateway import ADMIN, Gateway

SENDER = "gateway@contoso.example"
OPERATOR = "ops@contoso.example"
BARE_PASSWORD = "only for this gateway"


@dataclass
class Desk:
    """An administrator's desk: the gateway at one side, Microsoft at the other, a browser in between."""

    demo: Demo
    page: Page

    @property
    def gateway(self) -> Gateway:
        return self.demo.gateway

    @property
    def context(self) -> BrowserContext:
        return self.page.context

    def log_in(self) -> None:
        administrator.log_in(self.page, self.gateway.address, ADMIN, str(self.gateway.password))

    def apply(self, **changes: str) -> None:
        administrator.apply_settings(self.page, {**self.demo.m365, **changes}, "simulated", SENDER)

    def sign_in(self) -> None:
        """The whole of Get New Token, up to the closed tab and Valid."""
        tab = administrator.start_sign_in(self.page)
        administrator.sign_in(tab, SENDER)
        administrator.accept_consent(tab)
        administrator.wait_until_closed(tab)
        administrator.expect_status(self.page, "Valid")

    def apply_elsewhere(self) -> None:
        """The same settings, applied by a local program meanwhile."""
        host, port = self.demo.m365["smtp"]
        settings = {"server": host, "port": port, "security": "starttls", "auth": "oauth2", "cloud": "simulated"}
        names = ("client_id", "tenant_id", "client_secret")
        settings |= {"sender": SENDER, **{name: self.demo.m365[name] for name in names}}
        assert self.local("PUT", "/api/v1/settings", settings).status == 200

    def microsoft(self, method: str, path: str, body: object = None) -> Any:
        """One call of the simulator's control API."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.demo.m365["control"].rstrip("/") + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def local(self, method: str, path: str, body: object = None) -> Any:
        """One call of the API as a local program makes it."""
        return Client(self.gateway.run / "admin.sock").call(method, path, body)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium a file: Playwright keeps an event loop running, and later files have loops of their own."""
    with administrator.chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def shared_demo() -> Iterator[Demo]:
    with running_demo(free_port()) as demo:
        yield demo


@pytest.fixture(scope="module")
def bare_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway where nothing was ever applied; one a file, since a file may lock its account."""
    home = tmp_path_factory.mktemp("bare")
    with Gateway(home / "etc", home / "data", home / "run", free_port(), BARE_PASSWORD) as gateway:
        yield gateway


def watch(page: Page, complaints: list[str]) -> None:
    """Collects what the browser complains about: script errors, console errors, violations of the policy."""

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(f"{message.text} {message.location.get('url', '')}")

    page.on("console", heard)
    page.on("pageerror", lambda error: complaints.append(str(error)))


REFUSAL = "Failed to load resource: the server responded with a status of 4"
OUTAGE = ("Failed to load resource: the server responded with a status of 5", "Failed to load resource: net::ERR_")


@pytest.fixture
def tolerated() -> list[str]:
    """Beginnings of complaints that belong to the test; an answer of 4xx always may."""
    return [REFUSAL]


@pytest.fixture
def page(browser: Browser, tolerated: list[str]) -> Iterator[Page]:
    """A new profile; a test fails when the browser complained about anything that is not tolerated."""
    complaints: list[str] = []
    context = administrator.new_context(browser, viewport={"width": 1280, "height": 900}, locale="en-GB")
    page = context.new_page()
    watch(page, complaints)
    yield page
    context.close()
    assert [complaint for complaint in complaints if not complaint.startswith(tuple(tolerated))] == []


@pytest.fixture
def desk(shared_demo: Demo, page: Page) -> Desk:
    """Logged in; Microsoft as after a fresh start; no grant, no queue; whatever was applied before stays applied."""
    desk = Desk(shared_demo, page)
    desk.microsoft("POST", "/reset")
    desk.local("POST", "/api/v1/mail/release")
    desk.local("DELETE", "/api/v1/token")
    for mail in desk.local("GET", "/api/v1/mail").document["messages"]:
        desk.local("DELETE", f"/api/v1/mail/{mail['id']}")
    desk.log_in()
    return desk


@pytest.fixture
def valid_desk(desk: Desk) -> Desk:
    """The administrator's path up to Valid is behind us."""
    desk.apply()
    desk.sign_in()
    return desk


@pytest.fixture
def pictures() -> Path:
    """Where screenshots go, for people to look at."""
    directory = Path(__file__).resolve().parents[2] / "build" / "screenshots"
    directory.mkdir(parents=True, exist_ok=True)
    return directory
