"""What the kernel says about the network: the LAN's addresses, and whether there is a way to the internet.

A plain netlink socket under asyncio, with pyroute2's message codecs. pyroute2's own sockets are not used because they
bring 8 MiB of modules with them into a service that idles in 20: the codecs alone cost half a MiB. After any relevant
message everything is read anew (it takes a millisecond), so no message can be misread into a wrong picture.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import ipaddress
import socket
import struct
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import ModuleType
from typing import Any

DEBOUNCE_S = 0.3
"""A link that comes up sends some ten messages in a burst; one look after them is enough."""

DUMP_TIMEOUT_S = 2.0
"""The kernel answers a request while it is being sent; anything longer is a fault."""

INTERRUPTED_DUMPS = 3
"""A dump that something changed under is repeated this often; then the next message repairs it."""

BEYOND = ("198.41.0.4", "2001:503:ba3e::2:30")
"""Where the way to the internet is looked up: a root name server, whose addresses have not moved in decades.
Nothing is sent there: the kernel's routing table is asked which interface it would use."""

NLMSG_HEADER = struct.Struct("=IHHII")
IFINFO = struct.Struct("=BxHiII")
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP, NLM_F_DUMP_INTR = 0x1, 0x300, 0x10
RTM_NEWLINK, RTM_GETLINK, RTM_NEWADDR, RTM_GETADDR = 16, 18, 20, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE = 0x1, 0x10, 0x40
RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE = 0x100, 0x400
GROUPS = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE
IFF_UP, IFF_RUNNING = 0x1, 0x40
IFA_F_DADFAILED, IFA_F_TENTATIVE = 0x08, 0x40
RTN_UNICAST, RTA_DST = 1, 1
LOOPBACK = "lo"


@dataclass(frozen=True, slots=True)
class LanAddress:
    """An address of the gateway that browsers in the LAN can use; link-local and tentative ones are left out."""

    interface: str
    address: str
    prefix_length: int


@dataclass(frozen=True, slots=True)
class NetworkState:
    """wan_up: the kernel has a route to the internet over a running interface that is not one of the LAN's.

    On a workstation whose only LAN interface is the loopback, what would be the WAN is local too, and counts as up.
    """

    lan: tuple[LanAddress, ...]
    wan_up: bool


class NetlinkWatch:
    """Watches the interfaces named as the LAN; `lan*` names every one of that beginning. Needs no privilege."""

    def __init__(self, lan_interfaces: Sequence[str]) -> None:
        self._lan = frozenset(lan_interfaces)

    def _is_lan(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self._lan)

    def current(self) -> NetworkState:
        """The state now, from one reading of the kernel's tables. Raises OSError."""
        with closing(_open(0)) as sock:
            sock.settimeout(DUMP_TIMEOUT_S)
            running = dict(_links(sock))
            lan = sorted(_lan_addresses(sock, self._is_lan), key=lambda item: (item.interface, item.address))
            return NetworkState(tuple(lan), self._lan == {LOOPBACK} or self._wan_up(sock, running))

    async def states(self) -> AsyncGenerator[NetworkState, None]:
        """The state at once, and then each time it has changed. Ends only by cancellation."""
        changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        with closing(_open(GROUPS)) as sock:
            sock.setblocking(False)
            loop.add_reader(sock, _drain, sock, changed.set)
            try:
                last: NetworkState | None = None
                while True:
                    state = self.current()
                    if state != last:
                        last = state
                        yield state
                    await changed.wait()
                    await asyncio.sleep(DEBOUNCE_S)
                    changed.clear()
            finally:
                loop.remove_reader(sock)

    def _wan_up(self, sock: socket.socket, running: dict[int, bool]) -> bool:
        outgoing = filter(None, (_outgoing_interface(sock, address) for address in BEYOND))
        return any(running.get(index, False) and not self._is_lan(_name(index)) for index in outgoing)


def _open(groups: int) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    try:
        sock.bind((0, groups))
    except OSError:
        sock.close()
        raise
    return sock


def _drain(sock: socket.socket, changed: Callable[[], None]) -> None:
    """Empty the socket; routes other than default ones are noise on a router and are not worth a look."""
    while True:
        try:
            data = sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:  # ENOBUFS: messages were lost, which a fresh look repairs
            changed()
            return
        if any(_matters(kind, data, start) for kind, _flags, start, _end in _messages(data)):
            changed()


