"""Mail through the whole service while the mail server works: one notifyd with a grant serves all tests."""

from __future__ import annotations

import concurrent.futures
from typing import Any

from tests.support.stack import OPERATOR, Stack

MAIL = {"to": OPERATOR, "subject": "WAN 1 is down", "text": "since 12:00"}


def send(stack: Stack, mail: dict[str, Any] | None = None, **headers: str) -> str:
    reply = stack.call("POST", "/api/v1/mail", mail or MAIL, headers=headers)
    assert reply.status == 202, reply
    mail_id: str = reply.document["id"]
    return mail_id


def test_a_message_reaches_every_recipient_as_it_was_given(valid: Stack) -> None:
    """JSON in, one MIME message out: text, HTML, attachment, Cc in the head, Bcc in the envelope only."""
    valid.microsoft.control("DELETE", "/mail")
    mail_id = send(
        valid,
        {
            "to": [OPERATOR, "Zweite Person <second@contoso.example>"],
            "cc": "third@contoso.example",
            "bcc": ["hidden@contoso.example"],
            "subject": "Grüße vom Gateway",
            "text": "schön",
            "html": "<p>schön</p>",
            "attachments": [{"filename": "a.txt", "content_type": "text/plain", "content_base64": "aGFsbG8="}],
            "priority": "bulk",
        },
    )
    assert valid.wait_mail(mail_id, "sent", "failed")["state"] == "sent"
    (message,) = valid.microsoft.mail()
    raw = message["raw"]
    assert "hidden@" not in raw.split("\n\n")[0].split("\r\n\r\n")[0]
    assert "hidden@contoso.example" in str(message)


def test_a_finished_message_is_taken_as_it_is(valid: Stack) -> None:
    """message/rfc822, as sendmail hands it in: recipients from the head, Bcc removed."""
    raw = b"To: ops@contoso.example\r\nBcc: hidden@contoso.example\r\nSubject: from cron\r\n\r\nhello\r\n"
    reply = valid.call("POST", "/api/v1/mail?priority=alert", raw, media_type="message/rfc822")
    assert reply.status == 202
    mail = valid.wait_mail(reply.document["id"], "sent", "failed")
    assert mail["state"] == "sent"
    assert (mail["subject"], mail["priority"]) == ("from cron", "alert")
    assert set(mail["to"]) == {"ops@contoso.example", "hidden@contoso.example"}


def test_the_same_idempotency_key_means_the_same_message(valid: Stack) -> None:
    """Sent again with its key a message is accepted once; the key with other words is refused."""
    first = send(valid, **{"Idempotency-Key": "backup-42"})
    assert send(valid, **{"Idempotency-Key": "backup-42"}) == first
    assert send(valid, {**MAIL, "idempotency_key": "backup-42"}) == first
    other = valid.call("POST", "/api/v1/mail", {**MAIL, "subject": "x"}, headers={"Idempotency-Key": "backup-42"})
    assert other.status == 422
    assert valid.wait_mail(first, "sent")["attempts"] == 1


def test_hold_and_release_by_an_administrator(valid: Stack) -> None:
    """Held mail waits and says so; a released queue flows; a single waiting message can be deleted."""
    assert valid.call("POST", "/api/v1/mail/hold").document == {"paused": True}
    keep, drop = send(valid), send(valid)
    assert valid.get(f"/api/v1/mail/{keep}")["state"] == "held"
    status = valid.status()
    assert (status["can_send"], status["queue"]["paused"]) == (False, True)
    assert [mail["id"] for mail in valid.get("/api/v1/mail?state=held")["messages"]] == [drop, keep]
    assert valid.call("DELETE", f"/api/v1/mail/{drop}").status == 204
    assert valid.call("GET", f"/api/v1/mail/{drop}").status == 404
    assert valid.call("POST", "/api/v1/mail/release").document == {"paused": False}
    assert valid.wait_mail(keep, "sent", "failed")["state"] == "sent"
    assert valid.status()["can_send"] is True


def test_an_unknown_recipient_fails_that_message_only(valid: Stack) -> None:
    """550 5.1.1 for one address: the others get it, the outcome names each, the queue goes on."""
    valid.microsoft.order("smtp", "unknown-recipient", 1, address="nobody@contoso.example")
    mail_id = send(valid, {**MAIL, "to": [OPERATOR, "nobody@contoso.example"]})
    mail = valid.wait_mail(mail_id, "sent", "failed")
    outcome = {item["address"]: item["state"] for item in mail["outcome"]["per_recipient"]}
    assert outcome == {OPERATOR: "delivered", "nobody@contoso.example": "refused"}
    assert valid.wait_mail(send(valid), "sent", "failed")["state"] == "sent"


def test_many_callers_at_once_lose_nothing(valid: Stack) -> None:
    """Forty messages from eight callers at the same time: forty different ids, all accepted."""
    valid.call("POST", "/api/v1/mail/hold")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda number: send(valid, {**MAIL, "subject": f"n {number}"}), range(40)))
    assert len(set(ids)) == 40
    listed = {mail["id"] for mail in valid.get("/api/v1/mail?state=held&limit=1000")["messages"]}
    assert set(ids) <= listed
    for mail_id in ids:
        assert valid.call("DELETE", f"/api/v1/mail/{mail_id}").status == 204
    valid.call("POST", "/api/v1/mail/release")
