"""This process's own limits: no core dump, no reader of its memory, one instance a data directory."""

from __future__ import annotations

import fcntl
import os
import resource
from pathlib import Path

PR_SET_DUMPABLE = 4


class AlreadyRunning(Exception):
    """Another notifyd uses this data directory."""


def keep_memory_private() -> None:
    """No core dumps, and /proc/PID/mem and ptrace are for root only (prctl(2) PR_SET_DUMPABLE)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def lock_directory(data: Path) -> int:
    """Takes the directory for this process; the lock goes with it. Raises AlreadyRunning, OSError."""
    descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise AlreadyRunning(f"another notifyd is running on {data}") from None
    return descriptor
