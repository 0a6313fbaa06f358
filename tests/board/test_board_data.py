"""The board's one file of ports and zones: what is made from it agrees, and a contradiction is refused."""

from __future__ import annotations

import copy
import tomllib
from typing import Any

import pytest

from qemu.image.board import BOARD_DIR, Board, BoardError, _check, load_board, parse_board
from qemu.image.network import generated_files, network_of, qemu_cards


@pytest.fixture(name="board", scope="module")
def _board() -> Board:
    return load_board()


def test_every_port_has_a_link_file_with_the_emulated_cards_address(board: Board) -> None:
    """The name on the case, the kernel's name and QEMU's card are one: a card's address appears in its port's .link."""
    files = generated_files(board)
    for name, mac in qemu_cards(board):
        assert f"MACAddress={mac}\n" in files[f"etc/systemd/network/10-{name}.link"]
    assert len({mac for _, mac in qemu_cards(board)}) == len(qemu_cards(board))


def test_the_default_addresses_are_the_documented_ones(board: Board) -> None:
    """LAN 192.168.168.1/24 with a DHCP server, WAN by DHCP, and no address is configured on a WAN port."""
    files = generated_files(board)
    lan, wan = files["etc/systemd/network/30-lan1.network"], files["etc/systemd/network/30-ge1.network"]
    assert "Address=192.168.168.1/24" in lan
    assert "DHCPServer=yes" in lan
    assert "DHCP=yes" in wan
    assert "Address=" not in wan
    assert [network_of(board, name) for name in ("ge1", "ge3", "ge8")] == ["wan", "lan", "dmz"]


def test_only_lan_interfaces_get_a_listener(board: Board) -> None:
    """The udev rule and the socket's drop-ins name LAN interfaces and nothing else."""
    files = generated_files(board)
    rules = [line for line in files["etc/udev/rules.d/70-lan-page.rules"].splitlines() if not line.startswith("#")]
    assert len(rules) == 1
    assert 'KERNEL=="lan*"' in rules[0]
    listeners = [name for name in files if "page@" in name]
    assert listeners == ["etc/systemd/system/page@lan1.socket.d/device.conf"]
    assert "BindToDevice=lan1\n" in files[listeners[0]]


def test_the_socket_template_cannot_listen_without_a_device() -> None:
    """Fail closed: the template itself has no address, so a missing drop-in means no listener, not one everywhere."""
    template = (BOARD_DIR / "rootfs_overlay/usr/lib/systemd/system/page@.socket").read_text()
    assert "ListenStream=" not in template


def test_the_firmware_version_has_the_devices_own_form(board: Board) -> None:
    """`1.35(ABXE.0)`: ABXE is the code of the 200HP."""
    assert board.firmware.endswith("(ABXE.0)")


def _zone_twice(table: dict[str, Any]) -> None:
    table["zone"]["wan"]["match"].append("lan*")


def _page_on_wan(table: dict[str, Any]) -> None:
    table["zone"]["wan"]["services"] = ["https"]


def _port_nowhere(table: dict[str, Any]) -> None:
    del table["port"][0]["zone"]


def _unknown_bridge(table: dict[str, Any]) -> None:
    table["port"][2]["member"] = "br9"


def _same_mac(table: dict[str, Any]) -> None:
    table["port"][1]["mac_offset"] = 0


def _shell_in_name(table: dict[str, Any]) -> None:
    table["zone"]["lan"]["match"] = ["lan*; drop"]


def _version(table: dict[str, Any]) -> None:
    table["board"]["firmware"] = "1.35"


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_zone_twice, "exactly one"),
        (_page_on_wan, "must not answer on the WAN"),
        (_port_nowhere, "P1"),
        (_unknown_bridge, "br9"),
        (_same_mac, "hardware address"),
        (_shell_in_name, "pattern"),
        (_version, "version(code.patch)"),
    ],
)
def test_a_board_that_contradicts_itself_is_refused(spoil: Any, told: str) -> None:
    """The error names the entry."""
    table = copy.deepcopy(tomllib.loads((BOARD_DIR / "board.toml").read_text()))
    spoil(table)
    with pytest.raises(BoardError) as caught:
        _check(parse_board(table))
    assert told in str(caught.value)
