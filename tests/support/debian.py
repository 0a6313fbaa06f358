"""Programs of Debian that the tests run without installing them: unpacked under build/debian with apt."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHELF = ROOT / "build" / "debian"


@cache
def unpacked(*packages: str) -> Path:
    """A directory in which these packages are unpacked together. Skips the test where apt cannot give them."""
    shelf = SHELF / "-".join(packages)
    done = shelf / ".complete"
    if done.exists():
        return shelf
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        pytest.skip("needs Debian's apt and dpkg")
    shutil.rmtree(shelf, ignore_errors=True)
    (shelf / "archives").mkdir(parents=True)
    command = ["apt-get", "download", "-o", "APT::Sandbox::User=root", *packages]
    got = subprocess.run(command, cwd=shelf / "archives", capture_output=True, text=True, check=False, timeout=120)
    if got.returncode != 0:
        pytest.skip(f"apt cannot give {', '.join(packages)}: {got.stderr.strip()[-200:]}")
    for archive in sorted((shelf / "archives").glob("*.deb")):
        subprocess.run(["dpkg", "-x", str(archive), str(shelf)], check=True, timeout=60)
    done.touch()
    return shelf


def library_path(shelf: Path) -> str:
    """LD_LIBRARY_PATH for what was unpacked there."""
    return ":".join(sorted({str(found.parent) for found in shelf.rglob("lib*.so*")}))


def in_private_root(command: Sequence[str], setup: str, home: Path) -> list[str]:
    """A command line that runs `command` in a mount namespace of its own, after a shell fragment has prepared it.

    In the fragment, `over DIR` puts a writable layer on a directory of the system; nothing of it is seen outside.
    """
    script = f"""
        set -e
        mount -t tmpfs none {home}
        over() {{
            layer={home}/$(echo "$1" | tr / _); mkdir -p $layer/up $layer/work
            mount -t overlay overlay -o lowerdir=$1,upperdir=$layer/up,workdir=$layer/work $1
        }}
        {setup}
        exec "$@"
    """
    return ["unshare", "-m", "sh", "-c", script, "sh", *command]
