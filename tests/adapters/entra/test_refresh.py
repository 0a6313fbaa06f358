"""Renewal through the worker's operations: what is kept, what is tried, what is told."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import pytest

from notifyd.adapters.entra_worker.grants import Grant, decode, encode
from notifyd.core.events import Failure, FailureKind
from qemu.m365.simulator import ThreadedSimulator
from tests.adapters.entra.conftest import SENDER, Device


@pytest.fixture
def sealed(signed_in: dict[str, Any]) -> bytes:
    """A sealed grant."""
    return b64decode(signed_in["sealed"])


def _ok(result: dict[str, Any] | Failure) -> dict[str, Any]:
    assert isinstance(result, dict), result
    return result


def test_rotated_token_is_kept_with_the_one_before(device: Device, sealed: bytes) -> None:
    """After a renewal the new refresh token is current, and the one it was got with is the fall-back."""
    before = device.grant(sealed)
    renewed = _ok(device.refresh(sealed))
    after = device.grant(renewed["sealed"])
    assert after.refresh_token != before.refresh_token
    assert after.previous_refresh_token == before.refresh_token
    assert after.access_token == renewed["access_token"] != before.access_token
    assert renewed["account"] == SENDER


def test_fallback_lasts_until_the_new_token_has_worked(device: Device, sealed: bytes) -> None:
    """The second renewal drops the first token: the second has worked by then."""
    first = device.grant(sealed).refresh_token
    second = _ok(device.refresh(sealed))
    third = device.grant(_ok(device.refresh(b64decode(second["sealed"])))["sealed"])
    assert first not in (third.refresh_token, third.previous_refresh_token)


def test_answer_without_refresh_token_keeps_the_old_one(sim: ThreadedSimulator, device: Device, sealed: bytes) -> None:
    """An absent refresh token means: go on with what you have."""
    sim.order("token", "no-refresh-token")
    renewed = _ok(device.refresh(sealed))
    assert device.grant(renewed["sealed"]).refresh_token == device.grant(sealed).refresh_token
    assert renewed["has_refresh_token"] is True


def test_previous_token_is_tried_when_the_current_is_refused(
    sim: ThreadedSimulator, device: Device, sealed: bytes
) -> None:
    """A current token that Entra does not know costs one request; the previous one renews the grant."""
    renewed = b64decode(_ok(device.refresh(sealed))["sealed"])
    lost = device.grant(renewed)
    del sim.world.directory.refresh_tokens[lost.refresh_token]
    again = _ok(device.refresh(renewed))
    assert device.grant(again["sealed"]).refresh_token not in (lost.refresh_token, lost.previous_refresh_token)
    assert device.grant(again["sealed"]).previous_refresh_token == lost.previous_refresh_token


def test_refusal_of_both_tokens_is_told_and_changes_nothing(
    sim: ThreadedSimulator, device: Device, sealed: bytes
) -> None:
    """A revoked grant is invalid_grant with its number; the stored grant is not touched by the worker."""
    renewed = b64decode(_ok(device.refresh(sealed))["sealed"])
    sim.world.directory.revoke(sim.world.directory.users[SENDER])
    failure = device.refresh(renewed)
    assert isinstance(failure, Failure)
    assert (failure.status, failure.error, failure.codes) == (400, "invalid_grant", (50173,))
    assert device.grant(renewed).refresh_token


def test_refused_client_is_asked_once(sim: ThreadedSimulator, device: Device, sealed: bytes) -> None:
    """A wrong secret is not tried again with the previous refresh token: the client is refused, not the grant."""
    renewed = b64decode(_ok(device.refresh(sealed))["sealed"])
    device.secrets = device.seal(client_secret="wrong")
    before = sim.world.log.counts["token"]
    failure = device.refresh(renewed)
    assert isinstance(failure, Failure)
    assert failure.error == "invalid_client"
    assert sim.world.log.counts["token"] == before + 1


def test_conditional_access_challenge_is_handed_up(sim: ThreadedSimulator, device: Device, sealed: bytes) -> None:
    """`claims` and `suberror` of a refusal are not lost."""
    sim.order("token", "aadsts", code=50076, times=None, suberror="basic_action")
    failure = device.refresh(sealed)
    assert isinstance(failure, Failure)
    assert "polids" in failure.claims
    assert failure.suberror == "basic_action"
    assert failure.codes == (50076,)


@pytest.mark.parametrize("code", [90033, 90055])
def test_code_of_a_server_error_is_kept(sim: ThreadedSimulator, device: Device, sealed: bytes, code: int) -> None:
    """MSAL loses the body of a 5xx; the worker does not."""
    sim.order("token", "aadsts", code=code, status=503, retry_after=17)
    failure = device.refresh(sealed)
    assert isinstance(failure, Failure)
    assert (failure.status, failure.codes, failure.retry_after_s) == (503, (code,), 17.0)


@pytest.mark.parametrize(("status", "retry_after"), [(429, "60"), (503, "7"), (500, None), (408, None), (425, None)])
def test_status_without_json_still_says_what_to_do(
    sim: ThreadedSimulator, device: Device, sealed: bytes, status: int, retry_after: str | None
) -> None:
    """A proxy's bare 503 or 429 is an HTTP failure with its Retry-After."""
    header = {"retry_after": retry_after} if retry_after else {}
    sim.order("token", "http", status=status, body="<html>no</html>", **header)
    failure = device.refresh(sealed)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.status) == (FailureKind.HTTP, status)
    assert failure.retry_after_s == (float(retry_after) if retry_after else None)


