"""The device's own key."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from notifyd.adapters.devicekey import device_key_path, read_device_key


def test_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    """32 random bytes, mode 0600, the same at every start."""
    path = device_key_path(tmp_path, None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = read_device_key(path)
    assert len(key) == 32
    assert device_key_path(tmp_path, None) == path
    assert read_device_key(path) == key


def test_devices_never_share_a_key(tmp_path: Path) -> None:
    """1,000 first boots, no key twice."""
    keys = set()
    for number in range(1000):
        data = tmp_path / str(number)
        data.mkdir()
        keys.add(read_device_key(device_key_path(data, None)))
    assert len(keys) == 1000


def test_systemd_credential_wins(tmp_path: Path) -> None:
    """A key from the TPM or the vendor's provisioning is used instead of the file."""
    data, credentials = tmp_path / "data", tmp_path / "credentials"
    data.mkdir()
    credentials.mkdir()
    device_key_path(data, credentials)
    assert (data / "device.key").exists()
    (credentials / "device.key").write_bytes(bytes(32))
    assert device_key_path(data, credentials) == credentials / "device.key"


def test_left_over_of_an_interrupted_first_start_does_not_matter(tmp_path: Path) -> None:
    """A half-written key was never used for anything."""
    (tmp_path / "device.new").write_bytes(b"half")
    assert len(read_device_key(device_key_path(tmp_path, None))) == 32


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_damaged_key_is_refused(tmp_path: Path, length: int) -> None:
    """A key of another length would seal, but not for this device."""
    (tmp_path / "device.key").write_bytes(bytes(length))
    with pytest.raises(ValueError, match=r"device\.key holds"):
        read_device_key(tmp_path / "device.key")
