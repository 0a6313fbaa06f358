"""The device's own key: made once on the device, never shared, never in a backup."""

from __future__ import annotations

import os
from pathlib import Path

KEY_LENGTH = 32
"""AES-256."""

KEY_NAME = "device.key"


def device_key_path(data: Path, credentials: Path | None) -> Path:
    """Where the key is: a systemd credential named `device.key` wins over the file in `data`, which is made if absent.

    Raises OSError when it can be neither found nor made.
    """
    if credentials is not None and (credentials / KEY_NAME).is_file():
        return credentials / KEY_NAME
    path = data / KEY_NAME
    if not path.exists():
        _make(path)
    return path


def read_device_key(path: Path) -> bytes:
    """The key's 32 bytes. Raises ValueError when the file has another length."""
    key = path.read_bytes()
    if len(key) != KEY_LENGTH:
        raise ValueError(f"{path.name} holds {len(key)} bytes instead of {KEY_LENGTH}")
    return key


def _make(path: Path) -> None:
    """Durable before it is used: what is sealed under a key that a power cut takes away is lost."""
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, os.getrandom(KEY_LENGTH))  # blocks on a first boot until the kernel has entropy
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