def test_refusal_is_not_remembered(sim: ThreadedSimulator, device: Device, sealed: bytes) -> None:
    """MSAL keeps a 400 for a minute; here what was fixed in the portal works at the next press of the button."""
    sim.order("token", "aadsts", code=65001)
    assert isinstance(device.refresh(sealed), Failure)
    _ok(device.refresh(sealed))


def test_renewal_never_becomes_somebody_elses_token(sim: ThreadedSimulator, device: Device, sealed: bytes) -> None:
    """An id_token of another account in a renewal is refused."""
    sim.order("token", "id-token", claims={"oid": "00000000-0000-0000-0000-0000000000ff"})
    failure = device.refresh(sealed)
    assert isinstance(failure, Failure)
    assert failure.error == "id_token_oid"


def test_garbled_id_token_does_not_cost_a_rotated_token(sim: ThreadedSimulator, device: Device, sealed: bytes) -> None:
    """A renewal needs no id_token: one that cannot be read is ignored, and the new tokens are kept."""
    sim.order("token", "members", set={"id_token": "garbage", "client_info": "%%%"})
    _ok(device.refresh(sealed))


def test_refresh_in_is_handed_up(sim: ThreadedSimulator, device: Device, sealed: bytes) -> None:
    """Microsoft's own wish for the next renewal reaches the schedule."""
    sim.order("token", "refresh-in", value=1234)
    assert _ok(device.refresh(sealed))["refresh_in"] == 1234


@pytest.mark.parametrize(
    ("value", "used"),
    [
        (3599, 3599),
        ("3599", 3599),
        (3599.9, 3599),
        (59, 60),
        (1, 60),
        (10**12, 86400),
        (86401, 86400),
        (0, 600),
        (-5, 600),
        ("soon", 600),
        (None, 600),
        (True, 600),
        ({}, 600),
        ("1e400", 600),
        ("NaN", 600),
    ],
)
def test_lifetime_is_clamped(sim: ThreadedSimulator, device: Device, sealed: bytes, value: object, used: int) -> None:
    """No answer can make a token live less than a minute or more than a day, nor crash the reader."""
    sim.order("token", "expires-in", value=value)
    assert _ok(device.refresh(sealed))["expires_in"] == used


def test_missing_lifetime_is_assumed_short(sim: ThreadedSimulator, device: Device, sealed: bytes) -> None:
    """`expires_in` is optional (RFC 6749 §5.1)."""
    sim.order("token", "members", drop=["expires_in"])
    assert _ok(device.refresh(sealed))["expires_in"] == 600


def test_grant_of_another_generation_or_mailbox_does_not_open(device: Device, sealed: bytes) -> None:
    """A grant opens only for the configuration it was sealed for."""
    for fields in ({"grant_generation": 2}, {"identity": "simulated/other/app/somebody@contoso.example"}):
        failure = device.refresh(sealed, **fields)
        assert isinstance(failure, Failure)
        assert (failure.kind, failure.error) == (FailureKind.STORE, "cannot_open")


def test_new_secret_is_proved_alone(sim: ThreadedSimulator, device: Device, sealed: bytes) -> None:
    """`only` uses no other credential, so a wrong new secret is not covered up by a certificate that works."""
    made = device.ok("make_certificate", name="gateway", days=30)
    app = sim.world.directory.apps[device.settings.client_id]
    app.certificates.append(made["certificate"])
    device.secrets = b64decode(made["sealed"])
    _ok(device.refresh(sealed))
    device.secrets = b64decode(device.ok("seal", given={"client_secret": "wrong"})["sealed"])
    _ok(device.refresh(sealed))
    failure = device.refresh(sealed, only="secret")
    assert isinstance(failure, Failure)
    assert failure.error == "invalid_client"


def test_tokens_of_any_bytes_survive_sealing() -> None:
    """Three tokens of 16 KiB of the worst characters fit, byte for byte, into what a slot holds."""
    token = "\x01" * 16384
    grant = Grant(SENDER, "oid", "tid", token, "é\n\"'+&=%✓" * 900, token, "secret")
    encoded = encode(grant)
    assert decode(encoded) == grant
    assert len(encoded) < 60 * 1024
