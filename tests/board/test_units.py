"""The systemd units of the image: how exposed they are, that systemd understands them, and who may read what."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from qemu.image.board import BOARD_DIR

OVERLAY = BOARD_DIR / "rootfs_overlay"
UNITS = OVERLAY / "usr/lib/systemd/system"
INSTANCE = "lan1"

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def instance(tmp_path: Path, unit: str) -> Path:
    """The unit as a file that systemd-analyze takes: a template gets an instance name."""
    target = tmp_path / unit.replace("@.", f"@{INSTANCE}.")
    shutil.copyfile(UNITS / unit, target)
    return target


@needs_systemd
@pytest.mark.parametrize(
    ("unit", "bound"),
    [
        ("notifyd.service", 1.5),
        ("page@.service", 2.5),
        ("msoauth2@.service", 1.5),
        ("page-renew.service", 1.5),
        ("notifyd-report@.service", 2.0),
    ],
)
def test_exposure_is_within_its_bound(tmp_path: Path, unit: str, bound: float) -> None:
    """systemd's own score (0 best, 10 worst), measured without a running system."""
    path = instance(tmp_path, unit)
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={round(bound * 10)}", "--no-pager", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    score = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert score, done.stdout + done.stderr
    print(f"{unit}: {score[1]} (bound {bound})")
    assert done.returncode == 0, done.stdout[-2000:]
    assert float(score[1]) <= bound


def settings(unit: str) -> dict[str, list[str]]:
    """The directives of a unit file, each with all its values in order."""
    found: dict[str, list[str]] = {}
    text = (UNITS / unit).read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if "=" in line and not line.startswith(("#", ";", "[")):
            name, value = line.split("=", 1)
            found.setdefault(name, []).append(value)
    return found


def test_each_service_has_a_user_of_its_own() -> None:
    """notifyd, web server and CGI are three users, none of them root."""
    users = [settings(unit)["User"] for unit in ("notifyd.service", "page@.service", "msoauth2@.service")]
    assert users == [["notifyd"], ["page"], ["msoauth2"]]


def test_only_the_cgi_and_notifyd_are_in_the_callback_sockets_group() -> None:
    """Who opens callback.sock can hand in a code: the CGI's group and nobody else's."""
    members = set()
    for unit in UNITS.glob("*.service"):
        given = settings(unit.name)
        if "notify-cgi" in " ".join([*given.get("SupplementaryGroups", []), *given.get("Group", [])]):
            members.add(unit.name)
    assert members == {"notifyd.service", "msoauth2@.service"}
    assert settings("notifyd-callback.socket")["SocketGroup"] == ["notify-cgi"]
    assert settings("notifyd-callback.socket")["SocketMode"] == ["0660"]


@pytest.mark.parametrize(
    ("unit", "hidden"),
    [
        ("page@.service", {"/data/notifyd", "/data/keys"}),
        ("notifyd.service", {"/data/page", "/data/keys"}),
        ("msoauth2@.service", {"/data", "/run/notifyd/admin.sock"}),
    ],
)
def test_the_secrets_of_one_user_are_hidden_from_the_others(unit: str, hidden: set[str]) -> None:
    """Besides file modes: the other services' folders do not exist for them."""
    found = {path.lstrip("-") for value in settings(unit)["InaccessiblePaths"] for path in value.split()}
    assert hidden <= found


@pytest.mark.parametrize("unit", sorted(path.name for path in UNITS.glob("*.service")))
def test_every_service_is_bounded(unit: str) -> None:
    """No core dump of a resident service, and bounds on memory and tasks; a service without an end has a restart."""
    given = settings(unit)
    if given.get("Type", ["simple"]) == ["oneshot"]:
        return
    assert given.get("LimitCORE") == ["0"]
    assert "MemoryMax" in given
    assert "TasksMax" in given


def test_notifyd_is_watched_from_its_own_loop() -> None:
    """Readiness and watchdog come from notifyd itself, and a dead or frozen one is started again."""
    given = settings("notifyd.service")
    assert given["Type"] == ["notify"]
    assert given["NotifyAccess"] == ["main"]
    assert given["Restart"] == ["always"]
    assert "WatchdogSec" in given


def test_nothing_enabled_by_the_preset_is_missing() -> None:
    """Every unit of ours that the preset names exists in the overlay; the rest are systemd's, Debian's or nftables'."""
    foreign = {"nftables.service", "systemd-networkd.service", "systemd-networkd.socket"}
    foreign |= {"systemd-resolved.service", "systemd-timesyncd.service"}
    preset = (OVERLAY / "usr/lib/systemd/system-preset/00-board.preset").read_text()
    named = set(re.findall(r"^enable (\S+)$", preset, re.MULTILINE))
    assert {unit for unit in named - foreign if not (UNITS / unit).exists()} == set()
