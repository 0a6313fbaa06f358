"""What the system says about itself at this moment. Every source may be missing; then it is named, with the reason.

Files are read below a root that tests can move; the network is asked through netlink.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

PHYSICAL = "ethernet"
VPN_KINDS = frozenset({"wireguard", "tun", "xfrm", "vti", "vti6", "ipip", "gre", "ppp", "ipsec"})
REAL_FILE_SYSTEMS = frozenset({"ext4", "ext3", "ext2", "f2fs", "ubifs", "btrfs", "xfs", "vfat", "overlay", "tmpfs"})
SKIPPED_MOUNTS = ("/proc", "/sys", "/dev", "/run", "/etc/", "/boot/")
LEASE_FILES = (
    "var/lib/misc/dnsmasq.leases",
    "run/dnsmasq.leases",
    "tmp/dhcp.leases",
    "data/dhcp/dnsmasq.leases",
    "var/lib/kea/kea-leases4.csv",
)
MAX_LEASES = 1000

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Interface:
    """One network interface; counters in bytes and packets since it was made."""

    name: str
    kind: str
    up: bool
    wan: bool
    addresses: tuple[str, ...]
    rx_bytes: int
    tx_bytes: int
    rx_errors: int
    tx_errors: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Storage:
    """One mounted file system, in bytes."""

    mount: str
    total: int
    free: int


@dataclass(frozen=True, slots=True)
class Lease:
    """One DHCP lease. ends: wall clock, 0 when it does not end."""

    address: str
    mac: str
    name: str
    ends: float


@dataclass(frozen=True, slots=True)
class System:
    """The figures of one moment. What could not be read is None or empty, and `missing` says why."""

    taken_at: float
    boot_id: str
    host: str
    model: str | None = None
    version: str | None = None
    kernel: str | None = None
    slot: str | None = None
    uptime_s: float | None = None
    load: tuple[float, float, float] | None = None
    cpus: int = 1
    cpu_busy: int | None = None
    cpu_total: int | None = None
    memory_total: int | None = None
    memory_available: int | None = None
    temperature: float | None = None
    sessions: int | None = None
    sessions_max: int | None = None
    storage: tuple[Storage, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    leases: tuple[Lease, ...] | None = None
    missing: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Everything, for `--json`."""
        return asdict(self)


def gather(root: Path = Path("/"), links: Callable[[], Iterable[Interface]] | None = None) -> System:
    """Looks at everything once; never raises for a source that is missing."""
    missing: dict[str, str] = {}

    def attempt(name: str, read: Callable[[], Found]) -> Found | None:
        try:
            return read()
        except (OSError, ValueError, KeyError, IndexError, ImportError, RuntimeError) as error:
            missing[name] = _reason(error)
            return None

    cpu = attempt("cpu", lambda: _cpu(root))
    memory = attempt("memory", lambda: _memory(root)) or {}
    sessions = attempt("sessions", lambda: _sessions(root)) or (None, None)
    release = attempt("version", lambda: _release(root)) or {}
    interfaces = attempt("interfaces", lambda: tuple((links or _links)()))
    return System(
        taken_at=time.time(),
        boot_id=attempt("boot", lambda: _text(root, "proc/sys/kernel/random/boot_id")) or "",
        host=attempt("host", lambda: _text(root, "proc/sys/kernel/hostname")) or socket.gethostname(),
        model=attempt("model", lambda: _model(root)),
        version=release.get("PRETTY_NAME") or release.get("VERSION"),
        kernel=attempt("kernel", lambda: _text(root, "proc/sys/kernel/osrelease")),
        slot=_slot(attempt("slot", lambda: _text(root, "proc/cmdline")) or ""),
        uptime_s=attempt("uptime", lambda: float(_text(root, "proc/uptime").split()[0])),
        load=attempt("load", lambda: _load(root)),
        cpus=os.cpu_count() or 1,
        cpu_busy=cpu[0] if cpu else None,
        cpu_total=cpu[1] if cpu else None,
        memory_total=memory.get("MemTotal"),
        memory_available=memory.get("MemAvailable"),
        temperature=attempt("temperature", lambda: _temperature(root)),
        sessions=sessions[0],
        sessions_max=sessions[1],
        storage=attempt("storage", lambda: tuple(_storage(root))) or (),
        interfaces=interfaces or (),
        leases=attempt("leases", lambda: _leases(root)),
        missing=missing,
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _text(root: Path, name: str) -> str:
    return (root / name).read_text("utf-8", "replace").strip("\0\n ")


def _cpu(root: Path) -> tuple[int, int]:
    """Busy and all jiffies since the start (proc(5), /proc/stat)."""
    numbers = [int(word) for word in _text(root, "proc/stat").splitlines()[0].split()[1:9]]
    idle = numbers[3] + numbers[4]
    return sum(numbers) - idle, sum(numbers)


def _memory(root: Path) -> dict[str, int]:
    lines = (line.split() for line in _text(root, "proc/meminfo").splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) >= 2}


