"""Ethernet frames by hand: what a host on a wire may send, and what no honest one would.

RFC 791, 826, 4861, 8200, 9293.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

ETHERTYPE_IPV4, ETHERTYPE_ARP, ETHERTYPE_IPV6, ETHERTYPE_VLAN = 0x0800, 0x0806, 0x86DD, 0x8100
TCP, UDP, ICMPV6 = 6, 17, 58
SYN, RST, ACK = 0x02, 0x04, 0x10
NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT = 135, 136

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Segment:
    """What matters of a received TCP segment."""

    source: Address
    destination: Address
    source_port: int
    destination_port: int
    flags: int


def mac_bytes(text: str) -> bytes:
    """The six bytes of `aa:bb:…`."""
    return bytes.fromhex(text.replace(":", ""))


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(destination: bytes, source: bytes, kind: int, payload: bytes, vlan: int | None = None) -> bytes:
    """A frame, tagged when `vlan` is given, padded to the shortest length."""
    tag = struct.pack(">HH", ETHERTYPE_VLAN, vlan) if vlan is not None else b""
    return (destination + source + tag + struct.pack(">H", kind) + payload).ljust(60, b"\0")


def ip_packet(source: Address, destination: Address, protocol: int, payload: bytes) -> bytes:
    """An IPv4 or IPv6 packet, by the kind of the addresses."""
    if isinstance(source, ipaddress.IPv6Address):
        head = struct.pack(">IHBB", 6 << 28, len(payload), protocol, 255)
        return head + source.packed + destination.packed + payload
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0)
    head += source.packed + destination.packed
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def tcp_segment(
    source: Address, destination: Address, source_port: int, destination_port: int, flags: int, sequence: int = 1000
) -> bytes:
    """A TCP segment without data, with its checksum."""
    head = struct.pack(">HHIIBBHHH", source_port, destination_port, sequence, 0, 5 << 4, flags, 64240, 0, 0)
    value = checksum(_pseudo(source, destination, TCP, len(head)) + head)
    return head[:16] + struct.pack(">H", value) + head[18:]


def udp_datagram(source: Address, destination: Address, source_port: int, destination_port: int, data: bytes) -> bytes:
    """A UDP datagram with its checksum."""
    length = 8 + len(data)
    head = struct.pack(">HHHH", source_port, destination_port, length, 0)
    value = checksum(_pseudo(source, destination, UDP, length) + head + data) or 0xFFFF
    return head[:6] + struct.pack(">H", value) + data


def arp_reply(ours: bytes, our_address: ipaddress.IPv4Address, request: bytes) -> bytes:
    """The answer to an ARP request's payload."""
    asker, asker_address = request[8:14], request[14:18]
    head = struct.pack(">HHBBH", 1, ETHERTYPE_IPV4, 6, 4, 2)
    return head + ours + our_address.packed + asker + asker_address


def arp_request(ours: bytes, our_address: ipaddress.IPv4Address, wanted: ipaddress.IPv4Address) -> bytes:
    """The payload of an ARP request."""
    head = struct.pack(">HHBBH", 1, ETHERTYPE_IPV4, 6, 4, 1)
    return head + ours + our_address.packed + bytes(6) + wanted.packed


def neighbour_advertisement(ours: bytes, address: ipaddress.IPv6Address, asker: ipaddress.IPv6Address) -> bytes:
    """The packet that answers a neighbour solicitation (RFC 4861 §4.4)."""
    body = struct.pack(">BBHI", NEIGHBOUR_ADVERTISEMENT, 0, 0, 0x60000000) + address.packed + b"\x02\x01" + ours
    value = checksum(_pseudo(address, asker, ICMPV6, len(body)) + body)
    return ip_packet(address, asker, ICMPV6, body[:2] + struct.pack(">H", value) + body[4:])


def read_tcp(frame: bytes) -> Segment | None:
    """The TCP segment in a received frame, or None."""
    kind, payload = unwrap(frame)
    if kind == ETHERTYPE_IPV4 and len(payload) >= 40 and payload[9] == TCP:
        offset = (payload[0] & 0xF) * 4
        source: Address = ipaddress.IPv4Address(payload[12:16])
        destination: Address = ipaddress.IPv4Address(payload[16:20])
    elif kind == ETHERTYPE_IPV6 and len(payload) >= 60 and payload[6] == TCP:
        offset = 40
        source, destination = ipaddress.IPv6Address(payload[8:24]), ipaddress.IPv6Address(payload[24:40])
    else:
        return None
    source_port, destination_port = struct.unpack_from(">HH", payload, offset)
    return Segment(source, destination, source_port, destination_port, payload[offset + 13])


def unwrap(frame: bytes) -> tuple[int, bytes]:
    """Ethertype and payload, without a VLAN tag."""
    kind = int(struct.unpack_from(">H", frame, 12)[0])
    if kind == ETHERTYPE_VLAN:
        return int(struct.unpack_from(">H", frame, 16)[0]), frame[18:]
    return kind, frame[14:]


def _pseudo(source: Address, destination: Address, protocol: int, length: int) -> bytes:
    if isinstance(source, ipaddress.IPv6Address):
        return source.packed + destination.packed + struct.pack(">II", length, protocol)
    return source.packed + destination.packed + struct.pack(">BBH", 0, protocol, length)
