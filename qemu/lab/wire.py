"""A host of our own on one of the unit's wires, made of raw frames: it can scan, spoof and speak on a VLAN."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from types import TracebackType

from qemu.lab import frames
from qemu.lab.frames import ACK, RST, SYN, Address, Segment
from qemu.lab.machine import Machine

OUR_MAC = frames.mac_bytes("02:00:5e:77:77:77")
SETTLE_S = 2.0  # an emulated guest answers within a second; after this long it will not
PACE_S = 0.0005


class RawHost:
    """Answers ARP and neighbour discovery for its addresses, and keeps every TCP segment that the unit sends."""

    def __init__(
        self, machine: Machine, zone: str, unit_mac: str, addresses: Iterable[Address], vlan: int | None = None
    ) -> None:
        self._machine, self._zone = machine, zone
        self._unit_mac, self._vlan = frames.mac_bytes(unit_mac), vlan
        self._addresses = set(addresses)
        theirs, ours = machine.raw_wire(zone)
        self._peer = str(theirs)
        ours.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(ours))
        self._heard: list[Segment] = []
        self._isolated = False
        self._resolved: set[ipaddress.IPv4Address] = set()
        self.frames_heard = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def __enter__(self) -> RawHost:
        # The user-mode network shares the wire and would carry these frames out of the lab.
        self._machine.user_network(self._zone, up=False)
        self._isolated = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._isolated = False
        self._machine.user_network(self._zone, up=True)
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def send(self, packet: bytes, kind: int = frames.ETHERTYPE_IPV4) -> None:
        """Sends an IP packet to the unit's hardware address, whatever it says inside."""
        if not self._isolated:
            raise RuntimeError("a raw host sends only while the wire is cut off from the user-mode network")
        self._socket.sendto(frames.ethernet(self._unit_mac, OUR_MAC, kind, packet, self._vlan), self._peer)

    def scan(self, source: Address, destination: Address, ports: Iterable[int], settle_s: float = SETTLE_S) -> set[int]:
        """Sends a SYN to every port and returns those that answered in any way (SYN-ACK or RST)."""
        kind = frames.ETHERTYPE_IPV6 if isinstance(source, ipaddress.IPv6Address) else frames.ETHERTYPE_IPV4
        self.forget()
        for number, port in enumerate(ports):
            segment = frames.tcp_segment(source, destination, 20000 + number % 40000, port, SYN)
            self.send(frames.ip_packet(source, destination, frames.TCP, segment), kind)
            time.sleep(PACE_S)
        time.sleep(settle_s)  # the point is that nothing comes: there is no condition to wait for
        return {segment.source_port for segment in self.heard() if segment.flags & (ACK | RST)}

    def answers(self, source: Address, destination: Address, port: int, deadline_s: float) -> bool:
        """Whether a connection to the port is accepted within the deadline; asks again every half second."""
        kind = frames.ETHERTYPE_IPV6 if isinstance(source, ipaddress.IPv6Address) else frames.ETHERTYPE_IPV4
        end = time.monotonic() + deadline_s
        number = 30000
        while time.monotonic() < end:
            number += 1
            segment = frames.tcp_segment(source, destination, number, port, SYN, sequence=number)
            self.send(frames.ip_packet(source, destination, frames.TCP, segment), kind)
            again = time.monotonic() + 0.5
            while time.monotonic() < again:
                if any(s.source_port == port and s.flags & SYN and s.flags & ACK for s in self.heard()):
                    return True
                time.sleep(0.02)
        return False

    def resolves(self, ours: ipaddress.IPv4Address, wanted: ipaddress.IPv4Address, deadline_s: float = 10.0) -> bool:
        """Whether the unit answers an ARP request for the address: proof that frames go both ways on this wire."""
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            self.send(frames.arp_request(OUR_MAC, ours, wanted), frames.ETHERTYPE_ARP)
            again = time.monotonic() + 1.0
            while time.monotonic() < again:
                if wanted in self._resolved:
                    return True
                time.sleep(0.02)
        return False

    def heard(self) -> list[Segment]:
        """Every TCP segment from the unit since the last `forget`."""
        with self._lock:
            return list(self._heard)

    def forget(self) -> None:
        """Starts anew."""
        with self._lock:
            self._heard.clear()

    def by_flags(self) -> dict[int, int]:
        """How many segments were heard of each kind, for a report."""
        counts: dict[int, int] = defaultdict(int)
        for segment in self.heard():
            counts[segment.flags] += 1
        return dict(counts)

    def _listen(self) -> None:
        while True:
            try:
                frame = self._socket.recv(65536)
            except OSError:
                return
            if not frame:
                return
            self.frames_heard += 1
            if frame[6:12] != self._unit_mac:
                continue
            kind, payload = frames.unwrap(frame)
            if kind == frames.ETHERTYPE_ARP:
                self._answer_arp(payload)
            elif kind == frames.ETHERTYPE_IPV6 and payload[6] == frames.ICMPV6:
                self._answer_neighbour(payload)
            segment = frames.read_tcp(frame)
            if segment is not None:
                with self._lock:
                    self._heard.append(segment)

    def _answer_arp(self, payload: bytes) -> None:
        if payload[6:8] == b"\0\2":
            self._resolved.add(ipaddress.IPv4Address(payload[14:18]))
        wanted = ipaddress.IPv4Address(payload[24:28])
        if payload[6:8] == b"\0\1" and wanted in self._addresses:
            self.send(frames.arp_reply(OUR_MAC, wanted, payload), frames.ETHERTYPE_ARP)

    def _answer_neighbour(self, payload: bytes) -> None:
        if payload[40] != frames.NEIGHBOUR_SOLICITATION:
            return
        wanted = ipaddress.IPv6Address(payload[48:64])
        if wanted in self._addresses:
            asker = ipaddress.IPv6Address(payload[8:24])
            self.send(frames.neighbour_advertisement(OUR_MAC, wanted, asker), frames.ETHERTYPE_IPV6)
