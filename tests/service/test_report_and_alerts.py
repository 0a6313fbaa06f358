"""The daily report, alerts by mail and the event log through the whole service."""

from __future__ import annotations

import email
import email.policy
import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from notifyd.core.report_settings import ReportSettings
from tests.support.stack import OPERATOR, Microsoft, Stack, running_stack


@pytest.fixture(autouse=True)
def empty_mailbox(valid: Stack) -> None:
    valid.microsoft.tidy()


def put(stack: Stack, path: str, **body: Any) -> Any:
    reply = stack.call("PUT", path, body)
    assert reply.status == 200, reply
    return reply.document


def arrived(stack: Stack) -> EmailMessage:
    messages = stack.wait(stack.microsoft.mail, bool, "a mail")
    parsed = email.message_from_string(messages[-1]["raw"], policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    return parsed


def test_report_settings_are_kept_and_checked_by_field(valid: Stack) -> None:
    """What is left out stays, what is wrong is named, nothing changes then; the next moment is told."""
    before = valid.get("/api/v1/report/settings")
    assert before["enabled"] is False
    refused = valid.call(
        "PUT", "/api/v1/report/settings",
        {"time": "25:00", "recipients": ["nobody"], "time_zone": "Mars/Olympus", "weekdays": [], "colour": 1},
    )  # fmt: skip
    assert refused.status == 422
    refused = valid.call(
        "PUT",
        "/api/v1/report/settings",
        {"time": "25:00", "recipients": ["nobody"], "time_zone": "Mars/X", "weekdays": []},
    )
    assert {error["pointer"] for error in refused.document["errors"]} == {
        "/time", "/recipients", "/time_zone", "/weekdays",
    }  # fmt: skip
    assert valid.get("/api/v1/report/settings") == before
    assert valid.call("PUT", "/api/v1/report/settings", {"enabled": True, "recipients": []}).status == 422
    now = put(
        valid, "/api/v1/report/settings", enabled=True, recipients=[OPERATOR], time="6:30", time_zone="Asia/Tokyo"
    )
    assert now["time"] == "06:30"
    assert now["next_at"] > time.time()
    assert now["next_at"] % 86_400 == (6.5 - 9) % 24 * 3600
    off = put(valid, "/api/v1/report/settings", enabled=False)
    assert (off["next_at"], off["recipients"]) == (None, [OPERATOR])


def test_send_report_now(valid: Stack) -> None:
    """The report arrives with text, HTML, pictures and attachments; progress and outcome can be followed by its id."""
    put(
        valid, "/api/v1/report/settings", recipients=[OPERATOR], subject="%hostname report 100%% %date",
        attach_csv=True, attach_events=True,
    )  # fmt: skip
    reply = valid.call("POST", "/api/v1/report/send", {})
    assert reply.status == 202, reply
    mail_id = reply.document["id"]
    progress = valid.get("/api/v1/report/progress")
    assert (progress["step"], progress["mail_id"], progress["error"]) == ("queued", mail_id, None)
    sent = valid.wait_mail(mail_id, "sent", "failed")
    assert (sent["state"], sent["kind"]) == ("sent", "report")
    assert "250" in sent["outcome"]["reply"]
    message = arrived(valid)
    assert " report 100% 20" in message["subject"]
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert html is not None
    assert "MAIL AND TOKEN" in text.get_content()
    assert "Valid" in html.get_content()
    names = {part.get_filename() for part in message.walk() if part.get_filename()}
    assert {name.split("-")[0] for name in names if name.endswith(".csv")} == {"report", "events"}
    for cid in set(html.get_content().split("cid:")[1:]):
        assert any(part["Content-ID"] == f"<{cid.split(chr(34))[0]}>" for part in message.walk())
    (record,) = valid.wait(lambda: valid.events(event="report.sent"), bool, "report.sent")
    assert record["fields"]["mail_id"] == mail_id
    assert record["fields"]["by"] == "local"


def test_a_report_for_nobody_is_refused_and_one_address_can_be_given(valid: Stack) -> None:
    """Without recipients 409; a single address in the call is enough."""
    put(valid, "/api/v1/report/settings", enabled=False, recipients=[])
    reply = valid.call("POST", "/api/v1/report/send", {})
    assert reply.status == 409
    assert reply.document["type"] == "urn:notifyd:problem:no-recipients"
    reply = valid.call("POST", "/api/v1/report/send", {"to": OPERATOR})
    assert valid.wait_mail(reply.document["id"], "sent")["to"] == [OPERATOR]


def test_the_preview_stands_alone_and_may_not_run_scripts(valid: Stack) -> None:
    """HTML with its images inside and a policy without scripts; as JSON with subject and text on request."""
    reply = valid.call("GET", "/api/v1/report/preview", headers={"Accept": "text/html"})
    assert reply.status == 200
    assert reply.document.startswith(b"<!DOCTYPE html>")
    assert b"cid:" not in reply.document
    assert "script-src" not in reply.headers["content-security-policy"]
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    made = valid.call("GET", "/api/v1/report/preview", headers={"Accept": "application/json"}).document
    assert set(made) == {"subject", "html", "text"}
    assert valid.microsoft.mail() == []


def test_a_report_that_cannot_be_made_is_an_event(valid: Stack, tmp_path: Path) -> None:
    """When its program fails, the caller gets the reason, and so does the log."""
    (valid.run / "report.sock").write_text("not a socket")
    try:
        reply = valid.call("POST", "/api/v1/report/send", {"to": OPERATOR})
    finally:
        (valid.run / "report.sock").unlink()
    assert reply.status == 503
    assert valid.events(event="report.failed")[-1]["fields"]["by"] == "local"
    assert valid.get("/api/v1/report/progress")["step"] == "failed"


@pytest.fixture
def late(valid: Stack, microsoft: Microsoft, tmp_path: Path) -> Iterator[Stack]:
    """A gateway whose report of today and of the two days before is overdue when it starts."""
    valid.stop()
    shutil.copytree(valid.data, tmp_path / "data")
    valid.start()
    settings = ReportSettings(enabled=True, recipients=(OPERATOR,), time="00:00", time_zone="UTC").as_json()
    done = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 3 * 86_400))
    with sqlite3.connect(tmp_path / "data" / "notifyd.db") as db:
        document = json.dumps({"settings": settings, "since": 0.0, "done": done})
        db.execute("INSERT OR REPLACE INTO documents VALUES ('report', ?)", (document,))
    db.close()
    with running_stack(tmp_path, microsoft) as stack:
        yield stack


