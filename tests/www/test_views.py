"""Queue, check and log: what an administrator needs when mail does not leave."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from playwright.sync_api import expect

from tests.www.conftest import OPERATOR, OUTAGE, Desk

CHECK_DEADLINE_MS = 90_000


def open_view(desk: Desk, name: str) -> None:
    desk.page.get_by_role("link", name=name, exact=True).click()
    expect(desk.page.get_by_role("heading", level=1, name=name)).to_be_focused()


def submit(desk: Desk, subject: str) -> None:
    reply = desk.local("POST", "/api/v1/mail", {"to": [OPERATOR], "subject": subject, "text": "x", "priority": "alert"})
    assert reply.status == 202


def test_queue_shows_why_a_message_waits_and_lets_it_be_deleted(desk: Desk) -> None:
    """A message that has no token to go with is shown with the reason; Delete asks first."""
    desk.apply()
    submit(desk, "WAN link down")
    open_view(desk, "Mail Queue")
    row = desk.page.locator("#queue-rows tr", has_text="WAN link down")
    expect(row).to_contain_text(OPERATOR)
    expect(row).to_contain_text(re.compile("Held|Ready|Waiting"))
    desk.page.once("dialog", lambda dialog: dialog.accept())
    row.get_by_role("button", name="Delete: WAN link down").click()
    expect(desk.page.locator("#queue-result")).to_have_text("Deleted.")
    expect(row).to_have_count(0)


def test_queue_follows_new_mail_by_itself(desk: Desk) -> None:
    """A message that arrives while the view is open appears in it."""
    desk.apply()
    open_view(desk, "Mail Queue")
    submit(desk, "Fan failed")
    expect(desk.page.locator("#queue-rows")).to_contain_text("Fan failed")


def test_hold_and_release(valid_desk: Desk) -> None:
    """Held mail stays until it is let go, and then arrives."""
    open_view(valid_desk, "Mail Queue")
    page = valid_desk.page
    page.get_by_role("button", name="Hold all mail").click()
    expect(page.locator("#queue-counts")).to_contain_text("held by an administrator")
    submit(valid_desk, "While held")
    expect(page.locator("#queue-rows tr", has_text="While held")).to_contain_text(re.compile("Held|Ready"))
    assert valid_desk.microsoft("GET", "/mail")["messages"] == []
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#queue-rows tr", has_text="While held")).to_contain_text("Sent", timeout=30_000)


def test_check_names_every_step(valid_desk: Desk) -> None:
    """From DNS to the sender, each with a verdict."""
    open_view(valid_desk, "Check")
    valid_desk.page.get_by_role("button", name="Run the check").click()
    steps = valid_desk.page.locator("#check-steps li")
    expect(steps.first).to_be_visible(timeout=CHECK_DEADLINE_MS)
    assert steps.count() >= 5
    for verdict in steps.locator(".badge").all_inner_texts():
        assert re.search("OK|Warning|Failed|Skipped", verdict)


def test_log_is_live_and_can_be_searched(desk: Desk) -> None:
    """A new record appears by itself, on top; words narrow the list, and what they leave out stays out."""
    page = desk.page
    open_view(desk, "System log")
    expect(page.locator("#log-live")).to_contain_text("by themselves")
    desk.apply_elsewhere()
    rows = page.locator("#log-rows tr")
    expect(rows.first).to_have_attribute("data-event", re.compile("settings|token"))
    page.get_by_label("Words").fill("logged in")
    expect(page.locator("#log-rows tr:not([data-event='auth.login'])")).to_have_count(0)
    expect(rows.first).to_contain_text("logged in")


def test_secret_that_ends_soon_is_announced(desk: Desk) -> None:
    """Within thirty days a banner says when, and what to do, on every view."""
    desk.apply()
    page = desk.page
    page.get_by_label("Client Secret Expires On").fill((datetime.now(UTC).date() + timedelta(days=12)).isoformat())
    page.get_by_role("button", name="Apply").click()
    banner = page.locator("#banners")
    expect(banner).to_contain_text(re.compile("expires in 1[12] days"))
    open_view(desk, "Check")
    expect(banner).to_be_visible()
    open_view(desk, "Mail Server")
    page.get_by_label("Client Secret Expires On").fill("")
    page.get_by_role("button", name="Apply").click()
    expect(banner).not_to_contain_text("expires in")


def test_lost_service_is_announced_and_comes_back(desk: Desk, tolerated: list[str]) -> None:
    """notifyd is killed: the page says so by itself, and recovers when it is back."""
    tolerated += OUTAGE
    page = desk.page
    desk.apply()
    desk.gateway.notifyd.kill()
    expect(page.locator("#banners")).to_contain_text("does not answer")
    desk.gateway.start_notifyd()
    expect(page.locator("#login")).to_be_visible(timeout=30_000)
    expect(page.locator("#login-notice")).to_contain_text("session ended")
    desk.log_in()
    expect(page.locator("#banners")).not_to_contain_text("does not answer")
