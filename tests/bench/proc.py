"""What the kernel knows of a process: memory it really costs, how often it woke."""

from __future__ import annotations

import re
from pathlib import Path


def pss_kib(pid: int) -> int:
    """Proportional set size in KiB (`/proc/PID/smaps_rollup`): private pages plus a share of the shared ones."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    match = re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)
    assert match, text
    return int(match[1])


def wakeups(pid: int) -> int:
    """Voluntary context switches of all threads so far: each is a wait that ended."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        match = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read_text(), re.MULTILINE)
        assert match
        total += int(match[1])
    return total


def children(pid: int) -> list[int]:
    """Direct children that are alive."""
    return [int(word) for task in Path(f"/proc/{pid}/task").glob("*/children") for word in task.read_text().split()]