def test_missed_days_are_made_up_for_once(late: Stack) -> None:
    """Off for three days: one report that says so, also over a restart."""
    message = arrived(late)
    text = message.get_body(("plain",))
    assert text is not None
    assert "2 earlier reports were missed" in text.get_content()
    assert late.events(event="report.skipped")[-1]["fields"]["days"] == 2
    late.wait(lambda: late.events(event="report.sent"), bool, "report.sent")
    assert late.events(event="report.sent")[-1]["fields"]["by"] == "schedule"
    late.wait(lambda: (late.data / "report" / "samples.json").exists(), bool, "the hour's figures")
    late.kill()
    late.start()
    assert late.get("/api/v1/report/settings")["next_at"] > time.time()
    late.wait(lambda: late.events(event="service.started"), lambda found: len(found) >= 2, "the second start")
    assert len(late.microsoft.mail()) == 1


def test_a_storm_of_events_makes_one_alert_and_mail_trouble_none(valid: Stack) -> None:
    """Thirty failed callbacks are one mail; a mail that fails is none, since events about mail are never mailed."""
    refused = valid.call(
        "PUT", "/api/v1/alerts/settings", {"enabled": True, "recipients": [OPERATOR], "categories": ["mail"]}
    )
    assert refused.status == 422
    put(
        valid,
        "/api/v1/alerts/settings",
        enabled=True,
        recipients=[OPERATOR],
        level="warning",
        categories=[],
        interval_min=1,
    )
    for _ in range(30):
        valid.callback({"state": "A" * 43, "code": "x"})
    valid.microsoft.order("smtp", "unknown-recipient", 1, address="nobody@contoso.example")
    reply = valid.call("POST", "/api/v1/mail", {"to": "nobody@contoso.example", "subject": "x", "text": "y"})
    valid.wait_mail(reply.document["id"], "failed", "sent", "deferred")
    valid.microsoft.withdraw_orders()
    message = valid.wait(
        lambda: [mail for mail in valid.microsoft.mail() if "30 events" in mail["raw"]],
        bool,
        "the digest",
        deadline_s=60,
    )
    assert len(message) == 1
    assert "signin.refused" in message[0]["raw"]
    assert "mail.failed" not in message[0]["raw"]
    put(valid, "/api/v1/alerts/settings", enabled=False)


def test_events_are_paged_in_both_directions_and_filtered(valid: Stack) -> None:
    """Newest first pages by `before`, oldest by `after`; every filter narrows; an answer is in the order of ids."""
    everything = valid.events()
    newest = valid.get("/api/v1/events?limit=5")["events"]
    assert [record["id"] for record in newest] == [record["id"] for record in everything][-5:]
    page = valid.get(f"/api/v1/events?limit=5&before={newest[0]['id']}")["events"]
    assert [record["id"] for record in page] == [record["id"] for record in everything][-10:-5]
    assert {record["category"] for record in valid.events(category="token")} == {"token"}
    assert all("notifyd" in record["message"] for record in valid.events(text="NOTIFYD"))
    assert valid.events(since=int(time.time()) + 1000) == []
    assert valid.call("GET", "/api/v1/events?level=loud").status == 422
