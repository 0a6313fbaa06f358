"""What the service manager is told (sd_notify(3)), without its library: one datagram each."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress


class Manager:
    """The service manager named by NOTIFY_SOCKET; does nothing where there is none."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        watched = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._watchdog_usec = int(environ.get("WATCHDOG_USEC", "0")) if watched else 0

    @property
    def watchdog_s(self) -> float | None:
        """How often to send WATCHDOG=1: half of what the manager waits, as sd_watchdog_enabled(3) advises."""
        return self._watchdog_usec / 2e6 if self._watchdog_usec and self._address else None

    def tell(self, **values: str) -> None:
        """Sends assignments such as READY="1", STATUS="…". A manager that does not listen is no fault of ours."""
        if not self._address:
            return
        text = "\n".join(f"{name}={value}" for name, value in values.items())
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(text.encode(), self._address)
