"""Who may do what through the web server, and what a browser is told to allow."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import APIRequestContext, Browser, Page, expect

from qemu.workstation import administrator
from qemu.workstation.gateway import ADMIN, Gateway
from tests.www.conftest import BARE_PASSWORD, Desk

WITHOUT_LOGIN = [
    ("GET", "/api/v1/status"),
    ("GET", "/api/v1/settings"),
    ("PUT", "/api/v1/settings"),
    ("POST", "/api/v1/token/authorize"),
    ("DELETE", "/api/v1/token"),
    ("GET", "/api/v1/events"),
    ("POST", "/api/v1/mail/test"),
    ("GET", "/api/v1/support-bundle"),
    ("GET", "/metrics"),
]
SPOOFED = {"X-Notifyd-Via": "", "X-Forwarded-For": "127.0.0.1", "Connection": "close, X-Notifyd-Via"}


@pytest.fixture(scope="module")
def anonymous(browser: Browser) -> Iterator[APIRequestContext]:
    """Somebody in the LAN without a login."""
    context = administrator.new_context(browser)
    yield context.request
    context.close()


@pytest.mark.parametrize(("method", "path"), WITHOUT_LOGIN)
@pytest.mark.parametrize("headers", [{}, SPOOFED], ids=["plain", "spoofed"])
def test_nothing_without_a_login(
    bare_gateway: Gateway, anonymous: APIRequestContext, method: str, path: str, headers: dict[str, str]
) -> None:
    """401 or 403, also for one who pretends to be a local program."""
    same_origin = {"Origin": bare_gateway.address, "Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}
    body = None if method == "GET" else "{}"
    answer = anonymous.fetch(bare_gateway.address + path, method=method, headers={**same_origin, **headers}, data=body)
    assert answer.status in (401, 403)


def test_foreign_page_cannot_change_anything(desk: Desk) -> None:
    """A logged-in administrator visits another site, which posts to the gateway: the cookie stays home, 401 or 403."""
    desk.apply()
    stranger = desk.context.new_page()
    stranger.goto(desk.demo.m365["mailbox"])
    statuses: list[int] = []
    stranger.on("response", lambda response: statuses.append(response.status) if "/api/v1/" in response.url else None)
    stranger.evaluate(
        """(url) => {
            const form = document.createElement('form');
            form.method = 'POST';
            form.action = url;
            form.enctype = 'text/plain';
            document.body.append(form);
            form.submit();
        }""",
        desk.gateway.address + "/api/v1/token/authorize",
    )
    stranger.wait_for_url("**/api/v1/**")
    assert statuses
    assert all(status in (401, 403, 415) for status in statuses)
    administrator.expect_status(desk.page, "Applied")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "https://other.contoso.example"},
        {},
    ],
)
def test_change_needs_our_own_origin(desk: Desk, headers: dict[str, str]) -> None:
    """Even with the session's cookie."""
    answer = desk.context.request.fetch(
        desk.gateway.address + "/api/v1/token/refresh",
        method="POST",
        headers={"Content-Type": "application/json", **headers},
        data="{}",
    )
    assert answer.status == 403


def test_wrong_password_stays_out_and_locks(bare_gateway: Gateway, page: Page) -> None:
    """Five wrong ones lock the account; the page says for how many minutes, and the right one stays out too."""
    page.goto(bare_gateway.address)
    error = page.locator("#login-error")

    def attempt(password: str) -> str:
        page.locator("#login-user").fill(ADMIN)
        page.locator("#login-password").fill(password)
        with page.expect_response("**/api/v1/session"):
            page.locator("#login-submit").click()
        expect(error).not_to_be_empty()
        expect(page.locator("#login-submit")).to_be_enabled()
        return error.inner_text()

    for number in range(5):
        assert "wrong" in attempt(f"guess {number}")
    end = time.monotonic() + 30
    while "locked" not in (said := attempt(BARE_PASSWORD)):
        assert "wait" in said.lower(), said  # the address is slowed down besides
        assert time.monotonic() < end
        page.wait_for_timeout(500)
    assert "minutes" in said
    assert page.locator("#app").is_hidden()


