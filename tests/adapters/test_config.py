"""The vendor's files and what an administrator adds."""

from __future__ import annotations

from pathlib import Path

import pytest

from notifyd.adapters.config import ConfigError, load_clouds, load_config

EXTRA = """
[lab]
authority = "https://login.lab.example"
scope = "https://outlook.office.com/SMTP.Send"
smtp_host = "smtp.lab.example"
smtp_port = 2587
ca_file = "lab-ca.pem"
"""


def test_default_copies_are_used_when_there_are_no_files(tmp_path: Path) -> None:
    """The four public clouds are always there."""
    assert {"public", "usgov", "usgov-dod", "china"} <= load_clouds(tmp_path).keys()
    assert isinstance(load_config(tmp_path), dict)


def test_added_cloud_stands_beside_the_vendors(tmp_path: Path) -> None:
    """clouds.d adds; a relative ca_file is relative to the file that names it."""
    (tmp_path / "clouds.d").mkdir()
    (tmp_path / "clouds.d" / "lab.toml").write_text(EXTRA)
    clouds = load_clouds(tmp_path)
    assert "public" in clouds
    assert clouds["lab"].ca_file == str(tmp_path / "clouds.d" / "lab-ca.pem")
    assert clouds["lab"].smtp_port == 2587


def test_nested_tables_are_read_too(tmp_path: Path) -> None:
    """[clouds.lab] is the same as [lab]."""
    (tmp_path / "clouds.d").mkdir()
    (tmp_path / "clouds.d" / "lab.toml").write_text(EXTRA.replace("[lab]", "[clouds.lab]"))
    assert load_clouds(tmp_path)["lab"].ca_file == str(tmp_path / "clouds.d" / "lab-ca.pem")


def test_vendor_file_replaces_the_default_copy(tmp_path: Path) -> None:
    """A clouds.toml on the device is the only one of its kind."""
    (tmp_path / "clouds.toml").write_text(EXTRA)
    assert list(load_clouds(tmp_path)) == ["lab"]


@pytest.mark.parametrize("content", ["not toml [", "[x]\nauthority = 5\n", "\xff"])
def test_bad_file_is_named(tmp_path: Path, content: str) -> None:
    """The message tells which file and why."""
    (tmp_path / "clouds.toml").write_text(content, "latin-1")
    with pytest.raises(ConfigError, match=r"clouds\.toml: "):
        load_clouds(tmp_path)
