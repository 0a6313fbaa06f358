"""`python -m notifyd.webserver`: makes the device certificate and lighttpd.conf, then becomes lighttpd.

With `--renew` it only renews the certificate when that is needed, and tells the running lighttpd to take it: to be
called when a LAN address has changed, and daily. Nothing of Python stays resident.
"""

from __future__ import annotations

import argparse
import http.client
import ipaddress
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from notifyd.adapters.certificate import FILE_NAME, ensure_certificate

FIRMWARE = Path(__file__).resolve().parents[1]
NOTIFYD_DEADLINE_S = 5.0
PROCESSES = Path("/proc")


class NotStarted(RuntimeError):
    """The web server cannot be started; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class WebServer:
    """What the configuration is made from.

    listen: addresses of the LAN side; names: DNS names of the device, for its certificate.
    access_log: a file, or "syslog". systemd_sockets: listening sockets come from systemd, bound to the LAN device.
    """

    data: Path
    run: Path
    www: Path
    cgi: Path
    template: Path
    listen: tuple[str, ...]
    port: int
    names: tuple[str, ...]
    access_log: str
    systemd_sockets: bool

    @property
    def tls(self) -> Path:
        return self.data / "tls"

    @property
    def configuration(self) -> Path:
        return self.run / "lighttpd.conf"


def certificate_hosts(names: Sequence[str], listen: Sequence[str], run: Path) -> list[str]:
    """Every name and address by which an administrator may reach the page."""
    hosts = {*names, *_hosts_known_to_notifyd(run / "admin.sock")}
    for address in map(ipaddress.ip_address, listen):
        if not address.is_unspecified:
            hosts.add(str(address))
        if address.is_loopback:
            hosts.add("localhost")
    return sorted(hosts)


def _hosts_known_to_notifyd(admin_socket: Path) -> list[str]:
    """The hosts of the redirect URIs; none while notifyd is away (then a later `--renew` adds them)."""
    connection = http.client.HTTPConnection("localhost", timeout=NOTIFYD_DEADLINE_S)
    try:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(NOTIFYD_DEADLINE_S)
        connection.sock.connect(str(admin_socket))
        connection.request("GET", "/api/v1/redirect-uris")
        uris = json.load(connection.getresponse())["redirect_uris"]
        return [host for uri in uris if (host := urlsplit(uri).hostname)]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return []
    finally:
        connection.close()


def render(template: str, server: WebServer) -> str:
    """lighttpd's configuration. Raises NotStarted for a path that lighttpd could not take."""
    values = {
        "LISTEN": _listen_lines(server),
        "ACCESS_LOG": _access_log_line(server.access_log),
        "PEM": _quotable(server.tls / FILE_NAME),
        "RUN": _quotable(server.run),
        "WWW": _quotable(server.www),
        "CGI": _quotable(server.cgi),
    }
    for name, value in values.items():
        template = template.replace(f"@{name}@", value)
    return template


def _listen_lines(server: WebServer) -> str:
    sockets = [f"[{address}]" if ":" in address else address for address in server.listen]
    lines = [f'server.bind = "{sockets[0]}"', f"server.port = {server.port}"]
    lines += [f'$SERVER["socket"] == "{extra}:{server.port}" {{ ssl.engine = "enable" }}' for extra in sockets[1:]]
    if server.systemd_sockets:
        lines.append('server.systemd-socket-activation = "enable"')
    return "\n".join(lines)


def _access_log_line(access_log: str) -> str:
    if access_log == "syslog":
        return 'accesslog.use-syslog = "enable"'
    return f'accesslog.filename = "{_quotable(Path(access_log))}"'


def _quotable(path: Path) -> str:
    text = str(path)
    if any(character in text for character in '"\\$@\n\r'):
        raise NotStarted(
            f"cannot name {text!r} in lighttpd's configuration: move it to a path without special characters"
        )
    return text


def prepare(server: WebServer, now: datetime) -> None:
    """Certificate and configuration, ready to be used. Raises NotStarted, OSError."""
    interpreter = server.cgi.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#!").split()[0]
    if not os.access(interpreter, os.X_OK):
        raise NotStarted(
            f"cannot run the CGI: its interpreter {interpreter} is missing (Debian package python3-minimal)"
        )
    (server.run / "upload").mkdir(mode=0o700, parents=True, exist_ok=True)
    ensure_certificate(server.tls, certificate_hosts(server.names, server.listen, server.run), now)
    server.configuration.write_text(render(server.template.read_text(encoding="utf-8"), server), encoding="utf-8")


def reload_running(run: Path) -> bool:
    """Tells the running lighttpd to take its files anew, without dropping requests; False when none runs."""
    try:
        pid = int((run / "lighttpd.pid").read_text())
        if (PROCESSES / str(pid) / "comm").read_text().strip() != "lighttpd":
            return False  # the number of a dead lighttpd was given to another process
        os.kill(pid, signal.SIGUSR1)
    except (OSError, ValueError):
        return False
    return True


def lighttpd_program() -> str:
    """The path of lighttpd, which Debian keeps out of an ordinary user's PATH. Raises NotStarted."""
    found = shutil.which("lighttpd") or shutil.which("lighttpd", path="/usr/sbin:/usr/local/sbin")
    if not found:
        raise NotStarted("cannot find lighttpd (Debian packages lighttpd and lighttpd-mod-openssl)")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    run = Path(os.environ.get("NOTIFYD_RUN", "/run/notifyd")).absolute()
    data = Path(os.environ.get("NOTIFYD_DATA", "/data/notifyd")).absolute()
    server = WebServer(
        data=data,
        run=run,
        www=options.www.resolve(),
        cgi=options.cgi.resolve(),
        template=options.template,
        listen=tuple(options.listen or ["127.0.0.1"]),
        port=options.port,
        names=tuple(options.name),
        access_log=options.access_log or str(run / "access.log"),
        systemd_sockets=options.systemd_sockets,
    )
    try:
        if options.renew:
            return _renew(server)
        prepare(server, datetime.now(UTC))
        program = lighttpd_program()
        os.execv(program, [program, "-D", "-f", str(server.configuration)])  # noqa: S606  # becomes lighttpd on purpose
    except (NotStarted, OSError) as error:
        print(f"webserver: {error}", file=sys.stderr)  # noqa: T201  # a command's own message
        return 1


def _renew(server: WebServer) -> int:
    hosts = certificate_hosts(server.names, (), server.run)
    changed = ensure_certificate(server.tls, hosts, datetime.now(UTC))
    if changed:
        reload_running(server.run)
    print("renewed" if changed else "unchanged")  # noqa: T201  # the command's answer
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="notifyd.webserver", description=__doc__)
    parser.add_argument("--listen", action="append", metavar="ADDR", help="LAN address (default 127.0.0.1); repeatable")
    parser.add_argument("--port", type=int, default=443)
    parser.add_argument("--name", action="append", default=[], help="a DNS name of the device; repeatable")
    parser.add_argument("--systemd-sockets", action="store_true", help="take the listening sockets from systemd")
    parser.add_argument("--access-log", metavar="FILE", help='a file, or "syslog" (default NOTIFYD_RUN/access.log)')
    parser.add_argument("--www", type=Path, default=FIRMWARE / "www")
    parser.add_argument("--cgi", type=Path, default=FIRMWARE / "cgi-bin" / "msoauth2.cgi")
    parser.add_argument("--template", type=Path, default=FIRMWARE / "lighttpd" / "lighttpd.conf.in")
    parser.add_argument(
        "--renew", action="store_true", help="only renew the certificate if needed, and reload lighttpd"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
