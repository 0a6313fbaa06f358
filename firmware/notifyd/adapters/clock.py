"""The two clocks and the boot's identity."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

from notifyd.core.instant import Instant


def now() -> Instant:
    """This moment on the boot clock (counts suspend, never steps) and on the wall clock."""
    return Instant(boot=time.clock_gettime(time.CLOCK_BOOTTIME), wall=time.time())


@cache
def boot_id() -> str:
    """Names this boot: boot-clock times of different boots cannot be compared."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
