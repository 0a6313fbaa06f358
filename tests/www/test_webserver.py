"""`notifyd.webserver`: what it makes, and the real lighttpd that it becomes, with an echo in notifyd's place."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

import pytest

from notifyd import webserver as subject
from notifyd.adapters.certificate import FILE_NAME
from qemu.workstation.demo_once import free_port
from qemu.workstation.processes import Child, child_environment, wait_until

START_DEADLINE_S = 30.0


class Echo(BaseHTTPRequestHandler):
    """Answers with the request's own headers; `/api/v1/events` drips, so that buffering would show."""

    release = threading.Event()

    def do_GET(self) -> None:
        if self.path.endswith("/redirect-uris"):
            return self._send(json.dumps({"redirect_uris": self.server.uris}).encode())  # type: ignore[attr-defined]
        if self.path.endswith("/events"):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b"data: first\n\n")
            self.release.wait(20)
            self.wfile.write(b"data: second\n\n")
            return None
        return self._send(json.dumps(list(self.headers.items())).encode())

    def do_POST(self) -> None:
        self._send(str(len(self.rfile.read(int(self.headers["Content-Length"])))).encode())

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: Any) -> None:
        """Quiet."""


class EchoServer(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    uris: list[str]


@dataclass
class Site:
    """A running lighttpd."""

    run: Path
    data: Path
    port: int
    child: Child
    echo: EchoServer
    env: dict[str, str]

    @property
    def pem(self) -> Path:
        return self.data / "tls" / FILE_NAME

    def connect(self, host: str = "127.0.0.1") -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.pem))
        return http.client.HTTPSConnection(host, self.port, context=context, timeout=20)

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        connection = self.connect()
        try:
            connection.request("GET", path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def answers(self) -> bool:
        try:
            return self.get("/")[0] == 200
        except OSError:
            return False

    def certificate(self) -> bytes:
        """What the server presents now."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the bytes are compared, nothing is trusted
        with socket.create_connection(("127.0.0.1", self.port), 10) as raw, context.wrap_socket(raw) as tls:
            presented = tls.getpeercert(binary_form=True)
            assert presented
            return presented


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("site")
    run, data, port = home / "run", home / "data", free_port()
    run.mkdir()
    with ExitStack() as stack:
        echo = EchoServer(str(run / "admin.sock"), Echo)
        stack.callback(echo.server_close)
        echo.uris = [f"https://127.0.0.1:{port}/cgi-bin/msoauth2.cgi"]
        threading.Thread(target=echo.serve_forever, daemon=True).start()
        stack.callback(echo.shutdown)
        env = child_environment(NOTIFYD_RUN=str(run), NOTIFYD_DATA=str(data), PYTHONPATH=str(subject.FIRMWARE))
        argv = [sys.executable, "-m", "notifyd.webserver", "--port", str(port), "--name", "gateway.example"]
        child = stack.enter_context(Child("lighttpd", argv, env, home / "lighttpd.log"))
        site = Site(run, data, port, child, echo, env)
        wait_until(site.answers, START_DEADLINE_S, "the page", child)
        yield site


def test_certificate_names_what_is_listened_on(site: Site) -> None:
    """A client that trusts the device certificate reaches the page by address, with full verification."""
    assert site.get("/")[0] == 200


def test_tls_below_1_2_is_refused(site: Site) -> None:
    """TLS 1.1 gets no handshake."""
    context = ssl.create_default_context(cafile=str(site.pem))
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", site.port), 10) as raw, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(raw, server_hostname="127.0.0.1")


def test_the_way_in_cannot_be_forged(site: Site) -> None:
    """notifyd sees exactly one X-Notifyd-Via and the true address, whatever the client wrote, in any case or number."""
    forged = {
        "X-Notifyd-Via": "local",
        "x-notifyd-via": "",
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-User": "admin",
        "Forwarded": "for=203.0.113.9",
        "X-Real-IP": "203.0.113.9",
        "X-HTTP-Method-Override": "DELETE",
        "Connection": "close, X-Notifyd-Via, X-Forwarded-For",
    }
    status, body = site.get("/api/v1/status", forged)
    assert status == 200
    seen = [(name.lower(), value) for name, value in json.loads(body)]
    assert [value for name, value in seen if name == "x-notifyd-via"] == ["lighttpd"]
    assert [value for name, value in seen if name == "x-forwarded-for"] == ["127.0.0.1"]
    assert {"x-forwarded-user", "forwarded", "x-real-ip", "x-http-method-override"}.isdisjoint(dict(seen))
    assert "203.0.113.9" not in body.decode()


def test_stream_is_not_held_back(site: Site) -> None:
    """The first event is there while the second is not even written."""
    Echo.release.clear()
    connection = site.connect()
    try:
        connection.request("GET", "/api/v1/events", headers={"Accept": "text/event-stream"})
        answer = connection.getresponse()
        assert answer.readline() == b"data: first\n"
        Echo.release.set()
        assert b"second" in answer.read()
    finally:
        Echo.release.set()
        connection.close()


@pytest.mark.parametrize("path", ["/api/v1/settings", "/cgi-bin/msoauth2.cgi"])
def test_large_bodies_are_refused_unread(site: Site, path: str) -> None:
    """The announced length alone is enough for a 413."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: 70000\r\n\r\n"
    assert raw(site, head.encode()).startswith(b"HTTP/1.1 413 ")


def test_mail_may_be_large(site: Site) -> None:
    """A message with attachments gets through whole."""
    connection = site.connect()
    try:
        connection.request("POST", "/api/v1/mail", b"x" * 3_000_000, {"Content-Type": "message/rfc822"})
        assert connection.getresponse().read() == b"3000000"
    finally:
        connection.close()


def raw(site: Site, request: bytes) -> bytes:
    """What comes back for bytes that no library would send."""
    context = ssl.create_default_context(cafile=str(site.pem))
    with (
        socket.create_connection(("127.0.0.1", site.port), 10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
    ):
        tls.sendall(request)
        received = b""
        while piece := tls.recv(65536):
            received += piece
        return received


SMUGGLED = {
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "space before colon": b"Content-Length : 5\r\n\r\nhello",
    "bare line feed": b"X: y\nContent-Length: 5\r\n\r\nhello",
    "folded header": b"X: a\r\n b\r\nContent-Length: 5\r\n\r\nhello",
    "NUL": b"X: a\0b\r\n\r\n",
    "two hosts": b"Host: evil.example\r\n\r\n",
    "endless header": b"X: " + b"a" * 40000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("tail", SMUGGLED.values(), ids=SMUGGLED)
def test_smuggled_requests_are_one_request_or_none(site: Site, tail: bytes) -> None:
    """At most one answer, and never one from a request hidden in another."""
    start = b"POST /api/v1/settings HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: text/plain\r\n"
    answer = raw(site, start + tail)
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert b"HTTP/1.1 5" not in answer


def test_renewed_certificate_is_taken_without_a_restart(site: Site) -> None:
    """A new LAN address: `--renew` makes a certificate with it and the running lighttpd presents it."""
    before, pid = site.certificate(), (site.run / "lighttpd.pid").read_text()
    renew = [sys.executable, "-m", "notifyd.webserver", "--renew"]
    unchanged = subprocess.run(renew, env=site.env, capture_output=True, text=True, timeout=30, check=True)
    assert unchanged.stdout == "unchanged\n"
    site.echo.uris.append(f"https://192.168.77.1:{site.port}/cgi-bin/msoauth2.cgi")
    renewed = subprocess.run(renew, env=site.env, capture_output=True, text=True, timeout=30, check=True)
    assert renewed.stdout == "renewed\n"
    wait_until(lambda: changed(site, before), START_DEADLINE_S, "the new certificate", site.child)
    assert site.get("/")[0] == 200
    assert (site.run / "lighttpd.pid").read_text() == pid
    text = subprocess.run(
        ["openssl", "x509", "-in", str(site.pem), "-noout", "-text"], capture_output=True, text=True, check=True
    ).stdout
    assert "IP Address:192.168.77.1" in text


def changed(site: Site, before: bytes) -> bool:
    try:
        return site.certificate() != before
    except OSError:
        return False


def test_notifyd_away_is_503(site: Site) -> None:
    """The proxy says so at once instead of hanging."""
    (site.run / "admin.sock").rename(site.run / "gone.sock")
    try:
        assert site.get("/api/v1/status")[0] == 503
    finally:
        (site.run / "gone.sock").rename(site.run / "admin.sock")
    wait_until(lambda: site.get("/api/v1/status")[0] == 200, START_DEADLINE_S, "the API", site.child)


# ---- what is made before lighttpd runs ------------------------------------------------------------------------------


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., subject.WebServer]:
    def build(**changes: Any) -> subject.WebServer:
        values: dict[str, Any] = {
            "data": tmp_path / "data",
            "run": tmp_path / "run",
            "www": subject.FIRMWARE / "www",
            "cgi": subject.FIRMWARE / "cgi-bin" / "msoauth2.cgi",
            "template": subject.FIRMWARE / "lighttpd" / "lighttpd.conf.in",
            "listen": ("192.168.168.1",),
            "port": 443,
            "names": (),
            "access_log": "syslog",
            "systemd_sockets": False,
        }
        return subject.WebServer(**(values | changes))

    return build


CONFIGURATIONS = {
    "one address": {},
    "more addresses": {"listen": ("192.168.168.1", "10.0.0.1", "fd00::1")},
    "IPv6 first": {"listen": ("fd00::1",)},
    "sockets from systemd": {"listen": ("0.0.0.0", "::"), "systemd_sockets": True},
}


@pytest.mark.parametrize("changes", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_lighttpd_takes_every_configuration(
    make: Callable[..., subject.WebServer], tmp_path: Path, changes: dict[str, Any]
) -> None:
    """lighttpd's own parser finds no fault and no unknown word."""
    server = make(**changes)
    text = subject.render(server.template.read_text(), server)
    assert "@" not in "".join(line for line in text.splitlines() if not line.startswith("#"))
    (tmp_path / "lighttpd.conf").write_text(text)
    checked = subprocess.run(
        [subject.lighttpd_program(), "-t", "-f", str(tmp_path / "lighttpd.conf")], capture_output=True, text=True
    )
    complaints = [line for line in checked.stderr.splitlines() if "deprecated" in line or "WARNING" in line]
    assert (checked.returncode, complaints) == (0, []), checked.stderr


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a$b", "a\nb"])
def test_path_that_would_break_the_configuration_is_refused(make: Callable[..., subject.WebServer], name: str) -> None:
    """Nothing from a path becomes configuration."""
    server = make(run=Path("/run") / name)
    with pytest.raises(subject.NotStarted):
        subject.render(server.template.read_text(), server)


def test_foreign_process_is_not_signalled(tmp_path: Path) -> None:
    """A stale pid file may name anybody by now."""
    (tmp_path / "lighttpd.pid").write_text(str(os.getpid()))
    received: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _frame: received.append(number))
    try:
        assert not subject.reload_running(tmp_path)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert received == []


def test_hosts_are_known_without_notifyd(tmp_path: Path) -> None:
    """Names, listening addresses, and localhost beside a loopback one; never an unspecified address."""
    assert subject.certificate_hosts(["gw.example"], ["127.0.0.1", "0.0.0.0", "::"], tmp_path) == [
        "127.0.0.1",
        "gw.example",
        "localhost",
    ]
