"""The board as typed values, read from board.toml; a board that contradicts itself cannot be constructed."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
BOARD_DIR = REPOSITORY / "board" / "usg-flex-200hp"

_INTERFACE_NAME = re.compile(r"[a-z][a-z0-9]{0,13}")  # Linux allows 15; a VLAN's number must still fit behind it
_PATTERN = re.compile(r"[a-z][a-z0-9]*\*?")
_FIRMWARE = re.compile(r"\d+\.\d+\([A-Z]{4}\.\d+\)")


class BoardError(ValueError):
    """board.toml contradicts itself; the text names the entry."""


@dataclass(frozen=True)
class Port:
    """One socket on the case."""

    label: str
    interface: str
    speed_mbps: int
    mac_offset: int
    zone: str | None
    member: str | None  # the bridge it belongs to


@dataclass(frozen=True)
class Service:
    """Something that answers: exactly one of the fields is set."""

    name: str
    tcp: int | None = None
    udp: int | None = None
    icmp: bool = False


@dataclass(frozen=True)
class Zone:
    """A set of interfaces that are trusted alike."""

    name: str
    match: tuple[str, ...]
    services: tuple[Service, ...]
    forward_to: tuple[str, ...]

    def holds(self, interface: str) -> bool:
        """Whether the interface belongs to the zone by its name."""
        return any(
            interface == pattern or (pattern.endswith("*") and interface.startswith(pattern[:-1]))
            for pattern in self.match
        )


@dataclass(frozen=True)
class Interface:
    """The addressing of one layer-3 interface."""

    name: str
    bridge: bool
    address: ipaddress.IPv4Interface | None
    dhcp: bool
    dhcp_server: bool
    route_metric: int | None


@dataclass(frozen=True)
class Partition:
    """One GPT partition; sizes are multiples of 1 MiB so that every start is aligned."""

    name: str
    size_kib: int


@dataclass(frozen=True)
class Emulation:
    """What QEMU shows of the board."""

    machine: str
    cpu: str
    processors: int
    memory_mib: int
    mac_base: str
    ports: tuple[str, ...]


@dataclass(frozen=True)
class Board:
    """The whole board."""

    id: str
    model: str
    firmware: str
    hostname: str
    architecture: str
    console: str
    ports: tuple[Port, ...]
    zones: tuple[Zone, ...]
    interfaces: tuple[Interface, ...]
    partitions: tuple[Partition, ...]
    emulation: Emulation

    def port(self, interface: str) -> Port:
        """The port behind a kernel name."""
        return next(port for port in self.ports if port.interface == interface)

    def zone(self, name: str) -> Zone:
        """The zone of that name."""
        return next(zone for zone in self.zones if zone.name == name)

    def interface(self, name: str) -> Interface:
        """The addressing of that interface."""
        return next(interface for interface in self.interfaces if interface.name == name)

    def mac(self, interface: str) -> str:
        """The emulated unit's hardware address of a port."""
        base = int(self.emulation.mac_base.replace(":", ""), 16) + self.port(interface).mac_offset
        return ":".join(f"{base:012x}"[i : i + 2] for i in range(0, 12, 2))


def load_board(path: Path = BOARD_DIR / "board.toml") -> Board:
    """Reads and checks the board; raises BoardError when an entry contradicts another."""
    board = parse_board(tomllib.loads(path.read_text()))
    _check(board)
    return board


def parse_board(table: Mapping[str, Any]) -> Board:
    """The values of an already parsed board.toml."""
    services = {name: Service(name, **fields) for name, fields in table["service"].items()}
    head = table["board"]
    emulation = table["qemu"]
    return Board(
        id=head["id"],
        model=head["model"],
        firmware=head["firmware"],
        hostname=head["hostname"],
        architecture=head["architecture"],
        console=head["console"],
        ports=tuple(
            Port(
                port["label"],
                port["interface"],
                port["speed_mbps"],
                port["mac_offset"],
                port.get("zone"),
                port.get("member"),
            )
            for port in table["port"]
        ),
        zones=tuple(
            Zone(name, tuple(zone["match"]), tuple(services[s] for s in zone["services"]), tuple(zone["forward_to"]))
            for name, zone in table["zone"].items()
        ),
        interfaces=tuple(_interface(name, fields) for name, fields in table["interface"].items()),
        partitions=tuple(Partition(part["name"], part["size_kib"]) for part in table["partition"]),
        emulation=Emulation(**{**emulation, "ports": tuple(emulation["ports"])}),
    )


def _interface(name: str, fields: Mapping[str, Any]) -> Interface:
    address = fields.get("address")
    return Interface(
        name=name,
        bridge=fields.get("kind") == "bridge",
        address=ipaddress.IPv4Interface(address) if address else None,
        dhcp=fields.get("dhcp", False),
        dhcp_server=fields.get("dhcp_server", False),
        route_metric=fields.get("route_metric"),
    )


def _check(board: Board) -> None:
    _require(bool(_FIRMWARE.fullmatch(board.firmware)), f"firmware {board.firmware!r} is not version(code.patch)")
    for zone in board.zones:
        for pattern in zone.match:
            _require(bool(_PATTERN.fullmatch(pattern)), f"zone {zone.name}: pattern {pattern!r} is not usable")
    names = [port.interface for port in board.ports]
    _require(len(set(names)) == len(names), "two ports have the same interface")
    offsets = [port.mac_offset for port in board.ports]
    _require(len(set(offsets)) == len(offsets), "two ports have the same hardware address")
    for port in board.ports:
        _check_port(board, port)
    for interface in board.interfaces:
        zones = [zone.name for zone in board.zones if zone.holds(interface.name)]
        _require(len(zones) == 1, f"interface {interface.name} belongs to the zones {zones}, not to exactly one")
        _require(bool(_INTERFACE_NAME.fullmatch(interface.name)), f"interface name {interface.name!r} is not usable")
    _require("https" not in [s.name for s in board.zone("wan").services], "the page must not answer on the WAN")
    for part in board.partitions:
        _require(part.size_kib % 1024 == 0, f"partition {part.name} is not a multiple of 1 MiB")
    for name in board.emulation.ports:
        _require(name in names, f"qemu port {name} does not exist")


def _check_port(board: Board, port: Port) -> None:
    _require((port.zone is None) != (port.member is None), f"port {port.label} needs either a zone or a bridge")
    if port.member is not None:
        bridges = [interface.name for interface in board.interfaces if interface.bridge]
        _require(port.member in bridges, f"port {port.label}: {port.member} is no bridge")
        _require(not any(zone.holds(port.interface) for zone in board.zones), f"bridge port {port.label} is in a zone")
    else:
        _require(board.zone(str(port.zone)).holds(port.interface), f"port {port.label} is not matched by its zone")


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise BoardError(f"board.toml: {text}")
