"""Durable accepts a second over one kept connection to the admin socket."""

from __future__ import annotations

import http.client
import json
import socket
import statistics
import time
from pathlib import Path

MESSAGES = 300
RUNS = 3


class UnixConnection(http.client.HTTPConnection):
    """`http.client` over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def measure(run: Path) -> dict[str, float]:
    """`accepts_per_s`: median over runs; every one of them is on disk before its 202."""
    connection = UnixConnection(run / "admin.sock")
    body = json.dumps({"to": ["ops@contoso.example"], "subject": "bench", "text": "x" * 2000, "priority": "bulk"})
    rates = []
    for _ in range(RUNS):
        started = time.perf_counter()
        for _ in range(MESSAGES):
            connection.request("POST", "/api/v1/mail", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 202, text
        rates.append(MESSAGES / (time.perf_counter() - started))
    connection.close()
    return {"accepts_per_s": round(statistics.median(rates), 1)}
