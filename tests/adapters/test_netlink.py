"""The netlink watch: what a router's interfaces do, in a network namespace of its own."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from notifyd.adapters.netlink import LanAddress, NetlinkWatch

SCENARIO = """
import asyncio, json, subprocess
from notifyd.adapters.netlink import NetlinkWatch

def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)

async def main():
    ip("link", "set", "lo", "up")
    ip("link", "add", "br0", "type", "bridge")
    ip("link", "add", "lan0", "type", "veth", "peer", "name", "pc0")
    ip("link", "add", "wan0", "type", "veth", "peer", "name", "isp0")
    states = NetlinkWatch(["br0"]).states()

    async def see(what):
        state = await asyncio.wait_for(anext(states), 10)
        print(json.dumps({"what": what, "lan": [a.address for a in state.lan], "wan": state.wan_up}), flush=True)

    await see("start")
    ip("link", "set", "lan0", "master", "br0")
    for link in ("lan0", "pc0", "br0"):
        ip("link", "set", link, "up")
    ip("addr", "add", "192.168.7.1/24", "dev", "br0")
    await see("address")
    ip("addr", "add", "fd07::1/64", "dev", "br0", "nodad")
    await see("second address")
    for link in ("wan0", "isp0"):
        ip("link", "set", link, "up")
    ip("addr", "add", "198.51.100.2/24", "dev", "wan0")
    ip("route", "add", "default", "via", "198.51.100.1")
    await see("wan up")
    ip("link", "set", "isp0", "down")
    await see("cable out")
    ip("link", "set", "isp0", "up")
    await see("cable in")
    ip("route", "del", "default")
    await see("no route")
    for n in range(40):
        ip("route", "add", f"10.{n}.0.0/16", "via", "198.51.100.1")
    ip("link", "set", "lan0", "nomaster")
    ip("addr", "del", "192.168.7.1/24", "dev", "br0")
    await see("address gone")
    ip("link", "del", "br0")
    await see("bridge gone")

asyncio.run(main())
"""


def _in_namespace(tmp_path: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        ["unshare", "--net", "--map-root-user", *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )


def test_addresses_and_wan_are_followed_as_they_come_and_go(tmp_path: Path) -> None:
    """Every change of the LAN's addresses and of the way out is reported once, without a privilege or a poll."""
    possible = _in_namespace(tmp_path, "ip", "link", "add", "br0", "type", "bridge")
    if possible.returncode:
        pytest.skip(f"no bridge in a network namespace here: {possible.stderr.strip()} (errno {errno.EOPNOTSUPP}?)")
    done = _in_namespace(tmp_path, sys.executable, "-c", SCENARIO)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = [json.loads(line) for line in done.stdout.splitlines()]
    both = ["192.168.7.1", "fd07::1"]
    assert [(s["what"], s["lan"], s["wan"]) for s in seen] == [
        ("start", [], False),
        ("address", ["192.168.7.1"], False),
        ("second address", both, False),
        ("wan up", both, True),
        ("cable out", both, False),
        ("cable in", both, True),
        ("no route", both, False),
        ("address gone", ["fd07::1"], False),
        ("bridge gone", [], False),
    ]


def test_loopback_serves_as_the_lan_of_a_workstation() -> None:
    """With `lo` as the only LAN interface there are addresses to use, and what would be the WAN counts as up."""
    state = NetlinkWatch(["lo"]).current()
    assert LanAddress("lo", "127.0.0.1", 8) in state.lan
    assert state.wan_up


def test_unknown_interface_has_no_addresses() -> None:
    """A LAN that does not exist yet is not an error: it may come."""
    assert NetlinkWatch(["nosuch0"]).current().lan == ()


def test_watch_ends_cleanly_when_cancelled() -> None:
    """Shutdown leaves no reader in the loop."""

    async def watch() -> None:
        states = NetlinkWatch(["lo"]).states()
        await anext(states)
        waiting = asyncio.ensure_future(anext(states))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await states.aclose()

    asyncio.run(watch())


def test_codecs_come_without_the_rest_of_the_library() -> None:
    """pyroute2's package initialiser would bring 8 MiB into the resident service."""
    program = (
        "import sys; from notifyd.adapters.netlink import NetlinkWatch; NetlinkWatch(['lo']).current();"
        "print(sum(name.startswith('pyroute2') for name in sys.modules), 'multiprocessing' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    count, _multiprocessing = out.stdout.split()
    assert int(count) < 12
