"""One step on the stores of a device, run by the crash tests in a process of its own under strace.

`python -m tests.adapters.store_steps STEP DIRECTORY`: prints `ack` when the step is durable, by its own account.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from notifyd.adapters.database import SettingsStore, open_database
from notifyd.adapters.devicekey import device_key_path, read_device_key
from notifyd.adapters.vault import Vault
from notifyd.core.faults import StoreFailed, StoreFull
from notifyd.core.settings import Auth, Security, Settings

OLD, NEW = b"old grant" * 100, b"new grant" * 100
REFUSED = 3
"""Exit status for a step that was refused by name."""

_open: list[object] = []
"""Keeps connections open: closing one would begin a checkpoint, which is no part of the step."""


def _settings_store(directory: Path) -> SettingsStore:
    connection = open_database(directory / "notifyd.db")
    _open.append(connection)
    return SettingsStore(connection)


def settings(sender: str) -> Settings:
    """Settings that differ in their sender."""
    return Settings("smtp.example", 587, Security.STARTTLS, Auth.OAUTH2, "public", sender, "client", "tenant")


def token_commit(directory: Path) -> None:
    """Commit a renewed grant."""
    Vault(directory / "grant.slots").commit({"generation": 2}, NEW)


def token_wipe(directory: Path) -> None:
    """Forget the grant."""
    Vault(directory / "grant.slots").wipe()


def config_apply(directory: Path) -> None:
    """Save changed settings."""
    _settings_store(directory).save(settings("new@example"), b"new secret", 2)


def first_start(directory: Path) -> None:
    """Make the device's key and both stores."""
    read_device_key(device_key_path(directory, None))
    Vault(directory / "grant.slots").commit({"generation": 1}, NEW)
    _settings_store(directory).save(settings("new@example"), b"new secret", 1)


STEPS = {step.__name__: step for step in (token_commit, token_wipe, config_apply, first_start)}


def prepare(directory: Path) -> None:
    """The state before the step: an old grant and old settings, with both slots in use."""
    vault = Vault(directory / "grant.slots")
    vault.commit({"generation": 0}, b"older grant")
    vault.commit({"generation": 1}, OLD)
    vault.close()
    connection = open_database(directory / "notifyd.db")
    SettingsStore(connection).save(settings("old@example"), b"old secret", 1)
    connection.close()


def main() -> int:
    """Run one step."""
    step, directory = STEPS[sys.argv[1]], Path(sys.argv[2])
    try:
        step(directory)
    except (StoreFailed, StoreFull, OSError) as error:
        print("refused", type(error).__name__, error, flush=True)
        return REFUSED
    print("ack", flush=True)
    return 0


if __name__ == "__main__":
    os._exit(main())
