"""The transport under MSAL: names of network and TLS faults, limits, and what it must not take from the environment."""

from __future__ import annotations

import socket
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from notifyd.core.events import Failure, FailureKind
from qemu.m365.simulator import ThreadedSimulator
from tests.adapters.entra.conftest import REDIRECT_URI, Device


def _begin(device: Device, **fields: Any) -> Failure:
    return device.refused("begin", redirect_uri=REDIRECT_URI, login_hint="", claims="", **fields)


def _at(device: Device, authority: str) -> Device:
    return replace(device, cloud=replace(device.cloud, authority=authority))


@contextmanager
def _listener(answer: bytes | None) -> Iterator[int]:
    """A TCP port that accepts, sends `answer` (None: nothing) and waits for the client to leave."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                if answer is not None:
                    connection.sendall(answer)
                with suppress(ConnectionResetError):
                    while connection.recv(4096):
                        pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
    thread.join(5)


def test_unknown_host_is_a_dns_failure(device: Device) -> None:
    """A name that does not resolve is told apart from a host that does not answer."""
    assert _begin(_at(device, "https://login.invalid")).kind is FailureKind.DNS


def test_closed_port_is_a_network_failure(device: Device) -> None:
    """Nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    failure = _begin(_at(device, f"https://127.0.0.1:{port}"))
    assert failure.kind is FailureKind.NETWORK
    assert "refused" in failure.description


def test_silent_host_ends_at_the_deadline(device: Device) -> None:
    """A host that accepts and says nothing costs the deadline and no more."""
    with _listener(None) as port:
        start = time.monotonic()
        failure = _begin(_at(device, f"https://127.0.0.1:{port}"), deadline_s=1.0)
        assert time.monotonic() - start < 3
    assert failure.kind is FailureKind.TIMEOUT


def test_plain_text_on_the_port_is_a_tls_failure(device: Device) -> None:
    """Something that is not TLS answers."""
    with _listener(b"HTTP/1.1 200 OK\r\n\r\nhello") as port:
        assert _begin(_at(device, f"https://127.0.0.1:{port}")).kind is FailureKind.TLS


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ("untrusted", FailureKind.TLS),
        ("wrong-name", FailureKind.TLS),
        ("expired", FailureKind.TLS_TIME),
        ("future", FailureKind.TLS_TIME),
    ],
)
def test_bad_certificate_is_named(sim: ThreadedSimulator, device: Device, what: str, kind: FailureKind) -> None:
    """A certificate outside its time is told apart, since it is what a wrong clock looks like."""
    sim.order("tls", what, part="idp", times=None)
    failure = _begin(device)
    assert (failure.kind, failure.error) == (kind, "certificate")
    assert sim.world.log.counts["discovery"] == 0


def test_private_authority_is_not_trusted_without_its_file(device: Device) -> None:
    """With the system's roots the simulated cloud is a stranger."""
    assert _begin(replace(device, cloud=replace(device.cloud, ca_file=""))).kind is FailureKind.TLS


def test_environment_changes_nothing(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxy and CA variables are not followed: they would send secrets elsewhere or switch the check off."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, "/dev/null")
    assert device.begin()["url"]


def test_slow_drip_ends_at_the_deadline(sim: ThreadedSimulator, device: Device, signed_in: dict[str, Any]) -> None:
    """A byte a second keeps no operation alive: the deadline holds for the whole of it."""
    sim.order("token", "drip", bytes=1, pause=0.2)
    start = time.monotonic()
    failure = device.refresh(b64decode(signed_in["sealed"]), deadline_s=2.0)
    assert isinstance(failure, Failure)
    assert failure.kind is FailureKind.TIMEOUT
    assert time.monotonic() - start < 5


def test_redirected_token_request_is_not_followed(
    sim: ThreadedSimulator, device: Device, signed_in: dict[str, Any]
) -> None:
    """A redirect would carry the refresh token to another host."""
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.settimeout(0.2)
        location = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/"
        sim.order("token", "redirect", status=307, location=location)
        assert isinstance(device.refresh(b64decode(signed_in["sealed"])), Failure)
        with pytest.raises(TimeoutError):
            elsewhere.accept()
