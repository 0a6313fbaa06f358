"""Where events are sent: the `[syslog]` table of notifyd.toml as values that check themselves.

[syslog]
facility = "local1"            # default
enterprise = 32473             # your private enterprise number, for the structured data
[[syslog.collectors]]
url = "tls://log.example.net:6514"   # udp:// tcp:// tls://; default ports 514, 601 (RFC 6587), 6514
level = "info"                 # this urgent or more
categories = []                # only these; empty is all
format = "rfc5424"             # or "family": src= dst= msg= note= user= devID= cat=
framing = "octet-counting"     # or "newline"; TLS always counts
ca_file = ""                   # for tls://: who signs the collector's certificate; default the system's
cert_file = ""                 # for tls://: our own certificate and key, when the collector asks for one
key_file = ""
backlog = 10000                # events kept for it while it is away; beyond, the oldest are dropped and counted
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from notifyd.core.eventlog import Category, Level, parse_level
from notifyd.core.rfc5424 import FACILITIES

MAX_COLLECTORS = 8


class Transport(StrEnum):
    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


_PORTS = {Transport.UDP: 514, Transport.TCP: 601, Transport.TLS: 6514}


@dataclass(frozen=True, slots=True)
class Collector:
    """One receiver of events; its fields are those of the file."""

    transport: Transport
    host: str
    port: int
    level: Level = Level.INFO
    categories: frozenset[str] = frozenset()
    family_layout: bool = False
    newline_framing: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    backlog: int = 10_000

    @property
    def name(self) -> str:
        """How events and metrics call it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Syslog:
    """The whole table."""

    collectors: tuple[Collector, ...] = ()
    facility: int = FACILITIES["local1"]
    enterprise: int = 32473


def parse_syslog(table: Mapping[str, object]) -> Syslog:
    """The table as values. Raises ValueError with the key and the reason."""
    unknown = set(table) - {"facility", "enterprise", "collectors"}
    if unknown:
        raise ValueError(f"syslog.{min(unknown)}: unknown key")
    facility = str(table.get("facility", "local1"))
    if facility not in FACILITIES:
        raise ValueError(f"syslog.facility: {facility!r} is no facility")
    listed = table.get("collectors", [])
    if not isinstance(listed, list) or len(listed) > MAX_COLLECTORS:
        raise ValueError(f"syslog.collectors: must be a list of at most {MAX_COLLECTORS}")
    return Syslog(
        collectors=tuple(_collector(each, f"syslog.collectors[{index}]") for index, each in enumerate(listed)),
        facility=FACILITIES[facility],
        enterprise=_number(table, "enterprise", 32473, 1, 2**32 - 1, "syslog"),
    )


_KEYS = frozenset(
    {"url", "level", "categories", "format", "framing", "ca_file", "cert_file", "key_file", "backlog"}
)  # fmt: skip


def _collector(table: object, where: str) -> Collector:
    if not isinstance(table, Mapping):
        raise ValueError(f"{where}: must be a table")  # noqa: TRY004  # one kind of error for a bad file
    unknown = set(table) - _KEYS
    if unknown:
        raise ValueError(f"{where}.{min(unknown)}: unknown key")
    transport, host, port = _address(str(table.get("url", "")), where)
    try:
        level = parse_level(str(table.get("level", "info")))
    except ValueError:
        raise ValueError(f"{where}.level: {table['level']!r} is no level") from None
    categories = table.get("categories", [])
    if not isinstance(categories, list) or not set(categories) <= set(Category):
        raise ValueError(f"{where}.categories: must be a list of {', '.join(Category)}")
    return Collector(
        transport=transport,
        host=host,
        port=port,
        level=level,
        categories=frozenset(map(str, categories)),
        family_layout=_choice(table, "format", ("rfc5424", "family"), where) == "family",
        newline_framing=_choice(table, "framing", ("octet-counting", "newline"), where) == "newline",
        ca_file=str(table.get("ca_file", "")),
        cert_file=str(table.get("cert_file", "")),
        key_file=str(table.get("key_file", "")),
        backlog=_number(table, "backlog", 10_000, 1, 100_000, where),
    )


def _address(url: str, where: str) -> tuple[Transport, str, int]:
    try:
        parts = urlsplit(url)
        transport = Transport(parts.scheme)
        port = parts.port
    except ValueError:
        raise ValueError(f"{where}.url: {url!r} must be udp://, tcp:// or tls:// with a host and a port") from None
    if not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment or parts.username:
        raise ValueError(f"{where}.url: {url!r} must have a host and nothing after the port")
    return transport, parts.hostname, _PORTS[transport] if port is None else port


def _choice(table: Mapping[str, object], key: str, allowed: tuple[str, ...], where: str) -> str:
    value = table.get(key, allowed[0])
    if value not in allowed:
        raise ValueError(f"{where}.{key}: must be one of {', '.join(allowed)}")
    return str(value)


def _number(table: Mapping[str, object], key: str, default: int, least: int, most: int, where: str) -> int:
    value = table.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{where}.{key}: must be a number from {least} to {most}")
    return value
