"""This process's own limits: no core dump, no reader of its memory, little of it, one instance a data directory."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import resource
from pathlib import Path

PR_SET_DUMPABLE = 4
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
LARGE_BLOCK = 64 * 1024
"""Blocks of this size and more go back to the kernel when freed: a mail passing through leaves nothing behind."""
SETTLE_S = 2.0


class AlreadyRunning(Exception):
    """Another notifyd uses this data directory."""


def keep_memory_private() -> None:
    """No core dumps, and /proc/PID/mem and ptrace are for root only (prctl(2) PR_SET_DUMPABLE)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def use_memory_sparingly() -> None:
    """One malloc arena for all threads and large blocks mapped apart (mallopt(3)); call before any thread starts."""
    import ctypes

    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc's; another libc has its own ways
        for parameter, value in ((M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, LARGE_BLOCK), (M_TRIM_THRESHOLD, LARGE_BLOCK)):
            libc.mallopt(parameter, value)


class MemoryReturn:
    """Gives freed memory back to the kernel some time after work is done, once for a burst of work."""

    def __init__(self) -> None:
        self._planned: asyncio.TimerHandle | None = None

    def soon(self) -> None:
        """Plan it, or put it off when it is planned already."""
        if self._planned is not None:
            self._planned.cancel()
        self._planned = asyncio.get_running_loop().call_later(SETTLE_S, self._give_back)

    def _give_back(self) -> None:
        import ctypes

        self._planned = None
        gc.collect()
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):
            libc.malloc_trim(0)


def lock_directory(data: Path) -> int:
    """Takes the directory for this process; the lock goes with it. Raises AlreadyRunning, OSError."""
    descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise AlreadyRunning(f"another notifyd is running on {data}") from None
    return descriptor
