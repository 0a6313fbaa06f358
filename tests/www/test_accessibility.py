"""Every view for everybody: axe finds nothing serious, in light and dark, on a desk and on a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.www.conftest import SENDER, Desk

SIZES = {"desk": (1280, 900), "phone": (390, 844)}
VIEWS = ("mail-server", "queue", "check", "log", "report", "alerts")
GRAVE = ("serious", "critical")


def grave_findings(page: Page) -> list[str]:
    findings: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{finding['id']}: {node['html'][:160]}"
        for finding in findings
        if finding["impact"] in GRAVE
        for node in finding["nodes"]
    ]


def overflow(page: Page) -> int:
    """Pixels by which the document is wider than the window."""
    return int(page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_view(valid_desk: Desk, scheme: Any, size: str, pictures: Path) -> None:
    """Views with a problem, banners, errors and rows in them: no grave finding, nothing wider than the window."""
    page = valid_desk.page
    page.emulate_media(color_scheme=scheme)
    width, height = SIZES[size]
    page.set_viewport_size({"width": width, "height": height})
    valid_desk.local("POST", "/api/v1/mail/hold")
    valid_desk.local("POST", "/api/v1/mail", {"to": ["ops@contoso.example"], "subject": "WAN link down", "text": "x"})
    valid_desk.microsoft("POST", f"/users/{SENDER}/revoke", {"code": 50173})
    page.get_by_role("button", name="Refresh Token Status").click()
    expect(page.locator("#problem")).to_be_visible()
    page.get_by_text("Redirect URIs to register in Entra").click()
    for view in VIEWS:
        page.locator(f"nav a[href='#{view}']").click()
        expect(page.locator(f"#{view}")).to_be_visible()
        if view == "queue":
            expect(page.locator("#queue-rows tr").first).to_be_visible()
        if view == "check":
            page.get_by_role("button", name="Run the check").click()
            expect(page.locator("#check-steps li").first).to_be_visible(timeout=60_000)
        if view == "log":
            expect(page.locator("#log-rows tr").first).to_be_visible()
        page.screenshot(path=pictures / f"{view}-{size}-{scheme}.png", full_page=True)
        assert grave_findings(page) == [], view
        assert overflow(page) <= 0, view


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_login_and_the_closing_page(desk: Desk, scheme: Any, pictures: Path) -> None:
    """The two pages outside the page."""
    page = desk.page
    page.emulate_media(color_scheme=scheme)
    page.get_by_role("button", name="Log out").click()
    expect(page.locator("#login-user")).to_be_focused()
    page.screenshot(path=pictures / f"login-{scheme}.png")
    assert grave_findings(page) == []
    page.goto(f"{desk.gateway.address}/cgi-bin/msoauth2.cgi?code=a&state=b")
    page.screenshot(path=pictures / f"cgi-{scheme}.png")
    assert grave_findings(page) == []


def test_keyboard_alone_reaches_apply(desk: Desk) -> None:
    """Skip link first, then on to the form; no trap on the way."""
    page = desk.page
    page.reload()
    expect(page.locator("#app")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.id") == "apply":
            return
    raise AssertionError("Apply is not reached by keyboard")
