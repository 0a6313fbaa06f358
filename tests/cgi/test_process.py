"""The CGI as the web server starts it: a real process and a real socket."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cgi import subject

INTERPRETER = "/usr/bin/python3"  # the one in the script's first line
WALL_RATIO_LIMIT = 1.8
ANSWER = json.dumps(subject.GOOD_ANSWER).encode()
GOOD = subject.query("code=SECRET-CODE&state=b")


def run(environ: dict[str, str], run_dir: Path, body: bytes = b"") -> subject.Answer:
    finished = subprocess.run(
        [str(subject.SCRIPT)], env={**environ, "NOTIFYD_RUN": str(run_dir)}, input=body, capture_output=True, timeout=30
    )
    assert finished.stderr == b""
    assert finished.returncode == 0
    return subject.parse(finished.stdout)


@contextmanager
def notifyd(run_dir: Path, response: bytes | None) -> Iterator[list[bytes]]:
    """A socket that answers each call with `response`, or takes it and closes without a word."""
    requests: list[bytes] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(run_dir / "callback.sock"))
    listener.listen(8)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                received = b""
                while b"\r\n\r\n" not in received or not received.endswith(b"}"):
                    received += connection.recv(65536)
                requests.append(received)
                if response:
                    for piece in (response[:7], response[7:]):  # an answer may come in pieces
                        connection.sendall(piece)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield requests
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def http(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


def test_success_goes_through_the_socket(tmp_path: Path) -> None:
    """notifyd gets one POST /callback with the code; the browser gets the closing page."""
    with notifyd(tmp_path, http(b"200 OK", ANSWER)) as requests:
        answer = run(GOOD, tmp_path)
    head, body = requests[0].split(b"\r\n\r\n")
    assert head.startswith(b"POST /callback HTTP/1.")
    assert json.loads(body)["params"] == {"code": "SECRET-CODE", "state": "b"}
    assert answer.status == 200
    assert "window.close()" in answer.body


def test_form_post_comes_from_standard_input(tmp_path: Path) -> None:
    """The body is read from standard input up to its length."""
    body = b"state=b&code=" + b"a" * 9000
    with notifyd(tmp_path, http(b"200 OK", ANSWER)) as requests:
        assert run(subject.form(body), tmp_path, body).status == 200
    assert b"a" * 9000 in requests[0]


def test_refusal_of_notifyd_is_shown(tmp_path: Path) -> None:
    """Its status, title, code and remedy reach the browser."""
    refusal = {"ok": False, "title": "Late", "detail": "d", "remedy": "r", "code": "signin.unknown"}
    with notifyd(tmp_path, http(b"409 Conflict", json.dumps(refusal).encode())):
        answer = run(GOOD, tmp_path)
    assert (answer.status, "signin.unknown" in answer.body) == (409, True)


def test_absent_notifyd_is_named(tmp_path: Path) -> None:
    """No socket: a 503 page that says what to do and does not claim anything."""
    answer = run(GOOD, tmp_path)
    assert answer.status == 503
    assert "not running" in answer.body
    assert "No token was stored" in answer.body


def test_dead_socket_is_named(tmp_path: Path) -> None:
    """A socket file that nobody serves is as good as none."""
    left_over = socket.socket(socket.AF_UNIX)
    left_over.bind(str(tmp_path / "callback.sock"))
    left_over.close()
    assert run(GOOD, tmp_path).status == 503


def test_silent_notifyd_is_no_success(tmp_path: Path) -> None:
    """notifyd dies in the middle: 502, and the page says that it does not know."""
    with notifyd(tmp_path, None):
        assert run(GOOD, tmp_path).status == 502


def test_slow_notifyd_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the deadline a 504 page sends the administrator to Token Status."""
    cgi = subject.load()
    monkeypatch.setattr(cgi, "DEADLINE_S", 0.2)
    listener = socket.socket(socket.AF_UNIX)
    with listener:
        listener.bind(str(tmp_path / "callback.sock"))
        listener.listen(1)
        answer = subject.request(cgi, {**GOOD, "NOTIFYD_RUN": str(tmp_path)}, ask=cgi.ask_notifyd)
    assert answer.status == 504
    assert "Token Status" in answer.body


@pytest.mark.parametrize("name", ["PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "PYTHONINSPECT"])
def test_environment_cannot_steer_the_interpreter(tmp_path: Path, name: str) -> None:
    """The interpreter runs isolated: what a server might pass on does not reach it."""
    (tmp_path / "_json.py").write_text("raise SystemExit(7)")
    assert run({**GOOD, name: str(tmp_path)}, tmp_path).status == 503


def test_no_heavy_module_is_imported(tmp_path: Path) -> None:
    """os, re, json, socket, urllib and site stay out: each would cost more than the CGI itself."""
    listing = subprocess.run(
        [INTERPRETER, "-IS", "-X", "importtime", str(subject.SCRIPT)],
        env={**GOOD, "NOTIFYD_RUN": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stderr
    imported = {line.rpartition("|")[2].strip() for line in listing.splitlines()}
    assert imported.isdisjoint({"os", "re", "json", "socket", "urllib", "site", "enum", "html", "select"})


def test_wall_time_stays_near_the_bare_interpreter(tmp_path: Path) -> None:
    """At most 1.8 times `python3 -IS -c pass`, measured alternately; the best of each, since others use the machine."""

    def once(argv: list[str]) -> float:
        began = time.perf_counter()
        subprocess.run(argv, env={**os.environ, **GOOD, "NOTIFYD_RUN": str(tmp_path)}, capture_output=True, check=True)
        return time.perf_counter() - began

    pairs = [(once([str(subject.SCRIPT)]), once([INTERPRETER, "-IS", "-c", "pass"])) for _ in range(30)]
    script, bare = (statistics.quantiles(times, n=10)[0] for times in zip(*pairs, strict=True))
    print(f"CGI {script * 1000:.1f} ms, bare interpreter {bare * 1000:.1f} ms, ratio {script / bare:.2f}")
    assert script / bare <= WALL_RATIO_LIMIT
