"""The resident service's command line, with getopt: argparse would stay in memory for years for three options."""

from __future__ import annotations

import getopt
from dataclasses import dataclass

USAGE = """\
usage: notifyd [--lan-interface IF]... [--https-port PORT] [--name NAME]... [--version] [--help]

Sends the gateway's mail through Microsoft 365.

  --lan-interface IF   an interface of the LAN (may be given again; a pattern such as lan* is allowed)
  --https-port PORT    port of the page, for redirect URIs (default 443)
  --name NAME          a DNS name of the gateway in the LAN (may be given again)

NOTIFYD_ETC, NOTIFYD_DATA and NOTIFYD_RUN move /etc/notifyd, /data/notifyd and /run/notifyd.
"""


class UsageError(Exception):
    """The command line is wrong; the text says how."""


@dataclass(frozen=True, slots=True)
class Options:
    """lan_interface: interfaces of the LAN; https_port: where the page answers; name: the gateway's LAN names."""

    lan_interface: tuple[str, ...] = ()
    https_port: int = 443
    name: tuple[str, ...] = ()
    show: str = ""


def parse(arguments: list[str]) -> Options:
    """The options; `show` is `help` or `version` when only that was asked. Raises UsageError."""
    try:
        given, rest = getopt.gnu_getopt(arguments, "", ["lan-interface=", "https-port=", "name=", "version", "help"])
    except getopt.GetoptError as error:
        raise UsageError(str(error)) from None
    if rest:
        raise UsageError(f"unexpected argument {rest[0]!r}")
    for flag in ("help", "version"):
        if (f"--{flag}", "") in given:
            return Options(show=flag)
    ports = [value for option, value in given if option == "--https-port"] or ["443"]
    if not (ports[-1].isascii() and ports[-1].isdigit() and 0 < int(ports[-1]) < 65536):
        raise UsageError(f"not a port: {ports[-1]!r}")
    return Options(
        tuple(value for option, value in given if option == "--lan-interface"),
        int(ports[-1]),
        tuple(value for option, value in given if option == "--name"),
    )
