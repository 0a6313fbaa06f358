"""The root file system as a tree: unpacked packages, wheels and their bytecode, then the board's overlay and notifyd.

The first half changes rarely and is kept in the cache under a key of all that went into it; the second half is made
anew by every build.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from qemu.image.board import BOARD_DIR, REPOSITORY, Board
from qemu.image.network import generated_files
from qemu.image.page import page_configuration
from qemu.image.progress import BuildFailed, run, step
from qemu.image.sources import PYTHON, Fetched, cache_dir, run_image_python

# Read-only inside the image; a path of the device, so it is the same on every machine that builds.
APPLICATION = "usr/lib/notifyd"
SITE_PACKAGES = "usr/lib/python3/dist-packages"
FIRMWARE = REPOSITORY / "firmware"


def listed(path: Path) -> list[str]:
    """The lines of a list file without comments."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def base_tree(fetched: Fetched) -> Path:
    """The rarely changing half, from the cache or made now."""
    prune = BOARD_DIR / "prune.list"
    parts = [fetched.packages.name, str(fetched.packages.stat().st_mtime_ns), fetched.wheels.name, prune.read_text()]
    parts += [Path(__file__).read_text()]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    base = cache_dir() / f"base-{key}"
    if not base.exists():
        part = base.with_name(f"{base.name}.{os.getpid()}.part")
        shutil.rmtree(part, ignore_errors=True)
        with step("root: unpack and prune packages"):
            _unpack(fetched.packages, part / "root")
            _kernel_apart(part)
            _prune(part / "root", listed(prune))
            _plain_modules(part / "root")
        with step("root: wheels"):
            for wheel in sorted(fetched.wheels.glob("*.whl")):
                _install_wheel(wheel, part / "root" / SITE_PACKAGES)
        with step("root: bytecode of the libraries"):
            compile_bytecode(fetched, part / "root", [f"usr/lib/python{PYTHON}", SITE_PACKAGES])
        part.rename(base)
        _forget_others(base)
    return base


def _unpack(tar: Path, root: Path) -> None:
    """The packages' files and their dpkg status; what the building machine put in stays out."""
    root.mkdir(parents=True)
    foreign = {"./etc/hostname", "./etc/resolv.conf", "./etc/fstab", "./etc/hosts"}
    with tarfile.open(tar) as archive:
        members = [m for m in archive if (m.isreg() or m.isdir() or m.issym() or m.islnk()) and m.name not in foreign]
        for member in members:
            if not member.issym():
                # Nothing on this device gains privileges by starting a program.
                member.mode = (member.mode | stat.S_IWUSR) & ~(stat.S_ISUID | stat.S_ISGID)
        archive.extractall(root, members=members, filter="fully_trusted", numeric_owner=True)


def _kernel_apart(part: Path) -> None:
    boot = part / "root" / "boot"
    kernel = next(boot.glob("vmlinuz-*"))
    shutil.copyfile(kernel, part / "Image")
    shutil.copyfile(part / "root" / "var/lib/dpkg/status", part / "dpkg-status")
    (part / "kernel-release").write_text(kernel.name.removeprefix("vmlinuz-"))


def _prune(root: Path, patterns: Iterable[str]) -> None:
    for pattern in patterns:
        for path in root.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _plain_modules(root: Path) -> None:
    """Modules uncompressed (the squashfs compresses them better, the guest need not), and their dependencies."""
    for compressed in sorted(root.glob("usr/lib/modules/*/**/*.ko.xz")):
        compressed.with_suffix("").write_bytes(lzma.decompress(compressed.read_bytes()))
        compressed.unlink()
    release = next(root.glob("usr/lib/modules/*")).name
    run(["depmod", "--basedir", root, release])


def _install_wheel(wheel: Path, target: Path) -> None:
    """A wheel is a zip laid out for the import path; programs it would put elsewhere are not wanted on the device."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".data/" not in name]
        for name in archive.namelist():
            if ".data/" in name and "/scripts/" not in name:
                raise BuildFailed(f"{wheel.name} wants to install {name}")
        archive.extractall(target, members=names)


def compile_bytecode(fetched: Fetched, root: Path, folders: Iterable[str]) -> None:
    """Bytecode that Python uses without looking at the source: the image is read-only, so it cannot be outdated."""
    for folder in folders:
        run_image_python(
            fetched, "-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash",
            "-s", root, "-p", "/", root / folder,
        )  # fmt: skip


def _forget_others(base: Path) -> None:
    for old in base.parent.glob("base-*"):
        if old != base and not old.name.endswith(".part"):
            shutil.rmtree(old, ignore_errors=True)


def root_tree(board: Board, base: Path, fetched: Fetched, root: Path, version: str) -> None:
    """The whole root file system of this build at `root`."""
    with step("root: copy of the base"):
        shutil.rmtree(root, ignore_errors=True)
        run(["cp", "-al", base / "root", root])  # links: every later step writes a new file in place of a linked one
    with step("root: overlay, units, users, notifyd"):
        _overlay(BOARD_DIR / "rootfs_overlay", root)
        for name, content in generated_files(board).items():
            _write(root / name, content)
        _application(board, root)
        run(["systemd-sysusers", f"--root={root}"], env={**os.environ, "SOURCE_DATE_EPOCH": "0"})
        run(["systemctl", f"--root={root}", "preset-all"])
        _post_build(board, root, version)
    with step("root: bytecode of notifyd"):
        compile_bytecode(fetched, root, [APPLICATION, "usr/lib/board"])


def _overlay(overlay: Path, root: Path) -> None:
    for source in sorted(overlay.rglob("*")):
        if source.is_dir() or "__pycache__" in source.parts:
            continue
        target = root / source.relative_to(overlay)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        if source.is_symlink():
            target.symlink_to(source.readlink())
        else:
            shutil.copyfile(source, target)
            target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)


def _application(board: Board, root: Path) -> None:
    """firmware/ as it is in the repository, so that notifyd finds its page and defaults the same way everywhere."""
    target = root / APPLICATION
    shutil.copytree(FIRMWARE, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".*"), dirs_exist_ok=True)
    for path in target.rglob("*"):
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    if (FIRMWARE / "etc" / "notifyd").is_dir():
        shutil.copytree(FIRMWARE / "etc" / "notifyd", root / "etc" / "notifyd", dirs_exist_ok=True)
    _write(root / "etc" / "page" / "lighttpd.conf", page_configuration(board.hostname))


def _post_build(board: Board, root: Path, version: str) -> None:
    env = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
        "BOARD_DIR": str(BOARD_DIR),
        "MODEL_ID": board.model,
        "FIRMWARE_VERSION": board.firmware,
        "BUILD_DATE": version,
    }
    run(["sh", "-eu", BOARD_DIR / "post_build.sh", root], env=env)


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(content)
    path.chmod(0o644)
