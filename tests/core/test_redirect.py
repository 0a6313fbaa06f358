"""Redirect URIs to register in Entra."""

from __future__ import annotations

from notifyd.core.redirect import redirect_uris


def test_names_come_before_addresses_and_none_twice() -> None:
    """Every LAN name and address, ready to copy."""
    assert redirect_uris(["gw.lan", "GW.lan."], ["192.168.1.1", "192.168.1.1"]) == [
        "https://gw.lan/cgi-bin/msoauth2.cgi",
        "https://192.168.1.1/cgi-bin/msoauth2.cgi",
    ]


def test_ipv6_literals_are_bracketed_and_shortened() -> None:
    """RFC 3986 §3.2.2."""
    assert redirect_uris([], ["FD00:0:0:0:0:0:0:1"], 8443) == ["https://[fd00::1]:8443/cgi-bin/msoauth2.cgi"]


def test_what_no_browser_or_entra_can_use_is_left_out() -> None:
    """Link-local needs a zone; the unspecified address, multicast and rubbish reach nothing."""
    useless = ["fe80::1", "fe80::1%eth0", "fd00::1%eth0", "169.254.1.1", "0.0.0.0", "::", "224.0.0.1", "x", ""]
    assert redirect_uris(["", " "], useless) == []


def test_port_is_shown_only_when_it_is_not_the_usual() -> None:
    """Entra compares the text."""
    assert redirect_uris(["a"], [], 443) == ["https://a/cgi-bin/msoauth2.cgi"]
    assert redirect_uris(["a"], [], 8443) == ["https://a:8443/cgi-bin/msoauth2.cgi"]


def test_international_names_are_written_as_dns_has_them() -> None:
    """IDNA; a name that cannot be encoded is left out."""
    assert redirect_uris(["gäteway.example", "a" * 64 + ".example"], []) == [
        "https://xn--gteway-bua.example/cgi-bin/msoauth2.cgi"
    ]


def test_address_that_entra_would_refuse_for_length_is_left_out() -> None:
    """256 characters at most."""
    assert redirect_uris([".".join(["a" * 60] * 4)], []) == []


def test_the_ipv6_loopback_is_left_out() -> None:
    """Entra refuses `[::1]` as a redirect URI, so it is not offered; the IPv4 loopback is fine."""
    assert redirect_uris((), ("127.0.0.1", "::1"), 8443) == ["https://127.0.0.1:8443/cgi-bin/msoauth2.cgi"]
