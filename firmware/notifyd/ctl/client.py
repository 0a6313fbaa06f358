"""A small HTTP/1.1 client for the admin socket; the standard library's one cannot speak over a Unix socket."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_S = 100.0  # the longest call (a renewal at a slow Microsoft) is bounded by notifyd at 60 s


class Unreachable(Exception):
    """notifyd does not answer; the text says where it was looked for and why it failed."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; `document` is the parsed JSON, or the raw bytes when it is something else."""

    status: int
    document: Any
    headers: Mapping[str, str]

    @property
    def ok(self) -> bool:
        return self.status < 400


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float | None) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Client:
    """Calls the API on one socket."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or Path(os.environ.get("NOTIFYD_RUN", "/run/notifyd")) / "admin.sock"

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        media_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One call; `body` is sent as JSON unless it is bytes. Raises Unreachable."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = dict(headers or {})
        if data is not None:
            sent["Content-Type"] = media_type
        connection = _UnixConnection(self.path, TIMEOUT_S)
        try:
            connection.request(method, path, data, sent)
            response = connection.getresponse()
            raw = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"cannot reach notifyd at {self.path}: {_reason(error)}") from error
        finally:
            connection.close()
        found = {name.lower(): value for name, value in response.getheaders()}
        is_json = "json" in found.get("content-type", "")
        return Reply(response.status, json.loads(raw) if is_json and raw else raw, found)

    def stream(self, path: str, last_id: int | None = None) -> Iterator[dict[str, Any]]:
        """The records of a followed event log, until the connection ends. Raises Unreachable."""
        connection = _UnixConnection(self.path, None)
        headers = {"Accept": "text/event-stream"}
        if last_id is not None:
            headers["Last-Event-ID"] = str(last_id)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            if response.status != 200:
                raise Unreachable(f"cannot follow the events: notifyd answers {response.status}")
            for line in response:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"cannot reach notifyd at {self.path}: {_reason(error)}") from error
        finally:
            connection.close()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
