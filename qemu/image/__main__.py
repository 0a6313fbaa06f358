"""`python -m qemu.image`: builds the board's image into build/image and says what it made, how large, in what time."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from qemu.image.board import BOARD_DIR, REPOSITORY, load_board
from qemu.image.disk import build_disk
from qemu.image.progress import BuildFailed, step
from qemu.image.rootfs import SITE_PACKAGES, base_tree, listed, root_tree
from qemu.image.sbom import write_manifest, write_sbom
from qemu.image.slot import boot_script, build_slot
from qemu.image.sources import fetch

DEFAULT_OUTPUT = REPOSITORY / "build" / "image"
MIB = 1 << 20
LARGEST_ROOT_MIB = 90


def build(output: Path, *, refresh: bool, epoch: int, version: str) -> None:
    """Builds everything into `output`; raises BuildFailed."""
    board = load_board()
    fetched = fetch(listed(BOARD_DIR / "packages.list"), board.architecture, refresh=refresh)
    base = base_tree(fetched)
    work = output / "work"
    work.mkdir(exist_ok=True)
    root = work / "root"
    root_tree(board, base, fetched, root, version)
    with step("slot: initramfs, kernel, squashfs"):
        slot = build_slot(base, root, work, board.model, version, epoch)
    if slot.root.stat().st_size > LARGEST_ROOT_MIB * MIB:
        raise BuildFailed(f"the root is {slot.root.stat().st_size / MIB:.1f} MiB, more than {LARGEST_ROOT_MIB}")
    with step("SBOM and manifest"):
        components = write_sbom(board, base, root, SITE_PACKAGES, version, epoch, output / "sbom.cdx.json")
        listed_files = [slot.kernel, slot.root, output / "sbom.cdx.json"]
        write_manifest(board, version, epoch, listed_files, output / "manifest.json")
    with step("disk and upgrade bundle"):
        boot_script(work / "boot.scr", epoch)
        build_disk(board, work / "boot.scr", slot, output / "disk.img", epoch)
        write_bundle(output / "upgrade.tar", [output / "manifest.json", slot.kernel, slot.root], epoch)
    for name in ("kernel.fit", "root.squashfs"):
        shutil.move(work / name, output / name)
    for path in (output / "kernel.fit", output / "root.squashfs"):
        print(f"  {path.name}: {path.stat().st_size / MIB:.1f} MiB")
    print(f"  {components} components in the SBOM")


def write_bundle(target: Path, files: list[Path], epoch: int) -> None:
    """The file an administrator uploads: the manifest first, so that it can be judged before the rest is read."""
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as archive:
        for path in files:
            info = tarfile.TarInfo(path.name)
            info.size, info.mtime, info.mode = path.stat().st_size, epoch, 0o644
            with path.open("rb") as file:
                archive.addfile(info, file)


def source_date_epoch() -> int:
    """SOURCE_DATE_EPOCH, or the time of the last commit: the image is as new as what it was made from."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return int(given) if given else int(_git("log", "-1", "--format=%ct"))


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildFailed(f"git {arguments[0]}: {done.stderr.strip()} (set SOURCE_DATE_EPOCH to build without git)")
    return done.stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(prog="qemu.image", description=__doc__)
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT)
    parser.add_argument("--refresh", action="store_true", help="fetch the archive's present packages, not cached ones")
    parser.add_argument("--version", help="shown by the device and in the manifest (default: the source's date)")
    options = parser.parse_args()
    start = time.monotonic()
    print("Building the image of the board", flush=True)
    try:
        epoch = source_date_epoch()
        version = options.version or time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(epoch))
        options.output.mkdir(parents=True, exist_ok=True)
        build(options.output, refresh=options.refresh, epoch=epoch, version=version)
    except BuildFailed as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    print(f"{options.output / 'disk.img'} in {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
