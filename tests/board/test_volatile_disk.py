"""The disk of the power rig, by a client that is not ours: what was flushed survives a cut, the rest may be gone."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from qemu.lab.volatile_disk import SECTOR, VolatileDisk

pytestmark = pytest.mark.skipif(shutil.which("qemu-io") is None, reason="needs qemu-io (qemu-utils)")

SIZE = 1 << 20


@pytest.fixture(name="disk")
def _disk(tmp_path: Path) -> Iterator[VolatileDisk]:
    image = tmp_path / "image"
    image.write_bytes(b"\x11" * SIZE)
    disk = VolatileDisk(image, tmp_path / "nbd")
    yield disk
    disk.close()


def client(disk: VolatileDisk, *commands: str) -> str:
    """QEMU's own NBD client; `abort` at the end of the commands ends it without the flush that closing would bring."""
    argv = ["qemu-io", "-t", "none", "--image-opts", f"driver=nbd,server.type=unix,server.path={disk.socket_path}"]
    done = subprocess.run(
        [*argv, *(word for command in commands for word in ("-c", command))],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_flushed_writes_survive_and_others_may_not(disk: VolatileDisk) -> None:
    """200 sectors without a flush: some are lost at the cut; 8 with one: none is."""
    client(disk, "write -P 0x22 0 4k", "flush", "write -P 0x33 64k 100k", "abort")
    assert disk.pending() == 200
    lost = disk.cut(random.Random(1))
    assert 50 < lost < 150
    assert disk.read(0, 4096) == b"\x22" * 4096
    after = disk.read(64 << 10, 100 << 10)
    assert after.count(0x11) == lost * SECTOR
    assert after.count(0x33) == (200 - lost) * SECTOR


def test_a_write_with_fua_is_durable_by_itself(disk: VolatileDisk) -> None:
    """Forced unit access: no flush is needed."""
    client(disk, "write -f -P 0x44 8k 4k", "abort")
    disk.cut(random.Random(2))
    assert disk.read(8192, 4096) == b"\x44" * 4096


def test_the_guest_reads_what_it_wrote_before_the_flush(disk: VolatileDisk) -> None:
    """The cache is the drive's: reads see it."""
    assert "Pattern verification failed" not in client(disk, "write -P 0x55 12k 4k", "read -P 0x55 12k 4k")
    assert "Pattern verification failed" in client(disk, "read -P 0x56 12k 4k")


def test_the_saved_medium_is_what_survives(disk: VolatileDisk, tmp_path: Path) -> None:
    """The file that `save` leaves equals what a reader would see after a cut, and the image itself is untouched."""
    client(disk, "write -P 0x66 16k 4k", "flush")
    disk.save(tmp_path / "saved")
    saved = (tmp_path / "saved").read_bytes()
    assert len(saved) == SIZE
    assert saved[16384:20480] == b"\x66" * 4096
    assert (tmp_path / "image").read_bytes() == b"\x11" * SIZE
