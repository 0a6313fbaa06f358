"""Promise P19: from the WAN nothing answers, whatever is sent; from the LAN only what the board documents."""

from __future__ import annotations

import http.client
import ipaddress
import os
import random

import pytest

from qemu.image.board import Board
from qemu.lab.wire import RawHost
from tests.board.conftest import Lab

pytestmark = pytest.mark.qemu

WAN_HOST = ipaddress.IPv4Address("203.0.113.77")
LAN_HOST = ipaddress.IPv4Address("192.168.168.77")
LAN_UNIT = ipaddress.IPv4Address("192.168.168.1")
LINK_LOCAL = ipaddress.IPv6Address("fe80::77")
SAMPLE = [*range(1, 1025), *random.Random(1).sample(range(1025, 65536), 1000)]


def ports() -> list[int]:
    """Every port in a campaign (NOTIFYD_SCAN=full), else the well-known ones and a fixed sample of the rest."""
    return list(range(1, 65536)) if os.environ.get("NOTIFYD_SCAN") == "full" else SAMPLE


def wan_host(lab: Lab, board: Board) -> RawHost:
    return RawHost(lab.unit.machine, "wan", board.mac("ge1"), [WAN_HOST, LINK_LOCAL, LAN_HOST])


def lan_host(lab: Lab) -> RawHost:
    """The bridge has the address of its first port, or one of its own: asked from the guest."""
    mac = lab.unit.agent.check("cat", "/sys/class/net/lan1/address").strip()
    return RawHost(lab.unit.machine, "lan", mac, [LAN_HOST])


def wan_address(lab: Lab) -> ipaddress.IPv4Address:
    text = lab.unit.agent.check("ip", "-4", "-o", "address", "show", "dev", "ge1")
    return ipaddress.IPv4Address(text.split("inet ")[1].split("/")[0])


def test_a_port_scan_from_the_wan_finds_nothing(ready: Lab, board: Board) -> None:
    """No SYN-ACK and no RST from any port of the WAN address; the same scan does find the page on the LAN."""
    with lan_host(ready) as host:
        assert host.scan(LAN_HOST, LAN_UNIT, [443, 80, 22, 8080]) == {443}, host.by_flags()
    with wan_host(ready, board) as host:
        assert host.resolves(WAN_HOST, wan_address(ready)), "no frame comes back on the WAN: a scan would prove nothing"
        assert not host.resolves(WAN_HOST, LAN_UNIT, 2), "the WAN is told where the LAN address is"
        answered = host.scan(WAN_HOST, wan_address(ready), ports())
        heard = host.frames_heard
    print(f"{len(ports())} ports of the WAN address: {len(answered)} answered; {heard} frames heard on the wire")
    assert answered == set()


def test_packets_for_the_lan_address_on_the_wan_get_nothing(ready: Lab, board: Board) -> None:
    """Linux's weak host model would take them; neither the socket nor the firewall does."""
    with wan_host(ready, board) as host:
        for address in (LAN_UNIT, ipaddress.IPv4Address("192.168.169.1"), ipaddress.IPv4Address("127.0.0.1")):
            assert host.scan(WAN_HOST, address, [443, 80, 53, 67]) == set(), address


def test_the_socket_alone_refuses_the_wan(ready: Lab, board: Board) -> None:
    """By construction: with the firewall taken away, the page still answers on the LAN only."""
    ready.unit.agent.shell("nft flush ruleset; sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.ge1.rp_filter=0")
    with lan_host(ready) as host:
        assert host.answers(LAN_HOST, LAN_UNIT, 443, 20)
    with wan_host(ready, board) as host:
        host.scan(WAN_HOST, LAN_UNIT, [443])
        assert not [s for s in host.heard() if s.flags == 0x12], "a SYN-ACK came out of the WAN"


def test_a_spoofed_lan_source_gets_nothing(ready: Lab, board: Board) -> None:
    """Neither back to the WAN nor out to the LAN host whose address was used."""
    with lan_host(ready) as lan, wan_host(ready, board) as wan:
        assert wan.scan(LAN_HOST, LAN_UNIT, [443, 80]) == set()
        assert not lan.heard()


def test_ipv6_on_the_wan_finds_nothing(ready: Lab, board: Board) -> None:
    """Link-local addresses are there without anybody's doing; nothing answers on them."""
    text = ready.unit.agent.check("ip", "-6", "-o", "address", "show", "dev", "ge1", "scope", "link")
    unit = ipaddress.IPv6Address(text.split("inet6 ")[1].split("/")[0])
    with wan_host(ready, board) as host:
        assert host.scan(LINK_LOCAL, unit, [443, 80, 22, 53, 546, 5355]) == set()


def test_a_foreign_host_name_is_refused(ready: Lab) -> None:
    """DNS rebinding: a name that is not the gateway's is not served, although it leads to the right address."""
    status, _ = ready.unit.lan_get("/api/v1/status", host="evil.example")
    assert status in (403, 421), status
    with pytest.raises((OSError, http.client.HTTPException)):
        ready.unit.lan_get("/", port=1)


def test_nothing_listens_but_what_the_board_documents(ready: Lab) -> None:
    """The kernel's own list of sockets: the page and DHCP on the LAN bridge, DHCP's client on the WAN, and no more."""
    listening = set()
    for line in ready.unit.agent.check("ss", "-lntuH").splitlines():
        kind, _, _, _, local = line.split()[:5]
        listening.add((kind, local.rsplit("%", 1)[-1] if "%" in local else local))
    documented = {("tcp", "lan1:443"), ("udp", "lan1:67"), ("udp", "ge1:68"), ("udp", "ge1:546")}
    assert ("tcp", "lan1:443") in listening
    assert ("udp", "lan1:67") in listening
    assert listening <= documented, listening - documented
