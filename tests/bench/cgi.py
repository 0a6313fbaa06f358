"""The CGI's wall time against a bare interpreter's, in turn, so that a slow moment hits both."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from qemu.workstation.gateway import REPOSITORY

CGI = REPOSITORY / "firmware" / "cgi-bin" / "msoauth2.cgi"
PAIRS = 40


def measure(run: Path) -> dict[str, float]:
    """`cgi_wall_ratio`: a refused callback through the real socket in `run`, over `python3 -IS -c pass`."""
    environment = {
        "NOTIFYD_RUN": str(run),
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REQUEST_METHOD": "GET",
        "QUERY_STRING": "code=bench&state=bench",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8443",
        "SERVER_ADDR": "127.0.0.1",
        "REMOTE_ADDR": "127.0.0.1",
        "SCRIPT_NAME": "/cgi-bin/msoauth2.cgi",
        "HTTPS": "on",
    }
    interpreter = str(Path(sys.executable).resolve())
    ours, bare = [], []
    for _ in range(PAIRS):
        started = time.perf_counter()
        answer = subprocess.run([interpreter, "-IS", str(CGI)], env=environment, capture_output=True, check=True)
        ours.append(time.perf_counter() - started)
        assert answer.stdout.startswith(b"Status: 4"), answer.stdout[:200]
        started = time.perf_counter()
        subprocess.run([interpreter, "-IS", "-c", "pass"], env=environment, capture_output=True, check=True)
        bare.append(time.perf_counter() - started)
    return {
        "cgi_wall_ratio": round(statistics.median(a / b for a, b in zip(ours, bare, strict=True)), 3),
        "cgi_wall_ms": round(statistics.median(ours) * 1000, 2),
        "bare_interpreter_wall_ms": round(statistics.median(bare) * 1000, 2),
    }
