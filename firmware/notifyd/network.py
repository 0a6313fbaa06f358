"""What the service knows of the network: the LAN's names and addresses, and the news that the WAN came or went."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from notifyd.adapters.eventlog import EventLog
from notifyd.adapters.netlink import NetlinkWatch, NetworkState

WATCH_AGAIN_S = 300.0


class Network:
    """Follows the kernel's news. names: DNS names of the gateway in the LAN, in the order they are to be shown."""

    def __init__(
        self,
        interfaces: Sequence[str],
        names: Sequence[str],
        https_port: int,
        log: EventLog,
        wan_changed: Callable[[bool], None],
    ) -> None:
        self.names = tuple(names)
        self.https_port = https_port
        self.addresses: tuple[str, ...] = ()
        self.wan_up = True
        self._watch = NetlinkWatch(interfaces)
        self._log = log
        self._wan_changed = wan_changed
        self._known = False

    async def follow(self) -> None:
        """Runs until cancelled; a watch that fails is begun again after a while."""
        while True:
            try:
                async for state in self._watch.states():
                    self._take(state)
            except OSError as error:
                self._log.emit("network.watch_failed", reason=f"{type(error).__name__}: {error.strerror}")
            await asyncio.sleep(WATCH_AGAIN_S)

    def look(self) -> None:
        """Takes the state of this moment, so that redirect URIs are known before the first news."""
        try:
            self._take(self._watch.current())
        except OSError as error:
            self._log.emit("network.watch_failed", reason=f"{type(error).__name__}: {error.strerror}")

    def _take(self, state: NetworkState) -> None:
        addresses = tuple(item.address for item in state.lan)
        if addresses != self.addresses:
            self.addresses = addresses
            if self._known:
                self._log.emit("network.lan_changed", addresses=", ".join(addresses) or "none")
        if state.wan_up != self.wan_up:
            self.wan_up = state.wan_up
            self._wan_changed(state.wan_up)
        self._known = True
