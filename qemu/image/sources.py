"""What comes from outside, fetched once into a cache beside the tree: Debian packages, wheels, a native Python.

No download address is written down here: the Debian mirror is the one this machine's apt uses, with the suite changed,
and the Python index is the one pip is set up with.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from qemu.image.board import REPOSITORY
from qemu.image.progress import BuildFailed, run, step

SUITE = "trixie"
PYTHON = "3.13"
WHEEL_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
# Unpacked packages leave no trace in dpkg's database; the SBOM needs to know them.
_STATUS_HOOK = (
    'for deb in "$1"/var/cache/apt/archives/*.deb; do dpkg-deb -f "$deb" Package Version Architecture Source; echo; '
    'done > "$1"/var/lib/dpkg/status'
)
REQUIREMENTS = REPOSITORY / "requirements" / "runtime.txt"


@dataclass(frozen=True)
class Fetched:
    """Paths inside the cache; their content never changes once they are there."""

    packages: Path  # a tar of all unpacked packages
    wheels: Path  # a folder of wheels
    python: Path  # the root of a Python of the image's version that runs on this machine


def cache_dir() -> Path:
    """Where downloads are kept between builds."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "notifyd-image"


def fetch(packages: Iterable[str], architecture: str, *, refresh: bool = False) -> Fetched:
    """Fetches what the cache does not hold yet; `refresh` takes the archive's present state."""
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    wanted = sorted(packages)
    key = _digest([SUITE, architecture, _STATUS_HOOK, *wanted])
    root_tar, wheels = cache / f"packages-{key}.tar", cache / f"wheels-{_digest([REQUIREMENTS.read_text()])}"
    python = cache / f"python{PYTHON}-{SUITE}"
    if refresh or not root_tar.exists():
        with step(f"Debian packages for {architecture} ({SUITE})"), _placed(root_tar) as target:
            _mmdebstrap(architecture, wanted, target)
    if refresh or not wheels.exists():
        with step("wheels for aarch64, locked by hash"), _placed(wheels) as target:
            _download_wheels(target)
    if refresh or not python.exists():
        with step(f"Python {PYTHON} of this machine's architecture, for the bytecode"), _placed(python) as target:
            _native_python(target)
    return Fetched(root_tar, wheels, python)


def run_image_python(fetched: Fetched, *arguments: str | Path) -> str:
    """Runs the image's Python version on this machine, without installing it."""
    root = fetched.python
    loader = next(root.glob("usr/lib/*/ld-linux*.so*"))
    env = {"PYTHONHOME": str(root / "usr"), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
    executable = root / "usr" / "bin" / f"python{PYTHON}"
    return run([loader, "--library-path", loader.parent, executable, "-S", *arguments], env=env)


def _mmdebstrap(architecture: str, packages: Iterable[str], target: Path) -> None:
    sources = target.with_suffix(".list")
    sources.write_text(debian_sources(Path("/etc/apt"), SUITE))
    try:
        run(
            [
                "mmdebstrap",
                f"--architectures={architecture}",
                "--variant=extract",  # unpacks only: maintainer scripts would need emulation and minutes
                "--format=tar",
                f"--include={','.join(packages)}",
                f"--extract-hook={_STATUS_HOOK}",
                SUITE,
                target,
                sources,
            ]
        )
    finally:
        sources.unlink()


def _download_wheels(target: Path) -> None:
    python = REPOSITORY / "build" / "venv" / "bin" / "python"
    argv: list[str | Path] = [python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    argv += ["--require-hashes", "--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON]
    argv += [word for platform in WHEEL_PLATFORMS for word in ("--platform", platform)]
    argv += ["--abi", f"cp{PYTHON.replace('.', '')}", "--abi", "abi3", "--abi", "none"]
    run([*argv, "--dest", target, "-r", REQUIREMENTS])


def _native_python(target: Path) -> None:
    architecture = run(["dpkg", "--print-architecture"]).strip()
    tar = target.with_suffix(".tar")
    _mmdebstrap(architecture, [f"python{PYTHON}", "libc6"], tar)
    target.mkdir()
    with tarfile.open(tar) as archive:
        wanted = [m for m in archive if m.name.startswith(("./usr/lib", "./usr/bin/python", "./lib"))]
        archive.extractall(target, members=wanted, filter="tar")
    tar.unlink()


def debian_sources(apt: Path, suite: str) -> str:
    """One-line sources of `suite` from whatever mirror this machine's apt uses for its own Debian release."""
    own = _own_suite()
    entries = dict.fromkeys(_entries(apt))
    lines = [
        f"deb {_signed(key)}{uri} {suite}{name.removeprefix(own)} main"
        for uri, name, key in entries
        if name in (own, f"{own}-updates", f"{own}-security")
    ]
    if not any(f" {suite} " in line for line in lines):
        raise BuildFailed(f"no Debian source for {own} in {apt}: the mirror for {suite} is derived from it")
    return "\n".join(lines) + "\n"


def _entries(apt: Path) -> Iterator[tuple[str, str, str]]:
    """(address, suite, keyring) of every enabled binary source, from both of apt's formats."""
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]:
        for line in path.read_text().splitlines() if path.exists() else []:
            if match := re.match(r"deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+.*\bmain\b", line):
                key = re.search(r"signed-by=(\S+)", match[1] or "")
                yield match[2], match[3], key[1] if key else ""
    for path in sorted((apt / "sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text()):
            fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", stanza, re.MULTILINE))
            if "deb" in fields.get("Types", "").split() and fields.get("Enabled", "yes") != "no":
                for uri in fields.get("URIs", "").split():
                    for name in fields.get("Suites", "").split():
                        yield uri, name, fields.get("Signed-By", "")


def _signed(key: str) -> str:
    return f"[signed-by={key}] " if key.startswith("/") else ""


def _own_suite() -> str:
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', Path("/etc/os-release").read_text(), re.MULTILINE))
    return str(release.get("VERSION_CODENAME", ""))


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()[:16]


@contextmanager
def _placed(target: Path) -> Iterator[Path]:
    """A path beside the target that takes its place only when the block succeeds: a broken download leaves nothing."""
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        yield part
        if target.is_dir():
            shutil.rmtree(target)
        part.replace(target)
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)
