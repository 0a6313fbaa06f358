"""The gateway side on a workstation: notifyd and lighttpd in the foreground, unprivileged, on directories of choice.

`python -m qemu.workstation.gateway` takes NOTIFYD_ETC, NOTIFYD_DATA, NOTIFYD_RUN and PORT from the environment, so that
any identity provider and mail server can be plugged in through NOTIFYD_ETC/clouds.d.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType, TracebackType

from qemu.workstation.processes import Child, StartFailed, child_environment, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_PORT = 8443
LISTEN = "127.0.0.1"
ADMIN = "admin"
LEAN = ("-OO", "-X", "no_debug_ranges")
"""As the unit on the board starts them: no docstrings and no column tables in memory."""
READY_DEADLINE_S = 60.0  # a cold start on a slow, shared machine compiles bytecode first


class Gateway:
    """notifyd and its web server as child processes."""

    def __init__(self, etc: Path, data: Path, run: Path, port: int, password: str | None = None) -> None:
        self.etc, self.data, self.run, self.port = etc, data, run, port
        self.password = password
        self.env = child_environment(NOTIFYD_ETC=str(etc), NOTIFYD_DATA=str(data), NOTIFYD_RUN=str(run))
        self._stack = ExitStack()
        self.notifyd: Child
        self.web: Child

    @property
    def address(self) -> str:
        return f"https://{LISTEN}:{self.port}"

    def __enter__(self) -> Gateway:
        with ExitStack() as stack:
            self.start_notifyd()
            stack.callback(self._stop_notifyd)
            self._set_password()
            self.web = stack.enter_context(
                self._child("lighttpd", "notifyd.webserver", "--port", str(self.port), "--listen", LISTEN)
            )
            wait_until(self._web_answers, READY_DEADLINE_S, f"an answer at {self.address}", self.web, self.notifyd)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()

    def start_notifyd(self) -> None:
        """Starts the resident service and waits until it takes requests."""
        for root in (self.data, self.run):
            root.mkdir(parents=True, exist_ok=True)
        self.etc.mkdir(parents=True, exist_ok=True)
        self.notifyd = self._child("notifyd", "notifyd", "--lan-interface", "lo", "--https-port", str(self.port))
        wait_until(self._api_answers, READY_DEADLINE_S, "notifyd's admin socket", self.notifyd)

    def _stop_notifyd(self) -> None:
        self.notifyd.stop()  # looked up late: a demo may have restarted it

    def check(self) -> None:
        """Raises StartFailed when one of the two has ended."""
        self.notifyd.check()
        self.web.check()

    def _child(self, name: str, module: str, *arguments: str) -> Child:
        return Child(name, [sys.executable, *LEAN, "-m", module, *arguments], self.env, self.run / f"{name}.log")

    def _set_password(self) -> None:
        if (self.data / "admins").exists() and self.password is None:
            return
        self.password = self.password or secrets.token_urlsafe(12)
        subprocess.run(
            [sys.executable, "-m", "notifyd.passwd", ADMIN],
            env=self.env,
            input=self.password + "\n",
            text=True,
            check=True,
            timeout=READY_DEADLINE_S,
            stdout=subprocess.DEVNULL,
        )

    def _api_answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            try:
                client.connect(str(self.run / "admin.sock"))
                client.sendall(b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return client.recv(16).startswith(b"HTTP/1.1 200")
            except OSError:
                return False

    def _web_answers(self) -> bool:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # only to see whether it answers; nothing is sent that matters
        try:
            with socket.create_connection((LISTEN, self.port), 2) as raw, context.wrap_socket(raw):
                return True
        except OSError:
            return False


def stay_until_signal(check: object = None) -> None:
    """Waits for SIGINT or SIGTERM; `check` is called every second and may raise."""
    stopped = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    while not stopped:
        time.sleep(1)
        if callable(check):
            check()


def main() -> int:
    base = REPOSITORY / "build" / "gateway"
    roots = {name: Path(os.environ.get(f"NOTIFYD_{name.upper()}", base / name)) for name in ("etc", "data", "run")}
    port = int(os.environ.get("PORT", DEFAULT_PORT))
    try:
        with Gateway(roots["etc"], roots["data"], roots["run"], port) as gateway:
            print(f"The gateway's page: {gateway.address}/")
            if gateway.password:
                print(f"Login:              {ADMIN} / {gateway.password}")
            else:
                print(f"Login:              {ADMIN} with the password set earlier (new one: make passwd)")
            print(f"Sockets:            {gateway.run}/admin.sock, {gateway.run}/callback.sock")
            print(f"Logs:               {gateway.run}/notifyd.log, {gateway.run}/lighttpd.log")
            print("Stop with Ctrl-C.", flush=True)
            stay_until_signal(gateway.check)
    except StartFailed as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
