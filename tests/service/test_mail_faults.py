"""What a mail server that refuses, throttles, breaks off or lies does to mail: each case on a notifyd of its own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.stack import Stack

MAIL = {"to": "ops@contoso.example", "subject": "WAN 1 is down", "text": "since 12:00"}


def send(stack: Stack, **changes: Any) -> str:
    reply = stack.call("POST", "/api/v1/mail", {**MAIL, **changes})
    assert reply.status == 202, reply
    mail_id: str = reply.document["id"]
    return mail_id


def test_mail_waits_before_there_is_a_token_and_flows_after(stack: Stack) -> None:
    """Accepted before Apply, held with the reason, sent once signed in; nothing is lost, alerts go first."""
    ids = [send(stack, priority=priority) for priority in ("bulk", "report", "alert")]
    held = stack.get(f"/api/v1/mail/{ids[0]}")
    assert held["state"] == "held"
    assert held["waiting_for"]["code"]
    assert stack.status()["queue"]["held"] == 3
    stack.become_valid()
    for mail_id in ids:
        assert stack.wait_mail(mail_id, "sent", "failed")["state"] == "sent"
    order = [record["fields"]["mail_id"] for record in stack.events() if record["event"] == "mail.sent"]
    assert order == ids[::-1]


# name: (target, order, parameters, how the code of the problem begins)
HOLDING: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "tenant-off": ("smtp", "tenant-off", {}, "smtp.535-5.7.139"),
    "mailbox-off": ("smtp", "mailbox-off", {}, "smtp.535-5.7.139"),
    "token-refused": ("smtp", "auth-failed", {}, "smtp.535-5.7.3"),
    "send-as-denied": ("smtp", "send-as-denied", {}, "smtp.554-5.2.252"),
    "starttls-stripped": ("smtp", "strip-starttls", {}, "tls.starttls-missing"),
    "certificate-untrusted": ("tls", "untrusted", {"part": "smtp"}, "tls."),
    "certificate-of-another": ("tls", "wrong-name", {"part": "smtp"}, "tls."),
    "certificate-expired": ("tls", "expired", {"part": "smtp"}, "clock.wrong"),  # the two look alike from here
    "connections": ("smtp", "connections", {}, "smtp.432-4.3.2"),
    "not-active": ("smtp", "not-active", {}, "smtp.421"),
    "busy": ("smtp", "server-busy", {}, "smtp.451-4.7.500"),
    "dropped": ("smtp", "drop", {"stage": "data"}, "network."),
    "reset": ("smtp", "reset", {"stage": "ehlo"}, "network."),
}


@pytest.mark.parametrize("name", HOLDING)
def test_a_message_waits_with_its_reason_and_is_not_lost(name: str, ready: Stack) -> None:
    """Whatever the server does, the accepted message is still there, its reason is named, and the token stays Valid."""
    target, what, parameters, code = HOLDING[name]
    stack = ready
    stack.microsoft.order(target, what, None, **parameters)
    mail_id = send(stack)
    mail = stack.wait(
        lambda: stack.get(f"/api/v1/mail/{mail_id}"),
        lambda seen: seen["state"] == "failed" or (seen["waiting_for"] is not None),
        "a message that waits with a reason",
    )
    assert mail["state"] in ("held", "deferred", "ready"), mail
    assert mail["waiting_for"]["code"].startswith(code), mail["waiting_for"]
    assert mail["waiting_for"]["remedy"]
    assert stack.microsoft.mail() == []
    assert stack.status()["state"] == "Valid"
    names = stack.event_names()
    assert "mail.held" in names or "mail.deferred" in names


def test_a_switch_at_exchange_that_is_turned_on_again_lets_mail_flow(ready: Stack) -> None:
    """535 5.7.139: can_send is false and says why; after the remedy Refresh Token Status lets the held mail out."""
    stack = ready
    stack.microsoft.order("smtp", "tenant-off", None)
    mail_id = send(stack)
    status = stack.wait_status(lambda seen: not seen["can_send"], "can_send false")
    assert status["state"] == "Valid"
    assert status["problem"]["code"].startswith("smtp.535-5.7.139")
    stack.microsoft.withdraw_orders()
    reply = stack.call("POST", "/api/v1/token/refresh", {})
    assert reply.document["can_send"] is True, reply.document
    assert stack.wait_mail(mail_id, "sent", "failed")["state"] == "sent"


def test_the_sign_in_itself_finds_that_exchange_refuses(stack: Stack) -> None:
    """The probe after the sign-in: Valid, can_send false, and the tab says both."""
    stack.apply()
    visit = stack.visit()
    stack.microsoft.order("smtp", "mailbox-off", None)
    status, answer = stack.callback(visit.params)
    assert (status, answer["ok"]) == (200, True)
    assert answer["code"].startswith("smtp.535-5.7.139")
    seen = stack.status()
    assert (seen["state"], seen["can_send"]) == ("Valid", False)
    assert seen["problem"]["code"].startswith("smtp.535-5.7.139")


def test_accepted_mail_survives_a_kill(stack: Stack) -> None:
    """202, then kill -9 at once: after the restart the message is there, and is sent when there is a token."""
    ids = [send(stack) for _ in range(3)]
    stack.kill()
    stack.start()
    assert {mail["id"] for mail in stack.get("/api/v1/mail")["messages"]} == set(ids)
    stack.become_valid()
    for mail_id in ids:
        assert stack.wait_mail(mail_id, "sent", "failed")["state"] == "sent"
