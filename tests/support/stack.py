"""The resident service as a process of its own, against the simulated Microsoft 365, spoken to through its sockets."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from notifyd.ctl.client import Client, Reply
from qemu.workstation.processes import Child, child_environment, wait_until
from tests.m365.browser import Browser, Visit

REPOSITORY = Path(__file__).resolve().parents[2]
HTTPS_PORT = 8443
REDIRECT_URI = f"https://127.0.0.1:{HTTPS_PORT}/cgi-bin/msoauth2.cgi"
START_DEADLINE_S = 30.0
DEADLINE_S = 20.0
SENDER = "gateway@contoso.example"
OPERATOR = "ops@contoso.example"


def python_environment(**extra: str) -> dict[str, str]:
    """The environment of a child that imports from this checkout."""
    return child_environment(PYTHONPATH=f"{REPOSITORY / 'firmware'}{os.pathsep}{REPOSITORY}", **extra)


@dataclass
class Microsoft:
    """The simulated Microsoft 365, as its control API shows it."""

    ends: dict[str, Any]
    directory: Path
    epoch: int = 0

    def control(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.ends["control"].rstrip("/") + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def order(self, target: str, what: str, times: int | None = 1, **more: object) -> None:
        """Orders a failure."""
        self.control("POST", "/orders", {"target": target, "what": what, "times": times, **more})

    def reset(self) -> None:
        """As after a fresh start: every grant is forgotten."""
        self.epoch += 1
        self.control("POST", "/reset")

    def tidy(self) -> None:
        """Orders, mail and log of another test go; grants stay."""
        for path in ("/orders", "/mail", "/log"):
            self.control("DELETE", path)

    def withdraw_orders(self) -> None:
        self.control("DELETE", "/orders")

    def token_requests(self) -> int:
        return int(self.control("GET", "/log")["counts"].get("token", 0))

    def mail(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.control("GET", "/mail?full=1")["messages"]
        return found

    @property
    def client_secret(self) -> str:
        return str(self.ends["client_secret"])


@contextmanager
def running_microsoft(directory: Path) -> Iterator[Microsoft]:
    """One simulator as a process; slow to start, so share it."""
    argv = [sys.executable, "-m", "qemu.m365", "--dir", str(directory), "--redirect-uri", REDIRECT_URI]
    with Child("m365", argv, python_environment(), directory / "m365.log") as child:
        wait_until(lambda: child.stdout.read_bytes().endswith(b"}\n"), START_DEADLINE_S, "the simulator", child)
        yield Microsoft(json.loads(child.stdout.read_text()), directory)


@dataclass
class Stack:
    """notifyd on directories of its own. `start` and `stop` may be called again: what is in `data` stays."""

    home: Path
    microsoft: Microsoft
    arguments: tuple[str, ...] = ("--lan-interface", "lo", "--https-port", str(HTTPS_PORT))
    environment: dict[str, str] = field(default_factory=dict)
    child: Child | None = None

    def __post_init__(self) -> None:
        self.etc, self.data, self.run = (self.home / name for name in ("etc", "data", "run"))
        for directory in (self.etc, self.data, self.run):
            directory.mkdir(parents=True, exist_ok=True)
        clouds = self.etc / "clouds.d"
        clouds.mkdir(exist_ok=True)
        source = Path(self.microsoft.ends["clouds_file"])
        (clouds / source.name).write_text(source.read_text())
        self.client = Client(self.run / "admin.sock")
        self.starts = 0

    @property
    def process(self) -> Child:
        assert self.child is not None, "notifyd is not running"
        return self.child

    @property
    def env(self) -> dict[str, str]:
        roots = {"NOTIFYD_ETC": str(self.etc), "NOTIFYD_DATA": str(self.data), "NOTIFYD_RUN": str(self.run)}
        return python_environment(**roots, **self.environment)

    def start(self) -> None:
        self.starts += 1
        log = self.home / f"notifyd-{self.starts}.log"
        self.child = Child("notifyd", [sys.executable, "-m", "notifyd", *self.arguments], self.env, log)
        wait_until(self._answers, START_DEADLINE_S, "notifyd's admin socket", self.child)

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(2)
                probe.connect(str(self.run / "callback.sock"))
        except OSError:
            return False
        return (self.run / "admin.sock").exists()

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        child, self.child = self.process, None
        child.stop()
        return child.process.returncode

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        child, self.child = self.process, None
        child.kill()
        child.stop()

    def logs(self) -> str:
        """What notifyd printed over all starts."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.home.glob("notifyd-*.log")))

    # ---- the API ----------------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: Any = None, **more: Any) -> Reply:
        return self.client.call(method, path, body, **more)

    def get(self, path: str) -> Any:
        reply = self.call("GET", path)
        assert reply.status == 200, reply
        return reply.document

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.get("/api/v1/status")
        return found

    def settings(self, **changes: Any) -> dict[str, Any]:
        """The demo tenant's settings, as an administrator would fill them in."""
        ends = self.microsoft.ends
        settings = {
            "server": ends["smtp"][0],
            "port": ends["smtp"][1],
            "security": "starttls",
            "auth": "oauth2",
            "cloud": "simulated",
            "sender": SENDER,
            "client_id": ends["client_id"],
            "tenant_id": ends["tenant_id"],
            "client_secret": ends["client_secret"],
        }
        settings.update(changes)
        return {name: value for name, value in settings.items() if value is not None}

    def apply(self, **changes: Any) -> None:
        reply = self.call("PUT", "/api/v1/settings", self.settings(**changes))
        assert reply.status == 200, reply

    def authorize(self) -> str:
        reply = self.call("POST", "/api/v1/token/authorize", {"redirect_uri": REDIRECT_URI})
        assert reply.status == 200, reply
        url: str = reply.document["authorize_url"]
        return url

    def browser(self) -> Browser:
        return Browser(self.microsoft.ends["ca_file"], REDIRECT_URI)

    def visit(self, **options: Any) -> Visit:
        """Get New Token, and the pages at Microsoft up to the redirect."""
        return self.browser().sign_in(self.authorize(), **options)

    def callback(self, params: Mapping[str, str], **more: Any) -> tuple[int, dict[str, Any]]:
        """Hands Microsoft's redirect in, as the CGI does."""
        message = {
            "method": "POST",
            "params": dict(params),
            "server_addr": "127.0.0.1",
            "server_port": str(HTTPS_PORT),
            "remote_addr": "127.0.0.1",
            "host": f"127.0.0.1:{HTTPS_PORT}",
            "https": True,
        } | more
        reply = Client(self.run / "callback.sock").call("POST", "/callback", message)
        return reply.status, reply.document

    def sign_in(self, **options: Any) -> tuple[int, dict[str, Any]]:
        """The whole of Get New Token; the answer that the tab shows."""
        return self.callback(self.visit(**options).params)

    def become_valid(self) -> None:
        self.apply()
        status, answer = self.sign_in()
        assert (status, answer["ok"]) == (200, True), answer
        assert self.status()["state"] == "Valid"

    def send_test(self, to: str = OPERATOR) -> str:
        reply = self.call("POST", "/api/v1/mail/test", {"to": to})
        assert reply.status == 202, reply
        mail_id: str = reply.document["id"]
        return mail_id

    def events(self, **query: Any) -> list[dict[str, Any]]:
        text = "&".join(f"{name}={value}" for name, value in {"after": 0, "limit": 1000, **query}.items())
        found: list[dict[str, Any]] = self.get(f"/api/v1/events?{text}")["events"]
        return found

    def event_names(self) -> list[str]:
        return [record["event"] for record in self.events()]

    def wait_status(
        self, condition: Callable[[dict[str, Any]], bool], what: str, deadline_s: float = DEADLINE_S
    ) -> Any:
        """Polls the status until it is as wanted."""
        return self.wait(self.status, condition, what, deadline_s)

    def wait_mail(self, mail_id: str, *states: str, deadline_s: float = DEADLINE_S) -> dict[str, Any]:
        """Polls one message until it is in one of the states."""
        found: dict[str, Any] = self.wait(
            lambda: self.get(f"/api/v1/mail/{mail_id}"),
            lambda mail: mail["state"] in states,
            f"mail {states}",
            deadline_s,
        )
        return found

    def wait(
        self, look: Callable[[], Any], condition: Callable[[Any], bool], what: str, deadline_s: float = DEADLINE_S
    ) -> Any:
        """Polls until the condition holds; fails with what was seen last."""
        end = time.monotonic() + deadline_s
        while not condition(seen := look()):
            self.process.check()
            assert time.monotonic() < end, f"{what}: last seen {seen}\n{self.logs()[-6000:]}"
            time.sleep(0.05)
        return seen


@contextmanager
def running_stack(home: Path, microsoft: Microsoft, **options: Any) -> Iterator[Stack]:
    """A started notifyd, ended and checked to have ended at the end."""
    stack = Stack(home, microsoft, **options)
    stack.start()
    try:
        yield stack
    finally:
        if stack.child is not None:
            stack.child.stop()


def raw_exchange(path: Path, data: bytes, deadline_s: float = 15.0) -> bytes:
    """Bytes in, bytes out until the peer closes: for requests that no client library would send."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(deadline_s)
        sock.connect(str(path))
        received = b""
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass
        while True:
            try:
                piece = sock.recv(65536)
            except ConnectionResetError:
                return received
            if not piece:
                return received
            received += piece


def status_of(answer: bytes) -> int:
    """The status of a raw HTTP answer; 0 when there was none."""
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0
