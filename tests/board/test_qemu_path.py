"""The administrator's whole path on the board: from the LAN to a mail that Microsoft accepts on the WAN."""

from __future__ import annotations

import pytest

from tests.board.conftest import Journal, Lab

pytestmark = pytest.mark.qemu

OPERATOR = "ops@contoso.example"


def test_from_the_page_to_a_delivered_mail(ready: Lab) -> None:
    """Log in, Apply, Get New Token, Valid, test mail accepted by Exchange, and the lines in the log."""
    ready.microsoft.control("POST", "/reset")
    person = ready.administrator()
    assert "<title>" in person.http.get(f"{person.origin}/").text
    person.log_in()
    person.apply()
    page = person.get_new_token()
    assert page.status_code == 200, page.text
    assert "<h1>" in page.text
    status = person.status()
    assert (status["state"], status["can_send"]) == ("Valid", True), status
    sent = person.call("POST", "/api/v1/mail/test", {"to": OPERATOR})
    assert sent.status_code == 202, sent.text
    path = f"/api/v1/mail/{sent.json()['id']}"
    mail = ready.wait(
        lambda: person.call("GET", path).json(), lambda m: m["state"] in ("sent", "failed"), "the test mail"
    )
    assert mail["state"] == "sent", mail
    assert [message for message in ready.microsoft.mail() if OPERATOR in str(message)]
    told = {record.get("MESSAGE", "") for record in ready.unit.journal("-u", "notifyd.service")}
    names = {record["event"] for record in ready.unit.events()}
    assert {"token.retrieved", "mail.sent", "settings.applied", "signin.started"} <= names
    assert any("token" in line.lower() for line in told), told


def test_the_page_needs_a_login_and_locks_out(ready: Lab, journal: Journal) -> None:
    """Without a session nothing is told; five wrong passwords lock the name, checked by the board's own PAM."""
    journal.allow(r"pam_(pwdfile|faillock)\(notifyd:auth\)")
    person = ready.administrator()
    assert person.call("GET", "/api/v1/status").status_code == 401
    answers = [person.call("POST", "/api/v1/session", {"user": "admin", "password": f"wrong-{n}"}) for n in range(6)]
    assert {answer.status_code for answer in answers} <= {401, 403, 429}
    assert answers[-1].status_code == 429 or "locked" in answers[-1].text, answers[-1].text
    right = person.call("POST", "/api/v1/session", {"user": "admin", "password": "gateway-lab-1"})
    assert right.status_code != 200, right.text


def test_malformed_redirects_get_a_page_and_nothing_else(ready: Lab) -> None:
    """The CGI behind its socket answers nonsense with 4xx and echoes nothing; the next request is served as before."""
    person = ready.administrator()
    for query in (
        "",
        "?state=a&state=b&code=c",
        "?code=%zz&state=x",
        "?state=<script>&code=x",
        "?state=forged&code=c0de",
    ):
        answer = person.http.get(f"{person.redirect_uri}{query}", timeout=120)
        assert 400 <= answer.status_code < 500, (query, answer.status_code, answer.text)
        assert "<script>" not in answer.text
    assert ready.unit.show("msoauth2.socket", "ActiveState")["ActiveState"] == "active"