def _matters(kind: int, data: bytes, start: int) -> bool:
    prefix_length = data[start + 1] if len(data) > start + 1 else 0  # struct rtmsg: family, dst_len
    return kind not in (RTM_NEWROUTE, RTM_DELROUTE) or prefix_length == 0


def _messages(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Type, flags, payload start and end of each message in a datagram (netlink(7))."""
    offset = 0
    while offset + NLMSG_HEADER.size <= len(data):
        length, kind, flags, _sequence, _port = NLMSG_HEADER.unpack_from(data, offset)
        if length < NLMSG_HEADER.size:
            return
        yield kind, flags, offset + NLMSG_HEADER.size, offset + length
        offset += (length + 3) & ~3


def _links(sock: socket.socket) -> Iterator[tuple[int, bool]]:
    """Interface index → up and running. Family 0 only: a bridge's own messages tell of ports, not of interfaces."""
    for data, start, _end in _dump(sock, RTM_GETLINK, RTM_NEWLINK):
        family, _hardware, index, flags, _change = IFINFO.unpack_from(data, start)
        if family == socket.AF_UNSPEC:
            yield index, flags & IFF_UP != 0 and flags & IFF_RUNNING != 0


def _lan_addresses(sock: socket.socket, is_lan: Callable[[str], bool]) -> Iterator[LanAddress]:
    for data, start, _end in _dump(sock, RTM_GETADDR, RTM_NEWADDR):
        message = _decode("ifaddrmsg", data, start)
        name = _name(message["index"])
        flags = message.get_attr("IFA_FLAGS") or message["flags"]
        address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        if not is_lan(name) or not address or flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED):
            continue
        if not ipaddress.ip_address(address).is_link_local:
            yield LanAddress(name, address, message["prefixlen"])


def _outgoing_interface(sock: socket.socket, address: str) -> int | None:
    """The interface the kernel would send to `address` through, or None when it has no way there."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    route = struct.pack("=BBBBBBBBI", family, len(packed) * 8, 0, 0, 0, 0, 0, 0, 0)
    attribute = struct.pack("=HH", 4 + len(packed), RTA_DST) + packed
    for kind, data, start, _end, _flags in _request(sock, RTM_GETROUTE, NLM_F_REQUEST, route + attribute):
        if kind == RTM_NEWROUTE:
            message = _decode("rtmsg", data, start)
            return message.get_attr("RTA_OIF") if message["type"] == RTN_UNICAST else None
    return None


def _dump(sock: socket.socket, ask: int, expect: int) -> Iterator[tuple[bytes, int, int]]:
    for _ in range(INTERRUPTED_DUMPS):
        found = list(_request(sock, ask, NLM_F_REQUEST | NLM_F_DUMP, bytes(4)))
        if not any(flags & NLM_F_DUMP_INTR for *_, flags in found):
            break
    return ((data, start, end) for kind, data, start, end, _flags in found if kind == expect)


def _request(sock: socket.socket, ask: int, flags: int, payload: bytes) -> Iterator[tuple[int, bytes, int, int, int]]:
    """Send one request and give every message of its answer: until DONE for a dump, or one message or an error."""
    sock.sendto(NLMSG_HEADER.pack(NLMSG_HEADER.size + len(payload), ask, flags, 1, 0) + payload, (0, 0))
    while True:
        data = sock.recv(1 << 17)
        for kind, message_flags, start, end in _messages(data):
            if kind in (NLMSG_DONE, NLMSG_ERROR):
                return
            yield kind, data, start, end, message_flags
            if not flags & NLM_F_DUMP:
                return


def _name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""


def _decode(codec: str, data: bytes, start: int) -> Any:
    module = _codec_module(codec)
    message = getattr(module, codec)(data[start - NLMSG_HEADER.size :])
    message.decode()
    return message


def _codec_module(codec: str) -> ModuleType:
    """Import one codec without running pyroute2's package initialiser, which would import the whole library."""
    if "pyroute2" not in sys.modules:
        spec = importlib.util.find_spec("pyroute2")
        if spec is None or spec.submodule_search_locations is None:
            raise ModuleNotFoundError("pyroute2")
        package = ModuleType("pyroute2")
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules["pyroute2"] = package
    return importlib.import_module(f"pyroute2.netlink.rtnl.{codec}")
