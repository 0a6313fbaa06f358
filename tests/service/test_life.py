"""The service over time: renewal with nobody watching, restarts in every state, its end, and its one instance."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.stack import SENDER, Stack


def test_tokens_renew_themselves_before_they_end(stack: Stack) -> None:
    """A token of a few seconds: renewed again and again without a call, Valid all the time."""
    stack.apply()
    visit = stack.visit()
    stack.microsoft.order("token", "access-token", None, expires_in=65)
    stack.microsoft.order("token", "expires-in", None, value=65)
    assert stack.callback(visit.params)[1]["ok"] is True
    stack.wait(stack.event_names, lambda names: "token.refreshed" in names, "a renewal by itself", 90)
    assert stack.status()["state"] == "Valid"
    assert "token.expired" not in stack.event_names()


TRANSIENT = {
    "5xx": ("http", {"status": 503}),
    "throttled": ("http", {"status": 429, "retry_after": 120}),
    "reset": ("reset", {}),
    "captive": ("captive-portal", {}),
}


@pytest.mark.parametrize("name", TRANSIENT)
def test_a_passing_fault_of_a_renewal_costs_nothing(name: str, ready: Stack) -> None:
    """While the access token lives the state stays Valid and mail flows; the fault is named, the grant is kept."""
    what, parameters = TRANSIENT[name]
    ready.microsoft.order("token", what, None, **parameters)
    status = ready.call("POST", "/api/v1/token/refresh", {"force": True}).document
    assert (status["state"], status["can_send"]) == ("Valid", True)
    assert status["problem"]["transient"] is True
    if name == "throttled":
        assert status["refresh_due_at"] > time.time() + 60
    ready.microsoft.withdraw_orders()
    assert ready.wait_mail(ready.send_test(), "sent", "failed")["state"] == "sent"


PERMANENT = {
    "secret-expired": (7000222, "AADSTS7000222"),
    "revoked": (50173, "AADSTS50173"),
    "conditional-access": (53003, "AADSTS53003"),
}


@pytest.mark.parametrize("name", PERMANENT)
def test_a_lasting_fault_of_a_renewal_is_told_at_once(name: str, ready: Stack) -> None:
    """The event, the cause and the remedy come with the first refusal, long before mail stops; the grant is kept."""
    code, expected = PERMANENT[name]
    ready.microsoft.order("token", "aadsts", None, code=code)
    status = ready.call("POST", "/api/v1/token/refresh", {"force": True}).document
    assert status["state"] == "Valid"
    assert status["problem"]["code"] == expected
    assert status["problem"]["transient"] is False
    assert status["problem"]["remedy"]
    failed = [record for record in ready.events() if record["event"] in ("token.refresh_failed", "token.signin_needed")]
    assert failed
    assert set((ready.data / "grant.slots").read_bytes()) != {0}
    ready.microsoft.withdraw_orders()
    status = ready.call("POST", "/api/v1/token/refresh", {"force": True}).document
    assert (status["state"], status["problem"]) == ("Valid", None)


def test_one_renewal_at_a_time_whoever_asks(ready: Stack) -> None:
    """Ten people press Refresh Token Status: Microsoft is asked once, or twice, not ten times."""
    import concurrent.futures

    before = ready.microsoft.token_requests()
    ready.microsoft.order("token", "latency", None, seconds=0.5)
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda _: ready.call("POST", "/api/v1/token/refresh", {"force": True}), range(10)))
    assert ready.microsoft.token_requests() - before <= 2


def test_a_restart_in_every_state(stack: Stack) -> None:
    """Killed and started: Unconfigured, Applied and Valid are what they were; open sign-ins are over, and say so."""
    for how in (stack.kill, stack.stop):
        how()
        stack.start()
        assert stack.status()["state"] == "Unconfigured"
    stack.apply()
    generation = stack.status()["generation"]
    stack.kill()
    stack.start()
    assert (stack.status()["state"], stack.status()["generation"]) == ("Applied", generation)
    visit = stack.visit()
    stack.kill()
    stack.start()
    assert (stack.status()["state"], stack.status()["pending"]) == ("Applied", 0)
    before = stack.microsoft.token_requests()
    status, answer = stack.callback(visit.params)
    assert (status, answer["ok"]) == (403, False)
    assert stack.microsoft.token_requests() == before
    assert stack.sign_in()[1]["ok"] is True
    for how in (stack.kill, stack.stop):
        how()
        stack.start()
        status_now = stack.status()
        assert (status_now["state"], status_now["account"]) == ("Valid", SENDER)
        assert stack.wait_mail(stack.send_test(), "sent", "failed")["state"] == "sent"


def test_a_kill_during_the_sign_in_leaves_a_state_that_is_true(stack: Stack) -> None:
    """Killed while Microsoft is being asked: Applied (the code is lost, not the settings), and a new sign-in works."""
    stack.apply()
    visit = stack.visit()
    stack.microsoft.order("token", "hang", 1, seconds=20)
    with socket.socket(socket.AF_UNIX) as tab:
        tab.connect(str(stack.run / "callback.sock"))
        import json

        body = json.dumps({"params": visit.params}).encode()
        tab.sendall(
            b"POST /callback HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            + body
        )
        stack.wait(stack.microsoft.token_requests, lambda count: count >= 1, "the token request")
        stack.kill()
    stack.microsoft.withdraw_orders()
    stack.start()
    assert stack.status()["state"] == "Applied"
    assert stack.sign_in()[1]["ok"] is True


def test_it_stops_within_five_seconds_and_says_so(ready: Stack) -> None:
    """SIGTERM with a follower of the log, an idle peer and a hung renewal: exit status 0, the last event is on disk."""
    ready.microsoft.order("token", "hang", None)
    followers = []
    for head in (b"GET /api/v1/events?follow=1 HTTP/1.1\r\nHost: a\r\n\r\n", b"", b"POST /x HTTP/1.1\r\n"):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(ready.run / "admin.sock"))
        sock.sendall(head)
        followers.append(sock)
    asking = socket.socket(socket.AF_UNIX)
    asking.connect(str(ready.run / "admin.sock"))
    head = b"POST /api/v1/token/refresh HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    asking.sendall(head + b'Content-Length: 14\r\n\r\n{"force":true}')
    ready.wait(ready.microsoft.token_requests, lambda count: count >= 1, "the renewal")
    began = time.monotonic()
    assert ready.stop() == 0
    assert time.monotonic() - began < 5.0
    for sock in (*followers, asking):
        sock.close()
    ready.microsoft.withdraw_orders()
    ready.start()
    assert "service.stopped" in ready.event_names()
    assert ready.status()["state"] == "Valid"


def test_a_second_instance_on_the_same_data_is_refused(ready: Stack) -> None:
    """Two would end each other's tokens: the second one exits with 75 and a clear word; the first works on."""
    done = subprocess.run(
        [sys.executable, "-m", "notifyd", *ready.arguments], env=ready.env, capture_output=True, timeout=30, text=True
    )
    assert done.returncode == 75
    assert "another notifyd" in done.stderr
    assert ready.status()["state"] == "Valid"


