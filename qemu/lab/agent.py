"""The host's side of the guest agent (guest_agent.py): run a program in the guest, write a file there."""

from __future__ import annotations

import base64
import itertools
import json
import shlex
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GRACE_S = 15.0  # an emulated guest may be slow to say that its own deadline has passed
RETRY_S = 8.0


class GuestSilent(RuntimeError):
    """The guest did not answer in time: silence is a failure, never a pass."""


class GuestError(AssertionError):
    """A program in the guest ended badly; the text is what it printed."""


@dataclass(frozen=True)
class Done:
    """How a program in the guest ended."""

    status: int
    output: str
    errors: str


class Agent:
    """The connection to the guest's agent; survives a restored snapshot."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._pending = b""
        self._ids = itertools.count(int(time.time() * 1000))

    def wait(self, deadline_s: float) -> None:
        """Until the agent answers; raises GuestSilent."""
        end = time.monotonic() + deadline_s
        while True:
            try:
                self._ask({"argv": ["true"], "timeout": 10}, RETRY_S)
            except GuestSilent:
                if time.monotonic() > end:
                    raise GuestSilent(f"the guest's agent did not answer within {deadline_s:.0f} s") from None
            else:
                return

    def run(self, *argv: str, timeout: float = 60.0, text: str = "") -> Done:
        """Runs a program in the guest, whatever its status; raises GuestSilent."""
        answer = self._ask({"argv": list(argv), "timeout": timeout, "input": text}, timeout + GRACE_S)
        return Done(answer["status"], answer["output"], answer["errors"])

    def check(self, *argv: str, timeout: float = 60.0, text: str = "") -> str:
        """The output of a program that must end with 0; raises GuestError, GuestSilent."""
        done = self.run(*argv, timeout=timeout, text=text)
        if done.status != 0:
            raise GuestError(f"{shlex.join(argv)} ended with {done.status} in the guest:\n{done.output}{done.errors}")
        return done.output

    def shell(self, script: str, timeout: float = 60.0) -> str:
        """The output of a shell script that must end with 0."""
        return self.check("/bin/bash", "-euo", "pipefail", "-c", script, timeout=timeout)

    def write(self, path: str, data: bytes) -> None:
        """Writes a file in the guest."""
        answer = self._ask({"write": path, "data": base64.b64encode(data).decode()}, 60.0)
        if answer["status"] != 0:
            raise GuestError(f"cannot write {path} in the guest: {answer['errors']}")

    def set_clock(self, wall: float | None = None) -> None:
        """Sets the guest's wall clock: to the host's, or to `wall`. A restored snapshot wakes in the past."""
        self.check("date", "-u", "-s", f"@{time.time() if wall is None else wall:.3f}")

    def close(self) -> None:
        """Ends the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _ask(self, request: dict[str, Any], deadline_s: float) -> dict[str, Any]:
        connection = self._connection()
        number = next(self._ids)
        end = time.monotonic() + deadline_s
        # The leading newline ends whatever half line a restored guest may still hold.
        connection.settimeout(deadline_s)
        try:
            connection.sendall(b"\n" + json.dumps({"id": number, **request}).encode() + b"\n")
            while True:
                *lines, self._pending = self._pending.split(b"\n")
                for line in lines:
                    answer = _object(line)
                    if answer.get("id") == number:
                        return answer
                left = end - time.monotonic()
                if left <= 0:
                    raise GuestSilent(f"no answer from the guest within {deadline_s:.0f} s")
                connection.settimeout(left)
                received = connection.recv(1 << 16)
                if not received:
                    self.close()
                    raise GuestSilent("QEMU closed the agent's port")
                self._pending += received
        except (TimeoutError, OSError) as error:
            raise GuestSilent(f"no answer from the guest within {deadline_s:.0f} s ({error})") from None

    def _connection(self) -> socket.socket:
        if self._socket is None:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(self._path))
            except OSError as error:
                connection.close()
                raise GuestSilent(f"the agent's port is not there: {error}") from None
            self._socket, self._pending = connection, b""
        return self._socket


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
