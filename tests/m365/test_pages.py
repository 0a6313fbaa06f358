"""The pages in a real browser: they can be walked by name and keyboard, and axe finds nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, sync_playwright

from qemu.m365 import ThreadedSimulator
from tests.m365.conftest import REDIRECT_URI, SCOPES
from tests.m365.smtp_client import GATEWAY, message, session, token_for

PASSWORD = "Simulated-Pa55"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium."""
    flags = ["--no-sandbox", "--disable-gpu"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page of a browser without a session."""
    context = chromium.new_context(ignore_https_errors=True)
    yield context.new_page()
    context.close()


def _violations(page: Page) -> list[str]:
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [violation["id"] for violation in found]


def test_sign_in_is_walked_by_name_and_keyboard(sim: ThreadedSimulator, new_app: Any, page: Page) -> None:
    """Suggested account is focused, Enter goes on, names are as on the page, and the form post arrives."""
    posted: list[str] = []

    def arrived(route: Route) -> None:
        posted.append(route.request.post_data or "")
        route.fulfill(body="<title>Back</title>", content_type="text/html")

    page.context.route("https://127.0.0.1:8443/**", arrived)
    usual = {"redirect_uri": REDIRECT_URI, "response_mode": "form_post", "prompt": "select_account"}
    flow = new_app().initiate_auth_code_flow(SCOPES, login_hint=GATEWAY, **usual)
    page.goto(flow["auth_uri"])
    assert page.get_by_role("heading", name="Pick an account").is_visible()
    assert _violations(page) == []
    page.keyboard.press("Enter")
    page.get_by_label("Password").fill(PASSWORD)
    assert _violations(page) == []
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Permissions requested").wait_for()
    assert _violations(page) == []
    page.get_by_role("button", name="Accept").click()
    page.wait_for_url(REDIRECT_URI)
    assert f"state={flow['state']}" in posted[0]


def test_mailbox_view_is_readable_and_follows(sim: ThreadedSimulator, page: Page) -> None:
    """New mail appears by itself; list and message are accessible."""
    page.goto(sim.endpoints.mailbox)
    assert _violations(page) == []
    with session(sim.endpoints, token_for(sim)) as client:
        client.sendmail(GATEWAY, ["a@example.org"], message("Door opened"))
    page.get_by_role("link", name="Door opened").click()
    page.get_by_role("heading", name="Door opened").wait_for()
    assert _violations(page) == []
