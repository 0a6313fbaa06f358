"""The vendor's configuration files: read-only TOML under /etc/notifyd."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from notifyd.core.clouds import Cloud, parse_clouds

DEFAULTS = (Path(__file__).parents[2] / "etc" / "notifyd", Path("/usr/share/notifyd"))
"""Where the copies that come with the program are: beside the package on a workstation, installed on the board."""


class ConfigError(Exception):
    """A configuration file cannot be used. The message names the file and the reason."""


def load_clouds(etc: Path) -> dict[str, Cloud]:
    """Every cloud: those of clouds.toml (or its default copy), then those that clouds.d/*.toml adds or replaces."""
    clouds: dict[str, Cloud] = {}
    for path in (_find(etc, "clouds.toml"), *sorted((etc / "clouds.d").glob("*.toml"))):
        tables = {name: _absolute_ca_file(value, path.parent) for name, value in _read(path).items()}
        try:
            clouds |= parse_clouds(tables)
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{path}: {error}") from error
    return clouds


def load_config(etc: Path) -> dict[str, Any]:
    """The tables of notifyd.toml (or of its default copy)."""
    return _read(_find(etc, "notifyd.toml"))


def _find(etc: Path, name: str) -> Path:
    for directory in (etc, *DEFAULTS):
        if (directory / name).is_file():
            return directory / name
    raise ConfigError(f"{etc / name}: not found, nor a default copy of it")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _absolute_ca_file(value: Any, directory: Path) -> Any:
    """Make `ca_file` relative to the file that names it, in a cloud's table or one level deeper ([clouds.<name>])."""
    if not isinstance(value, Mapping):
        return value
    resolved = {key: _absolute_ca_file(inner, directory) for key, inner in value.items()}
    ca_file = resolved.get("ca_file")
    if isinstance(ca_file, str) and ca_file:
        resolved["ca_file"] = str(directory / ca_file)
    return resolved
