"""Apply: what is kept, what is wiped, what is proved first, and what a refused Apply leaves as it was."""

from __future__ import annotations

import pytest

from tests.support.stack import SENDER, Stack

NEW_SECRET = "Sim8Q~second-secret-of-the-simulated-app_0002"


def new_secret_at_entra(stack: Stack, value: str = NEW_SECRET) -> None:
    """The administrator creates a second client secret in the portal."""
    stack.microsoft.control("POST", f"/apps/{stack.microsoft.ends['client_id']}/secrets", {"value": value})


def test_secrets_read_back_as_set_and_stay_when_left_out(stack: Stack) -> None:
    """Write-only: what is read back can be applied again and changes nothing."""
    stack.apply()
    view = stack.get("/api/v1/settings")
    assert view["client_secret"] == {"set": True}
    assert view["password"] == {"set": False}
    assert stack.microsoft.client_secret not in str(view)
    reply = stack.call("PUT", "/api/v1/settings", stack.settings(client_secret=None))
    assert reply.status == 200
    assert reply.document["client_secret"] == {"set": True}
    assert stack.sign_in()[1]["ok"] is True


def test_pasted_blanks_around_ids_are_trimmed(stack: Stack) -> None:
    """Copying from the portal brings blanks, no-break blanks and line ends along."""
    ends = stack.microsoft.ends
    stack.apply(
        client_id=f"\u00a0{ends['client_id']} \n", tenant_id=f"\t{ends['tenant_id']}\r\n", sender=f" {SENDER}\u200b",
        client_secret=f" {ends['client_secret']}\n",
    )  # fmt: skip
    view = stack.get("/api/v1/settings")
    assert (view["client_id"], view["tenant_id"], view["sender"]) == (ends["client_id"], ends["tenant_id"], SENDER)
    assert stack.sign_in()[1]["ok"] is True


def test_an_apply_over_a_newer_one_is_refused(stack: Stack) -> None:
    """ETag and If-Match: two administrators do not overwrite each other unknowingly; * is anything."""
    stack.apply()
    etag = stack.call("GET", "/api/v1/settings").headers["etag"]
    other = stack.call("PUT", "/api/v1/settings", stack.settings(port=2525), headers={"If-Match": etag})
    assert other.status == 200
    assert other.headers["etag"] != etag
    late = stack.call("PUT", "/api/v1/settings", stack.settings(port=25), headers={"If-Match": etag})
    assert late.status == 412
    assert stack.get("/api/v1/settings")["port"] == 2525
    assert stack.call("PUT", "/api/v1/settings", stack.settings(), headers={"If-Match": "*"}).status == 200


def test_a_new_secret_is_proved_by_a_renewal_and_keeps_the_grant(ready: Stack) -> None:
    """Rotation with nobody signing in: the new secret renews the token, then replaces the old one."""
    new_secret_at_entra(ready)
    before = ready.microsoft.token_requests()
    ready.apply(client_secret=NEW_SECRET)
    assert ready.microsoft.token_requests() > before
    status = ready.status()
    assert (status["state"], status["account"]) == ("Valid", SENDER)
    ready.stop()
    ready.start()
    reply = ready.call("POST", "/api/v1/token/refresh", {"force": True})
    assert (reply.document["state"], reply.document["problem"]) == ("Valid", None)
    assert ready.wait_mail(ready.send_test(), "sent", "failed")["state"] == "sent"


def test_a_wrong_new_secret_is_refused_by_field_and_the_old_one_works_on(ready: Stack) -> None:
    """Apply says what Microsoft said about it; nothing has changed, not even the other settings of that Apply."""
    before = ready.get("/api/v1/settings")
    reply = ready.call(
        "PUT", "/api/v1/settings", ready.settings(client_secret="Sim8Q~never-was-a-secret-of-this-app_9", port=2525)
    )
    assert reply.status == 422
    assert [error["pointer"] for error in reply.document["errors"]] == ["/client_secret"]
    assert reply.document["problem"]["code"] == "AADSTS7000215"
    assert ready.get("/api/v1/settings") == before
    assert "settings.secret_refused" in ready.event_names()
    reply = ready.call("POST", "/api/v1/token/refresh", {"force": True})
    assert (reply.document["state"], reply.document["problem"]) == ("Valid", None)


def test_a_secret_that_cannot_be_proved_now_is_not_taken(ready: Stack) -> None:
    """While Microsoft is away nobody knows whether the new secret works: the old one stays, and Apply says so."""
    ready.microsoft.order("token", "refuse", None)
    reply = ready.call("PUT", "/api/v1/settings", ready.settings(client_secret=NEW_SECRET))
    assert reply.status == 503
    assert "old one stays" in reply.document["detail"]
    assert ready.status()["state"] == "Valid"


@pytest.mark.parametrize("change", ["sender", "tenant_id", "client_id"])
def test_another_identity_wipes_the_grant(change: str, ready: Stack) -> None:
    """Sender, tenant or application changed: Applied, and the old tokens are overwritten on the disk."""
    value = {"sender": "alerts@contoso.example"}.get(change, "99999999-2222-4333-8444-555555555555")
    ready.apply(**{change: value})
    status = ready.status()
    assert (status["state"], status["account"]) == ("Applied", None)
    assert set((ready.data / "grant.slots").read_bytes()) == {0}
    assert "token.forgotten" in ready.event_names()


def test_what_does_not_touch_the_identity_keeps_the_grant(ready: Stack) -> None:
    """A day on which the secret ends, the same values again: Valid as before."""
    ready.apply(client_secret=None, secret_expires_on="2027-01-31")
    status = ready.status()
    assert (status["state"], status["secret_expires_on"]) == ("Valid", "2027-01-31")


def test_forgetting_the_token_leaves_the_settings(ready: Stack) -> None:
    """DELETE /token: Applied, nothing on the disk to sign in with, a new sign-in works at once."""
    reply = ready.call("DELETE", "/api/v1/token")
    assert reply.document["state"] == "Applied"
    assert set((ready.data / "grant.slots").read_bytes()) == {0}
    assert ready.get("/api/v1/settings")["applied"] is True
    ready.stop()
    ready.start()
    assert ready.status()["state"] == "Applied"
    assert ready.sign_in()[1]["ok"] is True


def test_redirect_uris_name_every_address_of_the_lan(stack: Stack) -> None:
    """Ready to copy, with the port that the page is served on; another one is refused."""
    uris = stack.get("/api/v1/redirect-uris")["redirect_uris"]
    assert "https://127.0.0.1:8443/cgi-bin/msoauth2.cgi" in uris
    stack.apply()
    reply = stack.call("POST", "/api/v1/token/authorize", {"redirect_uri": "https://evil.example/cgi-bin/msoauth2.cgi"})
    assert reply.status == 422
    assert reply.document["errors"][0]["pointer"] == "/redirect_uri"
