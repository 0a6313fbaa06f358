"""Starts a real rsyslog or syslog-ng that writes each message it took, as it understood it, as one JSON line."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROOT = Path(__file__).resolve().parents[2]
UNPACKED = ROOT / "build" / "collectors"
LIBRARIES = UNPACKED / "usr" / "lib"

RSYSLOG = """\
global(workDirectory="{dir}" maxMessageSize="64k" defaultNetstreamDriver="ossl"
  defaultNetstreamDriverCAFile="{dir}/ca.pem" defaultNetstreamDriverCertFile="{dir}/server.pem"
  defaultNetstreamDriverKeyFile="{dir}/server.key" parser.escapeControlCharactersOnReceive="off")
module(load="imudp") module(load="imptcp")
module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon")
template(name="json" type="list" option.jsonf="on") {{
  property(outname="pri" name="pri" format="jsonf")
  property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
  property(outname="host" name="hostname" format="jsonf")
  property(outname="app" name="app-name" format="jsonf")
  property(outname="msgid" name="msgid" format="jsonf")
  property(outname="sd" name="structured-data" format="jsonf")
  property(outname="msg" name="msg" format="jsonf")
  property(outname="raw" name="rawmsg" format="jsonf")
}}
ruleset(name="out") {{ action(type="omfile" file="{dir}/out" template="json") }}
input(type="imudp" address="127.0.0.1" port="{udp}" ruleset="out")
input(type="imptcp" address="127.0.0.1" port="{tcp}" ruleset="out")
input(type="imtcp" address="127.0.0.1" port="{tls}" ruleset="out")
"""

SYSLOG_NG = """\
@version: 3.38
options {{ keep-hostname(yes); use-dns(no); stats-freq(0); log-msg-size(65536); }};
source s {{
  network(transport("udp") ip("127.0.0.1") port({udp}) flags(syslog-protocol));
  syslog(transport("tcp") ip("127.0.0.1") port({tcp}));
  syslog(transport("tls") ip("127.0.0.1") port({tls})
    tls(key-file("{dir}/server.key") cert-file("{dir}/server.pem") peer-verify(optional-untrusted)));
}};
destination d {{ file("{dir}/out" flush-lines(1) template("$(format-json \
pri=$PRI time=$ISODATE host=$HOST app=$PROGRAM msgid=$MSGID msg=$MESSAGE --key .SDATA.*)\\n")); }};
log {{ source(s); destination(d); }};
"""


@dataclass
class Daemon:
    """A running collector. `port` is by transport; `received` are the messages so far."""

    name: str
    directory: Path
    port: dict[str, int]
    process: subprocess.Popen[bytes] | None = None

    @property
    def received(self) -> list[dict[str, Any]]:
        out = self.directory / "out"
        if not out.exists():
            return []
        lines = out.read_bytes().split(b"\n")[:-1]
        return [json.loads(line, strict=False) for line in lines]

    def start(self) -> None:
        libraries = (_arch_libraries(), UNPACKED / "lib" / _arch_libraries().name, LIBRARIES / "syslog-ng")
        environment = os.environ | {"LD_LIBRARY_PATH": ":".join(map(str, libraries))}
        command = _rsyslog(self.directory) if self.name == "rsyslog" else _syslog_ng(self.directory)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        wait_until(self._listens, f"{self.name} to listen; its log: {self.directory / 'log'}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "log").read_text()
        for kind in ("tcp", "tls"):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port[kind])):
                    return False
        return True


def make(name: str, directory: Path) -> Daemon:
    """A collector with free ports and a certificate for 127.0.0.1 below `directory`; not started yet."""
    directory.mkdir(parents=True)
    make_certificates(directory)
    port = {"udp": free_port(socket.SOCK_DGRAM), "tcp": free_port(), "tls": free_port()}
    template = RSYSLOG if name == "rsyslog" else SYSLOG_NG
    (directory / "conf").write_text(template.format(dir=directory, **port))
    return Daemon(name, directory, port)


def _rsyslog(directory: Path) -> list[str]:
    modules = str(_arch_libraries() / "rsyslog")
    binary = str(UNPACKED / "usr/sbin/rsyslogd")
    return [binary, "-n", "-f", str(directory / "conf"), "-i", str(directory / "pid"), "-M", modules]


def _syslog_ng(directory: Path) -> list[str]:
    state = [f"--{option}={directory / option}" for option in ("persist-file", "pidfile", "control")]
    modules = f"--module-path={LIBRARIES / 'syslog-ng' / '3.38'}"
    return [str(UNPACKED / "usr/sbin/syslog-ng"), "-F", "--no-caps", "-f", str(directory / "conf"), modules, *state]


def _arch_libraries() -> Path:
    return next(iter(LIBRARIES.glob("*-linux-gnu*")), LIBRARIES)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Polls a condition with a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


def make_certificates(directory: Path) -> None:
    """A private CA in ca.pem, and a certificate of it for 127.0.0.1 and localhost in server.pem and server.key."""
    now = datetime.datetime.now(datetime.UTC)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "collector test CA")])
    key = ec.generate_private_key(ec.SECP256R1())

    def begin(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
        )

    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    ca = (
        begin(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(True, 0), True)
        .sign(ca_key, hashes.SHA256())
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    server = begin(subject, key.public_key()).add_extension(names, False).sign(ca_key, hashes.SHA256())
    pem, clear = serialization.Encoding.PEM, serialization.NoEncryption()
    (directory / "ca.pem").write_bytes(ca.public_bytes(pem))
    (directory / "server.pem").write_bytes(server.public_bytes(pem))
    key_bytes = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, clear)
    (directory / "server.key").write_bytes(key_bytes)
