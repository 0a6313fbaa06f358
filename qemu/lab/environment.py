"""The lab's environment file as typed values."""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PATH = Path(__file__).with_name("environment.toml")


@dataclass(frozen=True)
class Wire:
    """The network that a zone's ports are plugged into."""

    network: str
    host: str
    dhcp_start: str
    resolver: str


@dataclass(frozen=True)
class Deadline:
    """Seconds until a state must be reached."""

    booted: float
    ready: float
    shutdown: float


@dataclass(frozen=True)
class Environment:
    """What the lab is made of on this machine."""

    program: str
    accelerator: str
    boot_loader: Path
    wires: Mapping[str, Wire]
    deadline: Deadline

    def missing(self) -> str | None:
        """What this machine lacks to run the lab, in words, or None."""
        if shutil.which(self.program) is None:
            return f"{self.program} is not installed (make qemu-setup)"
        if not self.boot_loader.exists():
            return f"{self.boot_loader} is not installed (make qemu-setup)"
        return None


def load_environment(path: Path = PATH) -> Environment:
    """Reads the environment; NOTIFYD_LAB_SLOWNESS multiplies the deadlines on a machine that is slower than usual."""
    table = tomllib.loads(path.read_text())
    slowness = float(os.environ.get("NOTIFYD_LAB_SLOWNESS", "1"))
    return Environment(
        program=table["qemu"]["program"],
        accelerator=table["qemu"]["accelerator"],
        boot_loader=Path(table["qemu"]["boot_loader"]),
        wires={name: Wire(**fields) for name, fields in table["wire"].items()},
        deadline=Deadline(**{name: seconds * slowness for name, seconds in table["deadline"].items()}),
    )
