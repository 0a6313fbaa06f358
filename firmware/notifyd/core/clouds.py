"""The clouds Microsoft 365 is offered in, as data: `clouds.toml` and `clouds.d/*.toml` name them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit


class InvalidCloud(ValueError):
    """A cloud's table lacks something or says something impossible; the text names the cloud and the key."""


@dataclass(frozen=True, slots=True)
class Cloud:
    """One cloud.

    authority: base URL of the login host, without the tenant and without a slash at the end.
    scope: the full name of the SMTP permission there; the short form would be taken for Microsoft Graph's.
    ca_file: path of a private CA for both the login and the mail host; empty means the system's roots.
    """

    name: str
    title: str
    authority: str
    scope: str
    smtp_host: str
    smtp_port: int
    ca_file: str = ""


KEYS = frozenset({"title", "authority", "scope", "smtp_scope", "smtp_host", "smtp_port", "ca_file"})


def parse_clouds(tables: Mapping[str, object]) -> dict[str, Cloud]:
    """The clouds of one TOML document: `[name]` tables, or the same nested under `[clouds.name]`.

    Raises InvalidCloud at the first impossible value.
    """
    nested = tables.get("clouds")
    found = dict(tables)
    if isinstance(nested, Mapping) and not KEYS & nested.keys():
        del found["clouds"]
        found.update(nested)
    return {name: _cloud(name, table) for name, table in found.items()}


def _cloud(name: str, table: object) -> Cloud:
    if not isinstance(table, Mapping):
        raise InvalidCloud(f"{name}: a table is expected")
    unknown = sorted(str(key) for key in table.keys() - KEYS)
    if unknown:
        raise InvalidCloud(f"{name}: unknown key {unknown[0]}")
    return Cloud(
        name=name,
        title=_text(name, table, "title", name),
        authority=_authority(name, _text(name, table, "authority")),
        scope=_scope(name, _text(name, table, "scope", _text(name, table, "smtp_scope", ""))),
        smtp_host=_text(name, table, "smtp_host"),
        smtp_port=_port(name, table.get("smtp_port", 587)),
        ca_file=_text(name, table, "ca_file", ""),
    )


def _text(name: str, table: Mapping[str, object], key: str, default: str | None = None) -> str:
    value = table.get(key, default)
    if not isinstance(value, str) or (default is None and not value.strip()):
        raise InvalidCloud(f"{name}: {key} must be a text")
    return value.strip()


def _authority(name: str, url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise InvalidCloud(f"{name}: authority must be an https address of a host")
    return url.rstrip("/")


def _scope(name: str, scope: str) -> str:
    if not scope.startswith("https://"):
        raise InvalidCloud(f"{name}: scope must be the full name, such as https://outlook.office.com/SMTP.Send")
    return scope


def _port(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
        raise InvalidCloud(f"{name}: smtp_port must be a number from 1 to 65535")
    return value
