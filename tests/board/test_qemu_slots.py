"""Promise P24: an upgrade into the other slot, and the way back, both chosen by the boot loader."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from qemu.image.__main__ import write_bundle
from qemu.image.board import Board
from qemu.lab.agent import GuestError, GuestSilent
from qemu.lab.environment import Environment
from qemu.lab.microsoft import Microsoft
from qemu.lab.strategy import IMAGE, State, Unit
from tests.board.conftest import ARTEFACTS, timed_boot
from tests.board.lan import Administrator

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(3000)]

TOOL = "/usr/lib/board/bootstate.py"
UPGRADE = IMAGE.with_name("upgrade.tar")


def broken_bundle(target: Path) -> Path:
    """A bundle whose kernel starts and whose root is noise; its manifest is honest, so it installs."""
    folder = target.with_suffix("")
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(UPGRADE) as archive:
        archive.extractall(folder, filter="data")
    (folder / "root.squashfs").write_bytes(hashlib.shake_256(b"no file system").digest(1 << 20))
    manifest = json.loads((folder / "manifest.json").read_text())
    digest = hashlib.sha256((folder / "root.squashfs").read_bytes()).hexdigest()
    manifest["files"]["root.squashfs"], manifest["version"] = digest, "broken on purpose"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    write_bundle(target, [folder / "manifest.json", folder / "kernel.fit", folder / "root.squashfs"], 0)
    return target


@pytest.fixture(name="unit", scope="module")
def _unit(board: Board, lab_environment: Environment, microsoft: Microsoft, alone: None) -> Iterator[Unit]:
    """A signed-in unit with a queued mail and both bundles as disks."""
    folder = ARTEFACTS / "slots"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    unit = Unit(board, lab_environment, folder)
    try:
        microsoft.control("POST", "/reset")
        timed_boot(unit, extra_disks=[UPGRADE, broken_bundle(folder / "broken.tar")])
        microsoft.install(unit)
        unit.state = State.BOOTED
        unit.wait_ready()
        Administrator(unit, microsoft, folder).become_valid()
        yield unit
    finally:
        unit.collect(folder / "end")
        unit.power_off()


def state(unit: Unit) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(unit.agent.check("python3", "-I", TOOL, "status"))
    return found


def restart(unit: Unit) -> None:
    """An orderly restart; whichever slot comes up is the boot loader's decision."""
    before = boot_id(unit)
    with suppress(GuestSilent):  # the restart may be faster than the agent's answer
        unit.agent.run("systemctl", "reboot", "--no-block", timeout=5)
    unit.state = State.OFF
    end = time.monotonic() + 4 * unit.environment.deadline.booted
    while boot_id(unit) in ("", before):
        assert time.monotonic() < end, unit.machine.console_text()[-3000:]
        time.sleep(0.5)
    unit.state = State.BOOTED
    unit.wait_ready()


def boot_id(unit: Unit) -> str:
    """Which start this is; empty while the unit is between two."""
    try:
        return unit.agent.check("cat", "/proc/sys/kernel/random/boot_id", timeout=5)
    except (GuestSilent, GuestError):
        unit.agent.close()  # the port of before the restart: the next try opens it anew
        return ""


def test_an_upgrade_keeps_settings_grant_and_queue(unit: Unit) -> None:
    """A → B: the new slot starts, confirms itself, and everything on /data is as before."""
    unit.machine.link("ge1", up=False)
    mail = unit.api("POST", "/api/v1/mail", {"to": "ops@contoso.example", "subject": "over the upgrade", "text": "x"})
    assert mail.status == 202
    settings = unit.api("GET", "/api/v1/settings").document
    assert state(unit)["running"] == "A"
    unit.agent.check("python3", "-I", TOOL, "install", "/dev/vdb", timeout=600)
    assert state(unit)["BOOT_TRIAL"] == "B"
    restart(unit)
    assert state(unit)["running"] == "B"
    assert unit.api("GET", "/api/v1/settings").document == settings
    assert unit.status()["account"]
    assert unit.api("GET", f"/api/v1/mail/{mail.document['id']}").status == 200
    unit.agent.check("systemctl", "start", "slot-confirm.service", timeout=300)
    found = state(unit)
    assert (found["BOOT_TRIAL"], found["BOOT_ORDER"], found["BOOT_B_LEFT"]) == ("none", "B A", "3")
    unit.machine.link("ge1", up=True)


def test_a_slot_that_does_not_start_is_given_up(unit: Unit) -> None:
    """B → broken A: three tries, then the boot loader takes B again, and the grant is still there."""
    before = state(unit)["running"]
    unit.agent.check("python3", "-I", TOOL, "install", "/dev/vdc", timeout=600)
    console = len(unit.machine.console_text())
    restart(unit)
    told = unit.machine.console_text()[console:]
    other = "a" if before == "B" else "b"
    assert told.count(f"bootstate: slot {other},") == 3, told[-3000:]
    assert state(unit)["running"] == before
    assert unit.status()["account"]


def test_a_bundle_that_lies_is_refused(unit: Unit) -> None:
    """What was written is read back: a wrong digest leaves the slot unstartable, the running one preferred."""
    unit.agent.shell(
        "cd /run; head -c 4096 /dev/zero > kernel.fit; head -c 4096 /dev/zero > root.squashfs; "
        """echo '{"version":"x","files":{"kernel.fit":"00","root.squashfs":"00"}}' > manifest.json; """
        "busybox tar cf lie.tar manifest.json kernel.fit root.squashfs"
    )
    running = state(unit)["running"]
    assert unit.agent.run("python3", "-I", TOOL, "install", "/run/lie.tar").status == 1
    found = state(unit)
    assert found[f"BOOT_{'A' if running == 'B' else 'B'}_LEFT"] == "0"
    assert found["BOOT_ORDER"].startswith(running)
