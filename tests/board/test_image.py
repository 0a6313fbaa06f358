"""The built image: reproducible, complete in its SBOM, and built only from what this machine is configured to trust."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from qemu.image.board import REPOSITORY, load_board
from qemu.image.disk import SECTOR, boot_state, layout
from qemu.image.page import page_configuration
from qemu.image.rootfs import SITE_PACKAGES
from qemu.image.sources import debian_sources
from qemu.lab.strategy import IMAGE

DEB822 = """Types: deb
URIs: http://mirror.example/debian
Suites: {own} {own}-updates
Components: main
Signed-By: /usr/share/keyrings/archive.gpg

Types: deb
URIs: https://tools.example/apt
Suites: nodistro
Components: main
"""
SLOT_TOOL = REPOSITORY / "board/usg-flex-200hp/rootfs_overlay/usr/lib/board/bootstate.py"


def own_suite() -> str:
    found = re.search(r"^VERSION_CODENAME=(\w+)$", Path("/etc/os-release").read_text(), re.MULTILINE)
    assert found
    return found[1]


@pytest.mark.parametrize("form", ["deb822", "one-line"])
def test_the_mirror_is_this_machines_with_another_suite(tmp_path: Path, form: str) -> None:
    """No address is written down: it comes from apt's own configuration, in both of its formats."""
    own = own_suite()
    (tmp_path / "sources.list.d").mkdir()
    if form == "deb822":
        (tmp_path / "sources.list.d/debian.sources").write_text(DEB822.format(own=own))
    else:
        text = f"deb [signed-by=/usr/share/keyrings/archive.gpg] http://mirror.example/debian {own} main\n"
        text += f"deb http://mirror.example/debian {own}-updates main contrib\n"
        text += "deb https://tools.example/apt nodistro main\n"
        (tmp_path / "sources.list").write_text(text)
    lines = debian_sources(tmp_path, "trixie").splitlines()
    assert lines[0] == "deb [signed-by=/usr/share/keyrings/archive.gpg] http://mirror.example/debian trixie main"
    assert [line.split()[-2] for line in lines] == ["trixie", "trixie-updates"]


def test_the_web_servers_configuration_differs_only_where_it_must() -> None:
    """The board's lighttpd.conf is the common one with sockets from systemd and the CGI behind its own."""
    text = page_configuration("usgflex200hp")
    assert "mod_cgi" not in text
    assert 'server.systemd-socket-activation = "enable"' in text
    assert '"socket" => "/run/msoauth2.sock"' in text
    assert re.findall(r"^accesslog\.format.*", text, re.MULTILINE)
    assert not re.search(r"^accesslog\.format.*%r", text, re.MULTILINE)


def test_the_guests_slot_tool_reads_what_the_build_writes() -> None:
    """Build, boot loader and running system share one form of slot state; a flipped bit is noticed."""
    sector = boot_state("A B", 3, 0)
    assert len(sector) == SECTOR
    script = (
        "import sys, runpy; tool = runpy.run_path(sys.argv[1]); sector = bytes.fromhex(sys.argv[2]); "
        "state = tool['decode'](sector); flipped = sector[:40] + b'!' + sector[41:]; "
        "print(state, tool['encode'](state) == sector, tool['decode'](flipped))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(SLOT_TOOL), sector.hex()], capture_output=True, text=True, check=True
    )
    assert "'BOOT_ORDER': 'A B'" in done.stdout
    assert done.stdout.strip().endswith("True None")


def test_partitions_do_not_overlap() -> None:
    """Every partition starts where the one before ends, on a 1 MiB boundary."""
    end = 0
    for extent in layout(load_board()).values():
        assert extent.start >= end
        assert extent.start % (1 << 20) == 0
        end = extent.start + extent.size


needs_image = pytest.mark.skipif(not IMAGE.exists(), reason="build/image is not built (make image)")


@needs_image
def test_the_root_is_small_enough() -> None:
    """At most 90 MiB compressed."""
    size = IMAGE.with_name("root.squashfs").stat().st_size / (1 << 20)
    print(f"root.squashfs {size:.1f} MiB")
    assert size <= 90


@needs_image
def test_the_sbom_names_every_python_package_of_the_image() -> None:
    """CycloneDX: what is installed and what is listed are the same set, with a version and a package URL each."""
    document = json.loads(IMAGE.with_name("sbom.cdx.json").read_text())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    listed = {c["name"] for c in document["components"] if str(c.get("purl", "")).startswith("pkg:pypi/")}
    site = IMAGE.parent / "work" / "root" / SITE_PACKAGES
    installed = {
        path.name.rsplit("-", 1)[0].lower().replace("_", "-")
        for path in site.glob("*.dist-info")
        for path in [Path(path.stem)]
    }
    assert listed == installed
    debian = [c for c in document["components"] if str(c.get("purl", "")).startswith("pkg:deb/")]
    assert len(debian) > 50
    assert all(component["version"] for component in debian)


@pytest.mark.campaign
@pytest.mark.qemu
@pytest.mark.timeout(900)
def test_two_builds_give_the_same_bytes(tmp_path: Path) -> None:
    """Same inputs, same SOURCE_DATE_EPOCH, two output folders: disk, bundle, manifest and SBOM are identical."""
    for name in ("one", "two"):
        subprocess.run(
            [sys.executable, "-m", "qemu.image", "--output", str(tmp_path / name)], check=True, cwd=REPOSITORY
        )
    for name in ("disk.img", "upgrade.tar", "manifest.json", "sbom.cdx.json"):
        done = subprocess.run(["cmp", str(tmp_path / "one" / name), str(tmp_path / "two" / name)], check=False)
        assert done.returncode == 0, name
