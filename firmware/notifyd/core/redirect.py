"""The redirect URIs an administrator registers in Entra: one for every LAN name and address of the gateway."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

CALLBACK_PATH = "/cgi-bin/msoauth2.cgi"
"""Path of the CGI; Entra compares it case-sensitively (docs: reply-url)."""

HTTPS_PORT = 443
MAX_URI_LENGTH = 256
"""Entra refuses longer redirect URIs."""


def redirect_uris(names: Iterable[str], addresses: Iterable[str], port: int = HTTPS_PORT) -> list[str]:
    """Every URI under which the CGI can be reached from the LAN, names first, in the order given, without repeats.

    addresses: textual IPv4 or IPv6 addresses; IPv6 literals are bracketed (RFC 3986 §3.2.2). Link-local ones are left
    out because they need a zone, which Entra cannot register, the IPv6 loopback because Entra refuses it; unspecified,
    multicast and unreadable ones because no browser can reach them.
    port: the HTTPS port, shown only when it is not 443.
    """
    hosts = [*filter(None, map(_name_host, names)), *filter(None, map(_address_host, addresses))]
    suffix = "" if port == HTTPS_PORT else f":{port}"
    uris = (f"https://{host}{suffix}{CALLBACK_PATH}" for host in dict.fromkeys(hosts))
    return [uri for uri in uris if len(uri) <= MAX_URI_LENGTH]


def _name_host(name: str) -> str:
    host = name.strip().rstrip(".").lower()
    try:
        return host.encode("idna").decode("ascii") if host else ""
    except UnicodeError:
        return ""


def _address_host(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address.strip())
    except ValueError:
        return ""
    if parsed.is_link_local or parsed.is_multicast or parsed.is_unspecified:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address):
        return "" if parsed.scope_id or parsed.is_loopback else f"[{parsed.compressed}]"
    return str(parsed)