def test_the_service_manager_is_told(microsoft: object, stack: Stack, tmp_path: Path) -> None:
    """sd_notify: READY=1 once requests are taken, WATCHDOG=1 in time, STOPPING=1 at the end."""
    stack.stop()
    path = tmp_path / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(20)
        stack.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "600000"}
        stack.start()
        seen = manager.recv(4096).decode()
        assert "READY=1" in seen
        assert stack.status()["state"] == "Unconfigured"
        words = [manager.recv(4096).decode() for _ in range(4)]
        assert any("WATCHDOG=1" in word for word in words)
        assert stack.stop() == 0
        manager.settimeout(1)
        rest = ""
        while "STOPPING=1" not in rest:
            rest += manager.recv(4096).decode()


def test_the_sockets_of_the_service_manager_are_used(stack: Stack, tmp_path: Path) -> None:
    """Socket activation: admin.sock and callback.sock as systemd passes them, by name."""
    stack.stop()
    inherited = []
    for name in ("admin.sock", "callback.sock"):
        (stack.run / name).unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(stack.run / name))
        sock.listen()
        inherited.append(sock)
    inodes = [(stack.run / name).stat().st_ino for name in ("admin.sock", "callback.sock")]
    launcher = (
        "import os, sys\n"
        "for target, source in enumerate(map(int, sys.argv[1:3]), 100): os.dup2(source, target)\n"
        "for target in (3, 4): os.dup2(target + 97, target)\n"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2', LISTEN_FDNAMES='admin.sock:callback.sock')\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'notifyd', *sys.argv[3:]])\n"
    )
    numbers = [str(sock.fileno()) for sock in inherited]
    process = subprocess.Popen(
        [sys.executable, "-c", launcher, *numbers, *stack.arguments],
        env=stack.env, pass_fds=[sock.fileno() for sock in inherited], stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for sock in inherited:
            sock.close()
        assert stack.status()["state"] == "Unconfigured"  # the kernel queues the call until notifyd is up
        assert [(stack.run / name).stat().st_ino for name in ("admin.sock", "callback.sock")] == inodes
    finally:
        process.terminate()
        assert process.wait(10) == 0
    assert [path.exists() for path in (stack.run / "admin.sock", stack.run / "callback.sock")] == [True, True]


def test_damaged_data_is_not_rewritten(ready: Stack) -> None:
    """A database that is damaged: refuses to start with a word about it, and leaves every byte as it was."""
    ready.stop()
    database = ready.data / "notifyd.db"
    for extra in ready.data.glob("notifyd.db-*"):
        extra.unlink()
    content = bytearray(database.read_bytes())
    content[4096:8192] = os.urandom(4096)
    database.write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-m", "notifyd", *ready.arguments], env=ready.env, capture_output=True, timeout=30, text=True
    )
    assert done.returncode != 0
    assert "damaged" in done.stderr
    assert database.read_bytes() == bytes(content)
