"""Log & Report: paging through a long log, export, the daily report and alerts as an administrator meets them."""

from __future__ import annotations

import csv
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from notifyd.adapters.event_ring import EventRing
from notifyd.core.eventlog import Level, Record
from qemu.workstation import administrator
from qemu.workstation.demo_once import free_port
from qemu.workstation.gateway import ADMIN, Gateway
from tests.www.conftest import OPERATOR, Desk

MANY = 99_000
PASSWORD = "only for this gateway"


def open_view(page: Page, name: str) -> None:
    page.get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("heading", level=1, name=name)).to_be_focused()


def mail_record(number: int) -> Record:
    level, event = (Level.INFO, "mail.sent") if number % 1000 else (Level.ERROR, "mail.failed")
    message = f"Mail n{number} sent to =1+1@contoso.example"
    return Record(number, time.time() - MANY + number, "a" * 32, level, "mail", event, message, {"n": number})


@pytest.fixture(scope="module")
def long_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose log is almost full: 99,000 records, one in a thousand an error."""
    home = tmp_path_factory.mktemp("long")
    (home / "data").mkdir()
    ring = EventRing(home / "data" / "events.db")
    for first in range(1, MANY + 1, 5000):
        ring.append([mail_record(number) for number in range(first, min(first + 5000, MANY + 1))])
    ring.close(next_id=MANY + 1)
    with Gateway(home / "etc", home / "data", home / "run", free_port(), PASSWORD) as gateway:
        yield gateway


@pytest.fixture
def log_page(long_log: Gateway, page: Page) -> Page:
    administrator.log_in(page, long_log.address, ADMIN, PASSWORD)
    open_view(page, "System log")
    expect(page.locator("#log-rows tr").first).to_be_visible()
    return page


def ids(page: Page) -> list[int]:
    return [
        int(value) for value in page.locator("#log-rows tr").evaluate_all("rows => rows.map(row => row.dataset.id)")
    ]


def test_a_hundred_thousand_records_are_paged_without_stalling(log_page: Page) -> None:
    """Back through the pages and forth again: no gap, no repetition, a bounded document, and each step is quick."""
    seen = ids(log_page)
    assert len(seen) == 200
    assert seen == sorted(seen, reverse=True)
    for _ in range(10):
        last = seen[-1]
        begin = time.monotonic()
        log_page.get_by_role("button", name="Older").click()
        expect(log_page.locator("#log-rows tr").first).to_have_attribute("data-id", str(last - 1))
        assert time.monotonic() - begin < 3
        shown = ids(log_page)
        assert len(shown) == 200
        seen += shown
    assert seen == list(range(seen[0], seen[0] - len(seen), -1)) or seen[0] > MANY
    assert log_page.evaluate("document.getElementsByTagName('*').length") < 4000
    log_page.get_by_role("button", name="Newer").click()
    expect(log_page.locator("#log-rows tr").first).to_have_attribute("data-id", str(seen[-400]))
    log_page.get_by_role("button", name="Newest").click()
    expect(log_page.get_by_role("button", name="Newer")).to_be_disabled()


def test_the_log_is_filtered_by_level_category_time_and_words(log_page: Page) -> None:
    """Each filter narrows what the server sends; nothing found is said."""
    log_page.get_by_label("Level").select_option("error")
    expect(log_page.locator("#log-rows tr")).to_have_count(99)
    log_page.get_by_label("Words").fill("n5000 sent")
    expect(log_page.locator("#log-rows tr")).to_have_count(1)
    log_page.get_by_label("Level").select_option("")
    log_page.get_by_label("Category").select_option("auth")
    expect(log_page.locator("#log-result")).to_have_text("No record matches.")
    log_page.get_by_label("Words").fill("")
    expect(log_page.locator("#log-rows tr").first).to_have_attribute("data-event", "auth.login")
    log_page.get_by_label("From").fill("2100-01-01T00:00:00")
    expect(log_page.locator("#log-rows tr")).to_have_count(0)


def test_what_matches_is_exported_whole(log_page: Page, tmp_path: Path) -> None:
    """CSV that a spreadsheet reads and does not compute, JSON that a program reads, of all pages."""
    log_page.get_by_label("Words").fill("n9")
    expect(log_page.locator("#log-rows tr").first).to_contain_text("n9")
    with log_page.expect_download() as download:
        log_page.get_by_role("button", name="Export CSV").click()
    download.value.save_as(tmp_path / "events.csv")
    with (tmp_path / "events.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1 + 10 + 100 + 1000 + 9001
    assert rows[0]["message"] == "Mail n9 sent to =1+1@contoso.example"
    with log_page.expect_download() as download:
        log_page.get_by_role("button", name="Export JSON").click()
    download.value.save_as(tmp_path / "events.json")
    records = json.loads((tmp_path / "events.json").read_text())
    assert [record["id"] for record in records] == [int(row["id"]) for row in rows]


def test_report_settings_previewed_and_sent(valid_desk: Desk, pictures: Path) -> None:
    """The administrator's way: fill in, Apply, Preview, Send Report Now, and the outcome with the server's reply."""
    page = valid_desk.page
    open_view(page, "Email Daily Report")
    view = page.locator("#report")
    view.get_by_label("Recipients").fill("nobody")
    view.get_by_role("button", name="Apply").click()
    expect(page.locator("#report-recipients-error")).to_contain_text("is not a mail address")
    expect(view.get_by_label("Recipients")).to_be_focused()
    view.get_by_label("Recipients").fill(OPERATOR)
    view.get_by_label("Send the report by itself").check()
    view.get_by_label("Time Zone").fill("Europe/Berlin")
    view.get_by_label("Time", exact=True).fill("06:45")
    view.get_by_label("Sun", exact=True).uncheck()
    view.get_by_role("button", name="Apply").click()
    expect(page.locator("#report-result")).to_have_text("Settings applied.")
    expect(page.locator("#report-next")).to_contain_text("Next report")
    view.get_by_role("button", name="Preview").click()
    preview = page.frame_locator("#report-frame")
    expect(preview.get_by_role("heading", name="Mail and token")).to_be_visible(timeout=30_000)
    style = preview.locator("td.head").evaluate("cell => getComputedStyle(cell).backgroundColor")
    assert style == "rgb(11, 92, 171)"
    page.screenshot(path=pictures / "report-settings.png", full_page=True)
    view.get_by_role("button", name="Send Report Now").click()
    result = page.locator("#report-progress")
    expect(result).to_contain_text(f"The report was sent to {OPERATOR}.", timeout=60_000)
    expect(result).to_contain_text("250")
    open_view(page, "System log")
    expect(page.locator("#log-rows tr[data-event='report.sent']")).to_have_count(1)


def test_alerts_are_set_and_mail_events_are_not_offered(desk: Desk) -> None:
    """The page offers no category that would make mail about mail."""
    page = desk.page
    open_view(page, "Email Alerts")
    view = page.locator("#alerts")
    boxes = page.locator("#alerts-categories input")
    expect(boxes.first).to_be_visible()
    assert not {"mail", "token", "report", "alert"} & set(boxes.evaluate_all("all => all.map(box => box.value)"))
    view.get_by_label("Tell of events by mail").check()
    view.get_by_label("Recipients").fill(OPERATOR)
    view.get_by_label("Minutes").fill("30")
    view.get_by_role("button", name="Apply").click()
    expect(page.locator("#alerts-result")).to_have_text("Settings applied.")
    page.reload()
    expect(view.get_by_label("Minutes")).to_have_value(re.compile("30"))
