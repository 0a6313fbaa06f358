"""The device certificate: right names, right time, renewed only for a reason, never torn."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from notifyd.adapters import certificate as subject

NOW = datetime(2026, 11, 25, 1, 0, tzinfo=UTC)
HOSTS = ["gateway.example", "192.168.168.1", "fd00::1"]


def stored(directory: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((directory / subject.FILE_NAME).read_bytes())


def test_holds_names_and_addresses(tmp_path: Path) -> None:
    """DNS names and addresses stand as what they are; P-256, no CA, for servers only."""
    assert subject.ensure_certificate(tmp_path, HOSTS, NOW)
    certificate = stored(tmp_path)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gateway.example"]
    assert sorted(map(str, names.get_values_for_type(x509.IPAddress))) == ["192.168.168.1", "fd00::1"]
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert isinstance(certificate.signature_hash_algorithm, hashes.SHA256)


def test_lasts_as_long_as_browsers_take(tmp_path: Path) -> None:
    """397 days at most, and already valid for a browser whose clock is a day behind."""
    subject.ensure_certificate(tmp_path, HOSTS, NOW)
    certificate = stored(tmp_path)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(days=397)
    assert certificate.not_valid_before_utc <= NOW - timedelta(days=1)


def test_file_is_private(tmp_path: Path) -> None:
    """The file holds the key: nobody else may read it, whatever the umask, and nothing is left beside it."""
    before = os.umask(0)
    try:
        subject.ensure_certificate(tmp_path / "tls", HOSTS, NOW)
    finally:
        os.umask(before)
    assert (tmp_path / "tls" / subject.FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "tls").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in (tmp_path / "tls").iterdir()] == [subject.FILE_NAME]


def test_openssl_accepts_it_for_its_names(tmp_path: Path) -> None:
    """A client that trusts the certificate completes a handshake with each of its names."""
    subject.ensure_certificate(tmp_path, [*HOSTS, "127.0.0.1"], datetime.now(UTC))
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(tmp_path / subject.FILE_NAME)
    for host in ("gateway.example", "192.168.168.1", "fd00::1"):
        client_side = ssl.create_default_context(cafile=str(tmp_path / subject.FILE_NAME))
        left, right = socket.socketpair()
        with left, right:
            client = threading.Thread(
                target=lambda: client_side.wrap_socket(left, server_hostname=host).close(),  # noqa: B023  # joined below
            )
            client.start()
            server_side.wrap_socket(right, server_side=True).close()
            client.join(10)
            assert not client.is_alive()


REASONS = {
    "nothing changed": (HOSTS, NOW + timedelta(days=200), False),
    "an address went away": (HOSTS[:2], NOW + timedelta(days=200), False),
    "an address came": ([*HOSTS, "10.0.0.1"], NOW, True),
    "near its end": (HOSTS, NOW + timedelta(days=380), True),
    "past its end": (HOSTS, NOW + timedelta(days=4000), True),
    "the clock went back before it": (HOSTS, NOW - timedelta(days=100), True),
    "the clock is obviously wrong": (HOSTS, datetime(1970, 1, 1, 0, 1, tzinfo=UTC), False),
}


@pytest.mark.parametrize(("hosts", "now", "renewed"), REASONS.values(), ids=REASONS)
def test_is_renewed_only_for_a_reason(tmp_path: Path, hosts: list[str], now: datetime, renewed: bool) -> None:
    """Every renewal costs the administrator a browser warning, so there must be a reason."""
    subject.ensure_certificate(tmp_path, HOSTS, NOW)
    first = stored(tmp_path)
    assert subject.ensure_certificate(tmp_path, hosts, now) is renewed
    assert (stored(tmp_path) != first) is renewed


def test_made_without_a_clock_holds_today(tmp_path: Path) -> None:
    """One made in 1970 is taken by a browser of the real year, and is replaced once time is known."""
    subject.ensure_certificate(tmp_path, HOSTS, datetime(1970, 1, 1, 0, 2, tzinfo=UTC))
    made = stored(tmp_path)
    assert made.not_valid_before_utc <= NOW <= made.not_valid_after_utc
    assert subject.ensure_certificate(tmp_path, HOSTS, NOW)
    assert stored(tmp_path).not_valid_after_utc - NOW < subject.LIFETIME


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_torn_file_is_replaced(tmp_path: Path, content: bytes) -> None:
    """A file that cannot be served is no certificate."""
    (tmp_path / subject.FILE_NAME).write_bytes(content)
    assert subject.ensure_certificate(tmp_path, HOSTS, NOW)
    assert stored(tmp_path)


def test_foreign_key_is_replaced(tmp_path: Path) -> None:
    """A certificate beside another's key would stop the web server."""
    first = subject.issue(frozenset(), NOW)
    second = subject.issue(frozenset(), NOW)
    key_of_first = first.partition(b"-----BEGIN CERTIFICATE")[0]
    certificate_of_second = b"-----BEGIN CERTIFICATE" + second.partition(b"-----BEGIN CERTIFICATE")[2]
    (tmp_path / subject.FILE_NAME).write_bytes(key_of_first + certificate_of_second)
    assert subject.ensure_certificate(tmp_path, [], NOW)


def test_renewal_without_known_hosts_keeps_the_names(tmp_path: Path) -> None:
    """notifyd may be away when the time comes: the names stay."""
    subject.ensure_certificate(tmp_path, HOSTS, NOW)
    before = stored(tmp_path).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert subject.ensure_certificate(tmp_path, [], NOW + timedelta(days=390))
    assert stored(tmp_path).extensions.get_extension_for_class(x509.SubjectAlternativeName) == before


def test_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    """A symbolic link planted under the temporary name does not lead the key elsewhere."""
    (tmp_path / "device.new").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        subject.ensure_certificate(tmp_path, HOSTS, NOW)
    assert not (tmp_path / "elsewhere").exists()
