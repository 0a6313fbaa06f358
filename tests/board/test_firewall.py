"""The generated firewall with real packets: network namespaces stand for the unit, a LAN host and a WAN host."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from qemu.image.board import load_board
from qemu.image.network import nftables

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft") is None, reason="needs root and nftables for network namespaces"
)

# Serves one TCP connection after the other on every address of the namespace: what the page's socket would be without
# BindToDevice, so that only the firewall stands between it and the WAN.
SERVER = "import socket\ns=socket.create_server(('::',443),family=socket.AF_INET6,dualstack_ipv6=True)\n" + (
    "print('up',flush=True)\nwhile True: s.accept()[0].close()\n"
)
CONNECT = "import socket,sys\nsocket.create_connection((sys.argv[1],int(sys.argv[2])),float(sys.argv[3]))\n"
REACHED_WITHIN_S, REFUSED_AFTER_S = "5", "0.7"


@dataclass
class Net:
    """Three namespaces: `unit` with ge1, lan1, dmz1; `lan`, `dmz` and `wan` with one host each."""

    prefix: str

    def run(self, where: str, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ip", "netns", "exec", f"{self.prefix}{where}", *argv], capture_output=True, text=True, check=False
        )

    def must(self, where: str, *argv: str) -> None:
        done = self.run(where, *argv)
        assert done.returncode == 0, f"{argv}: {done.stderr}"

    def connects(self, where: str, address: str, port: int = 443, *, expected: bool) -> bool:
        seconds = REACHED_WITHIN_S if expected else REFUSED_AFTER_S
        return self.run(where, sys.executable, "-c", CONNECT, address, str(port), seconds).returncode == 0


@pytest.fixture(name="net", scope="module")
def _net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    net = Net(f"fw{uuid.uuid4().hex[:6]}")
    rules = tmp_path_factory.mktemp("fw") / "nftables.conf"
    rules.write_text(nftables(load_board()))
    server: subprocess.Popen[str] | None = None
    try:
        for name in ("unit", "lan", "wan", "dmz"):
            subprocess.run(["ip", "netns", "add", f"{net.prefix}{name}"], check=True)
            net.must(name, "ip", "link", "set", "lo", "up")
        for host, port, unit, peer in (
            ("lan", "lan1", "192.168.168.1/24", "192.168.168.50/24"),
            ("wan", "ge1", "203.0.113.15/24", "203.0.113.2/24"),
            ("dmz", "dmz1", "192.168.169.1/24", "192.168.169.50/24"),
        ):
            net.must("unit", "ip", "link", "add", port, "type", "veth", "peer", "eth0", "netns", f"{net.prefix}{host}")
            net.must("unit", "ip", "address", "add", unit, "dev", port)
            net.must("unit", "ip", "link", "set", port, "up")
            net.must(host, "ip", "address", "add", peer, "dev", "eth0")
            net.must(host, "ip", "link", "set", "eth0", "up")
        # The weak host model's way in: a WAN host that sends packets for the LAN address to the unit's WAN address.
        net.must("wan", "ip", "route", "add", "192.168.168.0/24", "via", "203.0.113.15")
        net.must("unit", "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.ip_forward=1")
        server = subprocess.Popen(
            ["ip", "netns", "exec", f"{net.prefix}unit", sys.executable, "-c", SERVER],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout is not None
        assert server.stdout.readline() == "up\n"
        # Without the firewall the WAN does reach the LAN address: the test would otherwise prove nothing.
        assert net.connects("wan", "192.168.168.1", expected=True)
        net.must("unit", "nft", "-f", str(rules))
        yield net
    finally:
        if server is not None:
            server.kill()
            server.wait()
            assert server.stdout is not None
            server.stdout.close()
        for name in ("unit", "lan", "wan", "dmz"):
            subprocess.run(["ip", "netns", "delete", f"{net.prefix}{name}"], check=False, capture_output=True)


def test_the_lan_reaches_the_page(net: Net) -> None:
    """The firewall lets a LAN host in on 443."""
    assert net.connects("lan", "192.168.168.1", expected=True)


@pytest.mark.parametrize("address", ["203.0.113.15", "192.168.168.1", "192.168.169.1"])
def test_the_wan_reaches_no_address_of_the_unit(net: Net, address: str) -> None:
    """Neither the WAN address nor, by the weak host model, the LAN's or DMZ's, although a server listens on all."""
    assert not net.connects("wan", address, expected=False)


def test_the_dmz_does_not_reach_the_page(net: Net) -> None:
    """The DMZ may ping the unit and go to the internet, nothing else."""
    assert not net.connects("dmz", "192.168.169.1", expected=False)
    assert not net.connects("dmz", "192.168.168.1", expected=False)


def test_a_spoofed_lan_source_on_the_wan_gets_nothing(net: Net) -> None:
    """A WAN host that claims a LAN address is dropped before any rule could trust it."""
    net.must("wan", "ip", "address", "add", "192.168.168.77/32", "dev", "eth0")
    net.must("wan", "ip", "route", "replace", "192.168.168.1/32", "via", "203.0.113.15", "src", "192.168.168.77")
    before = _dropped(net)
    try:
        assert not net.connects("wan", "192.168.168.1", expected=False)
    finally:
        net.must("wan", "ip", "route", "delete", "192.168.168.1/32")
        net.must("wan", "ip", "address", "delete", "192.168.168.77/32", "dev", "eth0")
    assert _dropped(net) > before


def test_only_the_page_is_open_to_the_lan(net: Net) -> None:
    """Another listening port of the unit is not reachable even from the LAN."""
    other = textwrap.dedent(SERVER.replace("443", "8080"))
    server = subprocess.Popen(
        ["ip", "netns", "exec", f"{net.prefix}unit", sys.executable, "-c", other], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "up\n"
        assert not net.connects("lan", "192.168.168.1", 8080, expected=False)
    finally:
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


def _dropped(net: Net) -> int:
    text = net.run("unit", "nft", "list", "chain", "inet", "filter", "own_interface_only").stdout
    words = text.split()
    return sum(int(words[i + 1]) for i, word in enumerate(words) if word == "packets")


def test_the_rules_are_valid_nftables(tmp_path: Path) -> None:
    """nft itself accepts the file, in a namespace of its own."""
    rules = tmp_path / "rules"
    rules.write_text(nftables(load_board()))
    subprocess.run(["unshare", "-n", "nft", "-c", "-f", str(rules)], check=True, capture_output=True)
