"""Idle cost: the resident service with a valid grant against bare asyncio and ssl, measured side by side."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from qemu.workstation.processes import child_environment, die_with_parent
from tests.bench.proc import children, pss_kib, wakeups

BARE = "import asyncio, ssl\nasyncio.run(asyncio.Event().wait())"
SETTLE_S = 20  # the probe's connection and the batched events are done with by then
WATCH_S = 60
SAMPLES = 5


def measure(notifyd_pid: int) -> dict[str, float]:
    """`idle_pss_ratio`, `idle_pss_kib`, `bare_pss_kib`, `idle_wakeups_per_min`, `bare_wakeups_per_min`."""
    bare = subprocess.Popen([sys.executable, "-c", BARE], env=child_environment(), preexec_fn=die_with_parent)
    try:
        time.sleep(SETTLE_S)
        assert not children(notifyd_pid), "the idle service still has a worker"
        before = wakeups(notifyd_pid), wakeups(bare.pid)
        ours, theirs = [], []
        for _ in range(SAMPLES):
            time.sleep(WATCH_S / SAMPLES)
            ours.append(pss_kib(notifyd_pid))
            theirs.append(pss_kib(bare.pid))
        after = wakeups(notifyd_pid), wakeups(bare.pid)
    finally:
        bare.kill()
        bare.wait()
    return {
        "idle_pss_ratio": round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3),
        "idle_pss_kib": statistics.median(ours),
        "bare_pss_kib": statistics.median(theirs),
        "idle_wakeups_per_min": round((after[0] - before[0]) * 60 / WATCH_S, 2),
        "bare_wakeups_per_min": round((after[1] - before[1]) * 60 / WATCH_S, 2),
    }
