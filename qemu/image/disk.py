"""The disk as it leaves the factory: GPT, boot script, fresh slot state, slot A, an empty slot B and an empty data
partition.
"""

from __future__ import annotations

import os
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qemu.image.board import Board
from qemu.image.progress import BuildFailed, run
from qemu.image.slot import Slot, reproducible_environment

SECTOR = 512
FIRST_SECTOR = 2048
STATE_COPIES = (0, 8)  # sectors of the bootstate partition
TRIES = 3
_NAMESPACE = uuid.UUID("6d2ff3a2-58f5-4c0e-9a2f-0d6d1f7c3b11")  # fixed: identifiers must not differ between two builds
_LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"


@dataclass(frozen=True)
class Extent:
    """Where a partition lies, in bytes."""

    start: int
    size: int


def layout(board: Board) -> dict[str, Extent]:
    """The partitions one after the other; each is a multiple of 1 MiB, so each start is aligned to it."""
    extents: dict[str, Extent] = {}
    start = FIRST_SECTOR * SECTOR
    for part in board.partitions:
        extents[part.name] = Extent(start, part.size_kib * 1024)
        start += part.size_kib * 1024
    return extents


def boot_state(order: str, left_a: int, left_b: int) -> bytes:
    """One sector of slot state in the form of U-Boot's `env export -c`: CRC-32, then NAME=value strings."""
    text = f"BOOT_A_LEFT={left_a}\0BOOT_B_LEFT={left_b}\0BOOT_ORDER={order}\0BOOT_TRIAL=none\0\0".encode()
    data = text.ljust(SECTOR - 4, b"\0")
    return zlib.crc32(data).to_bytes(4, "little") + data


def uboot_environment(extra_bootargs: str = "", size: int = 0x40000) -> bytes:
    """The boot loader's own environment, on a real unit in its NOR flash: find the boot script at once, do not wait."""
    variables = {
        "bootdelay": "0",
        "bootcmd": "virtio scan; part start virtio 0 boot s; part size virtio 0 boot n; "
        "virtio read 0x48000000 ${s} ${n}; source 0x48000000",
        "extra_bootargs": extra_bootargs,
        "fdt_high": "0xffffffffffffffff",
        "initrd_high": "0xffffffffffffffff",
        "loadaddr": "0x50000000",
    }
    data = "".join(f"{name}={value}\0" for name, value in sorted(variables.items()) if value).encode() + b"\0"
    if len(data) > size - 4:
        raise BuildFailed("the boot loader's environment does not fit its flash sector")
    data = data.ljust(size - 4, b"\0")
    return zlib.crc32(data).to_bytes(4, "little") + data


def build_disk(board: Board, script: Path, slot: Slot, target: Path, epoch: int) -> None:
    """Writes the whole disk as a sparse file."""
    extents = layout(board)
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    with part.open("wb") as disk:
        disk.truncate(sum(extent.size for extent in extents.values()) + 2 * FIRST_SECTOR * SECTOR)
    run(["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", part], text=_table(board, extents))
    with part.open("r+b") as disk:
        _write(disk.fileno(), extents["boot"], script.read_bytes())
        state = boot_state("A B", TRIES, 0)  # slot B is empty until the first upgrade
        for sector in STATE_COPIES:
            os.pwrite(disk.fileno(), state, extents["bootstate"].start + sector * SECTOR)
        _write(disk.fileno(), extents["kernel_a"], slot.kernel.read_bytes())
        _write(disk.fileno(), extents["root_a"], slot.root.read_bytes())
    _data(part, extents["data"], target.with_name("data.ext4"), reproducible_environment(epoch))
    part.replace(target)


def _table(board: Board, extents: Mapping[str, Extent]) -> str:
    lines = [
        "label: gpt",
        f"label-id: {uuid.uuid5(_NAMESPACE, board.id)}",
        f"first-lba: {FIRST_SECTOR}",
        "unit: sectors",
    ]
    for name, extent in extents.items():
        identifier = uuid.uuid5(_NAMESPACE, f"{board.id}/{name}")
        start, size = extent.start // SECTOR, extent.size // SECTOR
        lines.append(f'start={start}, size={size}, type={_LINUX}, name="{name}", uuid={identifier}')
    return "\n".join(lines) + "\n"


def _write(disk: int, extent: Extent, content: bytes) -> None:
    if len(content) > extent.size:
        raise BuildFailed(f"{len(content)} bytes do not fit a partition of {extent.size}")
    os.pwrite(disk, content, extent.start)


def _data(disk: Path, extent: Extent, work: Path, env: Mapping[str, str]) -> None:
    """An empty ext4 without random identifiers; the journal keeps data in order before its metadata."""
    work.unlink(missing_ok=True)
    with work.open("wb") as file:
        file.truncate(extent.size)
    identifier = str(uuid.uuid5(_NAMESPACE, "data"))
    run(
        ["mkfs.ext4", "-q", "-F", "-L", "data", "-U", identifier, "-E", f"hash_seed={identifier},lazy_itable_init=0",
         "-O", "metadata_csum,64bit", "-m", "2", work],
        env={**env, "E2FSPROGS_FAKE_TIME": env["SOURCE_DATE_EPOCH"]},
    )  # fmt: skip
    run(["dd", f"if={work}", f"of={disk}", "bs=1M", f"seek={extent.start >> 20}", "conv=notrunc,sparse", "status=none"])
    work.unlink()