def test_log_out_ends_the_session(desk: Desk) -> None:
    """The cookie of before is worth nothing afterwards."""
    [cookie] = [cookie for cookie in desk.context.cookies() if cookie["name"] == "__Host-notifyd"]
    assert cookie["httpOnly"]
    assert cookie["secure"]
    assert cookie["sameSite"] == "Strict"
    desk.page.get_by_role("button", name="Log out").click()
    expect(desk.page.locator("#login-notice")).to_have_text("You are logged out.")
    desk.context.add_cookies([cookie])
    assert desk.context.request.get(desk.gateway.address + "/api/v1/status").status == 401


PAGE_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self' data:",
    "form-action": "'self'",
    "frame-src": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}


@pytest.mark.parametrize(
    "path", ["/", "/style.css", "/js/main.js", "/opening.html", "/nothing-here", "/cgi-bin/", "/api/v1/status"]
)
def test_every_answer_carries_the_security_headers(
    bare_gateway: Gateway, anonymous: APIRequestContext, path: str
) -> None:
    """Also errors and files; the page's policy allows its own files and nothing else."""
    headers = anonymous.get(bare_gateway.address + path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    if not path.startswith("/api/"):
        assert policy == PAGE_POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["strict-transport-security"].startswith("max-age=")
    assert headers["cross-origin-opener-policy"].startswith("same-origin")
    assert "camera=()" in headers["permissions-policy"]
    assert headers["cache-control"] in ("no-cache", "no-store")
    assert "lighttpd" not in headers.get("server", "")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/cgi-bin/"),
        ("GET", "/cgi-bin/msoauth2.cgi/x"),
        ("GET", "/cgi-bin/msoauth2.cgi.bak"),
        ("GET", "/cgi-bin/../cgi-bin/msoauth2.cgi%00"),
        ("GET", "/js/"),
        ("GET", "/.git/config"),
        ("GET", "/js/main.js/x"),
        ("GET", "/..%2f..%2fetc/passwd"),
        ("GET", "/api/v1/..;/../cgi-bin/"),
        ("POST", "/"),
        ("PUT", "/style.css"),
        ("DELETE", "/js/main.js"),
        ("PROPFIND", "/"),
    ],
)
def test_only_the_page_is_served(bare_gateway: Gateway, anonymous: APIRequestContext, method: str, path: str) -> None:
    """No listing, no source of the CGI, no other program, no method that a page does not need."""
    answer = anonymous.fetch(bare_gateway.address + path, method=method, max_redirects=0)
    assert 400 <= answer.status < 500
    assert "python" not in answer.text().lower()


def test_access_log_never_holds_a_query(desk: Desk) -> None:
    """Neither a sign-in's code nor a search is in any file that the web server writes."""
    marks = ["PLANTED-CODE-1", "PLANTED-CODE-2", "PLANTED-WORDS"]
    request = desk.context.request
    request.get(f"{desk.gateway.address}/cgi-bin/msoauth2.cgi?code={marks[0]}&state=x")
    request.get(f"{desk.gateway.address}/cgi-bin/msoauth2.cgi?code={marks[1]}&state=x&{'y' * 30000}")
    request.get(f"{desk.gateway.address}/api/v1/events?text={marks[2]}")
    written = [path for path in desk.gateway.run.rglob("*") if path.is_file()]
    assert desk.gateway.run / "access.log" in written
    for path in written:
        content = path.read_bytes()
        assert not [mark for mark in marks if mark.encode() in content], path


@pytest.mark.parametrize("query", ["", "?code=a", "?state=%00&code=a", "?state=a&code=b&state=c", "?" + "x" * 20000])
def test_cgi_refuses_nonsense_through_the_web_server(desk: Desk, query: str) -> None:
    """4xx, whatever stands between; an unknown state is refused by notifyd with a page that says so."""
    answer = desk.context.request.get(f"{desk.gateway.address}/cgi-bin/msoauth2.cgi{query}")
    assert 400 <= answer.status < 500


def test_forged_state_changes_nothing(desk: Desk) -> None:
    """A code with a made-up state: a page with a remedy, and no token."""
    desk.apply()
    stranger = desk.context.new_page()
    stranger.goto(f"{desk.gateway.address}/cgi-bin/msoauth2.cgi?code=forged&state=forged")
    expect(stranger.get_by_role("heading")).to_be_visible()
    expect(stranger.locator("body")).to_contain_text("Get New Token")
    administrator.expect_status(desk.page, "Applied")
