"""What one slot holds: the kernel partition (a FIT image: kernel, initramfs, command line) and the squashfs root."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qemu.image.board import BOARD_DIR
from qemu.image.progress import run

# What must be there before the root can be mounted, in load order; qemu_fw_cfg brings systemd the credentials that the
# machine's owner passes in.
INITRAMFS_MODULES = ("virtio_blk", "squashfs", "qemu_fw_cfg")
SQUASHFS_LEVEL = 9  # zstd: level 19 saves 4 % and takes six times as long

_FIT = """/dts-v1/;
/ {{
    description = "{model} {version}";
    #address-cells = <1>;
    images {{
        kernel {{
            description = "Linux {release}";
            data = /incbin/("Image");
            type = "kernel"; arch = "arm64"; os = "linux"; compression = "none";
            load = <0x40400000>; entry = <0x40400000>;
            hash {{ algo = "sha256"; }};
        }};
        ramdisk {{
            data = /incbin/("initramfs.cpio.zst");
            type = "ramdisk"; arch = "arm64"; os = "linux"; compression = "none";
            hash {{ algo = "sha256"; }};
        }};
        cmdline {{
            data = /incbin/("cmdline.cmd");
            type = "script"; compression = "none";
            hash {{ algo = "sha256"; }};
        }};
    }};
    configurations {{
        default = "board";
        board {{ kernel = "kernel"; ramdisk = "ramdisk"; }};
    }};
}};
"""


@dataclass(frozen=True)
class Slot:
    """The two files that an upgrade writes."""

    kernel: Path
    root: Path


def build_slot(base: Path, root: Path, work: Path, model: str, version: str, epoch: int) -> Slot:
    """Makes both files of a slot in `work`; the same inputs give the same bytes."""
    work.mkdir(parents=True, exist_ok=True)
    env = reproducible_environment(epoch)
    _initramfs(root, work / "initramfs.cpio.zst", env)
    shutil.copyfile(base / "Image", work / "Image")
    cmdline = " ".join((BOARD_DIR / "cmdline.txt").read_text().split())
    (work / "cmdline.cmd").write_text(f'setenv bootargs "{cmdline}"\n')
    release = (base / "kernel-release").read_text()
    (work / "kernel.its").write_text(_FIT.format(model=model, version=version, release=release))
    run(["mkimage", "-f", "kernel.its", "kernel.fit"], cwd=work, env=env)
    squashfs = work / "root.squashfs"
    _squashfs(root, squashfs, epoch)
    return Slot(work / "kernel.fit", squashfs)


def boot_script(target: Path, epoch: int) -> None:
    """The boot partition's content: the script with U-Boot's header and checksum."""
    script = BOARD_DIR / "boot" / "boot.cmd"
    argv: list[str | Path] = [
        "mkimage",
        "-A",
        "arm64",
        "-T",
        "script",
        "-C",
        "none",
        "-n",
        "slot",
        "-d",
        script,
        target,
    ]
    run(argv, env=reproducible_environment(epoch))


def reproducible_environment(epoch: int) -> Mapping[str, str]:
    """An environment in which the tools write no time but `epoch` and no locale's order."""
    return {"PATH": os.environ["PATH"], "SOURCE_DATE_EPOCH": str(epoch), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _initramfs(root: Path, target: Path, env: Mapping[str, str]) -> None:
    tree = target.with_name("initramfs")
    shutil.rmtree(tree, ignore_errors=True)
    for folder in ("bin", "dev", "proc", "sys", "root", "modules"):
        (tree / folder).mkdir(parents=True)
    shutil.copyfile(root / "usr" / "bin" / "busybox", tree / "bin" / "busybox")
    shutil.copyfile(BOARD_DIR / "boot" / "init", tree / "init")
    for program in (tree / "bin" / "busybox", tree / "init"):
        program.chmod(0o755)
    order = _with_dependencies(root, INITRAMFS_MODULES)
    for module in order:
        shutil.copyfile(root / module, tree / "modules" / module.name)
    (tree / "modules" / "order").write_text("".join(f"{module.name}\n" for module in order))
    for path in tree.rglob("*"):
        os.utime(path, (0, 0), follow_symlinks=False)
    os.utime(tree, (0, 0))
    names = sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
    archive = target.with_name("initramfs.cpio")
    run(
        ["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0", "--reproducible", "-F", archive.resolve()],
        cwd=tree,
        env=env,
        text="".join(f"{name}\n" for name in names),
    )
    run(["zstd", "-q", "-19", "-f", archive, "-o", target])


def _with_dependencies(root: Path, names: tuple[str, ...]) -> list[Path]:
    """The modules and what they need, dependencies first, as paths below the root."""
    folder = next(root.glob("usr/lib/modules/*"))
    needs: dict[str, list[str]] = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        module, _, rest = line.partition(":")
        needs[module] = rest.split()
    by_name = {Path(module).stem: module for module in needs}
    order: list[Path] = []
    for name in names:
        module = by_name[name]
        for path in [*reversed(needs[module]), module]:
            relative = folder.relative_to(root) / path
            if relative not in order:
                order.append(relative)
    return order


def _squashfs(root: Path, target: Path, epoch: int) -> None:
    target.unlink(missing_ok=True)
    special = target.with_name("ownership.pseudo")
    special.write_text(_ownership(root))
    argv: list[str | Path] = ["mksquashfs", root, target, "-noappend", "-quiet", "-no-progress", "-no-xattrs"]
    argv += ["-all-root", "-pf", special, "-comp", "zstd", "-Xcompression-level", str(SQUASHFS_LEVEL), "-b", "128K"]
    argv += ["-mkfs-time", str(epoch), "-all-time", str(epoch)]
    run(argv, env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"})
    target.chmod(0o644)


def _ownership(root: Path) -> str:
    """The few files that are not root's, as pseudo-file definitions; the building user need not be root."""
    groups = {line.split(":")[0]: line.split(":")[2] for line in (root / "etc" / "group").read_text().splitlines()}
    lines = []
    for name in ("etc/shadow", "etc/gshadow"):
        if (root / name).exists():
            lines.append(f"{name} m 640 0 {groups['shadow']}")
    for path in sorted(root.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode) and not mode & stat.S_IROTH and path.name not in ("root",):
            lines.append(f"{path.relative_to(root)} m 755 0 0")
    return "\n".join(lines) + "\n"