def _load(root: Path) -> tuple[float, float, float]:
    one, five, fifteen = map(float, _text(root, "proc/loadavg").split()[:3])
    return one, five, fifteen


def _sessions(root: Path) -> tuple[int, int]:
    base = "proc/sys/net/netfilter/nf_conntrack_"
    return int(_text(root, base + "count")), int(_text(root, base + "max"))


def _release(root: Path) -> dict[str, str]:
    pairs = (line.partition("=") for line in _text(root, "etc/os-release").splitlines())
    return {name: value.strip('"') for name, _, value in pairs}


def _model(root: Path) -> str:
    for name in ("proc/device-tree/model", "sys/class/dmi/id/product_name"):
        if (root / name).is_file():
            return _text(root, name)
    raise ValueError("the system names no model")


def _slot(command_line: str) -> str | None:
    slots = (word.partition("slot=")[2] for word in command_line.split() if "slot=" in word)
    return next((slot.upper() for slot in slots if slot), None)


def _temperature(root: Path) -> float:
    """The warmest of the sensors, in degrees Celsius."""
    patterns = ("sys/class/thermal/thermal_zone*/temp", "sys/class/hwmon/hwmon*/temp*_input")
    readings = []
    for path in (path for pattern in patterns for path in sorted(root.glob(pattern))):
        try:
            readings.append(int(path.read_text()) / 1000)
        except (OSError, ValueError):
            continue
    plausible = [reading for reading in readings if -40 < reading < 150]
    if not plausible:
        raise ValueError("no sensor")
    return max(plausible)


def _storage(root: Path) -> Iterable[Storage]:
    seen: set[str] = set()
    for line in _text(root, "proc/self/mounts").splitlines():
        device, mount, kind = line.split()[:3]
        mount = mount.encode().decode("unicode_escape")
        if kind not in REAL_FILE_SYSTEMS or device in seen or mount.startswith(SKIPPED_MOUNTS):
            continue
        try:
            state = os.statvfs(root / mount.lstrip("/"))
        except OSError:
            continue
        if state.f_blocks == 0:
            continue
        seen.add(device)
        yield Storage(mount, state.f_blocks * state.f_frsize, state.f_bavail * state.f_frsize)


def _leases(root: Path) -> tuple[Lease, ...]:
    for name in LEASE_FILES:
        path = root / name
        if path.is_file():
            lines = path.read_text("utf-8", "replace").splitlines()[: MAX_LEASES + 1]
            return tuple(_kea_leases(lines) if name.endswith(".csv") else _dnsmasq_leases(lines))
    raise ValueError("no DHCP server's leases were found")


def _dnsmasq_leases(lines: Iterable[str]) -> Iterable[Lease]:
    for line in lines:
        words = line.split()
        if len(words) >= 4 and words[0].isdigit():
            yield Lease(words[2], words[1], "" if words[3] == "*" else words[3], float(words[0]))


def _kea_leases(lines: Iterable[str]) -> Iterable[Lease]:
    newest: dict[str, Lease] = {}
    for line in lines:
        words = line.split(",")
        if len(words) >= 9 and words[4].isdigit():
            newest[words[0]] = Lease(words[0], words[1], words[8], float(words[4]))
    return newest.values()


def _links() -> Iterable[Interface]:
    """The interfaces as netlink tells of them."""
    from pyroute2 import IPRoute

    with closing(IPRoute()) as route:
        links = list(route.get_links())
        addresses: dict[int, list[str]] = {}
        for message in route.get_addr():
            addresses.setdefault(message["index"], []).append(f"{message.get('address')}/{message['prefixlen']}")
        defaults = {message.get("oif") for message in route.get_default_routes()}
        return [_interface(link, addresses, defaults) for link in links if link.get("ifname") != "lo"]


def _interface(link: Any, addresses: Mapping[int, list[str]], defaults: set[Any]) -> Interface:
    stats = link.get("stats64") or link.get("stats") or {}
    info = link.get(("linkinfo", "kind"))
    return Interface(
        name=str(link.get("ifname")),
        kind=str(info or PHYSICAL),
        up=link.get("operstate") in ("UP", "UNKNOWN") and bool(link["flags"] & 1),
        wan=link["index"] in defaults,
        addresses=tuple(address for address in addresses.get(link["index"], []) if not address.startswith("fe80:")),
        rx_bytes=stats.get("rx_bytes", 0),
        tx_bytes=stats.get("tx_bytes", 0),
        rx_errors=stats.get("rx_errors", 0),
        tx_errors=stats.get("tx_errors", 0),
        dropped=stats.get("rx_dropped", 0) + stats.get("tx_dropped", 0),
    )
