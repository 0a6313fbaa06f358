"""What an administrator does in the browser, as functions over Playwright: demo and browser tests share them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 30_000


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, headless."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        try:
            yield browser
        finally:
            browser.close()


def new_context(browser: Browser, **options: Any) -> BrowserContext:
    """A fresh profile that has accepted the gateway's own certificate and the simulator's private CA."""
    context = browser.new_context(ignore_https_errors=True, **options)
    context.set_default_timeout(PATIENCE_MS)
    return context


def log_in(page: Page, address: str, user: str, password: str) -> None:
    """The gateway's login."""
    page.goto(address)
    page.locator("#login-user").fill(user)
    page.locator("#login-password").fill(password)
    page.locator("#login-submit").click()
    expect(page.locator("#app")).to_be_visible(timeout=PATIENCE_MS)


def apply_settings(page: Page, m365: Mapping[str, Any], cloud: str, sender: str) -> None:
    """Fill System > Notification > Mail Server and press Apply."""
    host, port = m365["smtp"]
    page.locator("#auth").select_option("oauth2")
    page.locator("#cloud").select_option(cloud)
    values = {
        "server": host,
        "port": str(port),
        "sender": sender,
        "client_id": m365["client_id"],
        "client_secret": m365["client_secret"],
        "tenant_id": m365["tenant_id"],
    }
    for field, value in values.items():
        page.locator(f"#{field}").fill(value)
    page.locator("#apply").click()
    expect_status(page, "Applied")


def expect_status(page: Page, state: str, patience_ms: int = PATIENCE_MS) -> None:
    """Token Status shows `state`, by itself."""
    expect(page.locator("#token-status")).to_contain_text(state, timeout=patience_ms)


def start_sign_in(page: Page) -> Page:
    """Press Get New Token; returns the tab that opened, at Microsoft's sign-in."""
    with page.context.expect_page() as opened:
        page.locator("#get-new-token").click()
    tab = opened.value
    tab.wait_for_url("**/oauth2/v2.0/authorize**")
    return tab


def sign_in(tab: Page, account: str) -> None:
    """Choose the account, give the password that the simulator's page shows, up to the consent page if it comes."""
    tab.locator(f"[data-account='{account}']").click()
    tab.locator("#i0118").fill(tab.locator("#shownPassword").inner_text())
    tab.locator("#idSIButton9").click()


def accept_consent(tab: Page) -> None:
    """Accept what the app asks for."""
    expect(tab.locator("#consentHeader")).to_be_visible(timeout=PATIENCE_MS)
    tab.locator("#idSIButton9").click()


def wait_until_closed(tab: Page) -> None:
    """The tab closes by itself."""
    if not tab.is_closed():
        tab.wait_for_event("close", timeout=PATIENCE_MS)


def send_test_mail(page: Page, recipient: str) -> str:
    """Send test mail; returns what the page says of the outcome, once it is final."""
    page.locator("#test-to").fill(recipient)
    page.locator("#send-test").click()
    result = page.locator("#test-result")
    expect(result).to_contain_text("250", timeout=PATIENCE_MS)
    return result.inner_text()
