"""Certificates for Entra through the API: a credential that needs no copied secret and rolls over without a sign-in."""

from __future__ import annotations

from tests.support.stack import Stack

CERTIFICATES = "/api/v1/certificates"


def test_certificate_replaces_the_client_secret(stack: Stack) -> None:
    """Made, uploaded, the secret withdrawn in Entra: the token still renews, now and after a restart."""
    stack.apply()
    stack.become_valid()
    made = stack.call("POST", CERTIFICATES)
    assert made.status == 201, made
    client_id = stack.settings()["client_id"]
    stack.microsoft.control("POST", f"/apps/{client_id}/certificates", {"pem": made.document["certificate_pem"]})
    stack.microsoft.control("DELETE", f"/apps/{client_id}/secrets/first")
    try:
        for _ in range(2):
            status = stack.call("POST", "/api/v1/token/refresh", {"force": True}).document
            assert (status["state"], status["problem"]) == ("Valid", None)
            stack.stop()
            stack.start()
    finally:  # the simulator is shared: other tests need the secret
        stack.microsoft.control("POST", f"/apps/{client_id}/secrets", {"value": stack.microsoft.client_secret})
    assert stack.get(CERTIFICATES)["certificates"] == [made.document]


def test_private_key_is_never_shown(stack: Stack) -> None:
    """Neither the answer nor any file has it in clear; before Apply there is nothing to make one for."""
    assert stack.call("POST", CERTIFICATES).status == 409
    stack.apply()
    for _ in range(3):
        assert stack.call("POST", CERTIFICATES).status == 201
    shown = stack.get(CERTIFICATES)["certificates"]
    assert len(shown) == 2
    assert "PRIVATE" not in str(shown)
    for file in stack.data.iterdir():
        assert b"PRIVATE KEY" not in file.read_bytes(), file.name


def test_another_application_is_not_offered_the_certificate(stack: Stack) -> None:
    """Its key went with the secrets of the application it was made for."""
    stack.apply()
    assert stack.call("POST", CERTIFICATES).status == 201
    stack.apply(client_id="77777777-7777-4888-9999-aaaaaaaaaaaa")
    assert stack.get(CERTIFICATES)["certificates"] == []
