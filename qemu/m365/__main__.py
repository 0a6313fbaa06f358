"""`python -m qemu.m365`: run the simulated Microsoft 365 until a signal; prints one JSON line when ready."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import signal
import sys
from pathlib import Path

from qemu.m365.simulator import Simulator

_PR_SET_PDEATHSIG = 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m qemu.m365", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="where certificates and clouds.d/m365.toml are written")
    parser.add_argument("--idp-port", type=int, default=0, help="HTTPS port of the identity provider (0: a free one)")
    parser.add_argument("--smtp-port", type=int, default=0, help="port of the mail submission server")
    parser.add_argument("--control-port", type=int, default=0, help="port of the control API and the mailbox view")
    parser.add_argument("--host", default="localhost", help="name in the addresses (default: %(default)s)")
    parser.add_argument("--bind", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--name", action="append", default=[], help="further name or address in the certificates")
    parser.add_argument("--redirect-uri", action="append", default=[], help="redirect URI registered for the app")
    parser.add_argument("--die-with-parent", action="store_true", help="end when the process that started this ends")
    return parser.parse_args()


def _die_with_parent() -> None:
    """Ask the kernel for SIGTERM at the parent's end; end at once when it has gone already."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)


async def _run(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Simulator(
        arguments.dir,
        idp_port=arguments.idp_port,
        smtp_port=arguments.smtp_port,
        control_port=arguments.control_port,
        host=arguments.host,
        bind=arguments.bind,
        names=arguments.name,
        redirect_uris=arguments.redirect_uri,
    ) as simulator:
        print(simulator.endpoints.as_line(), flush=True)
        await stop.wait()


def main() -> None:
    """The program."""
    arguments = _arguments()
    if arguments.die_with_parent:
        _die_with_parent()
    asyncio.run(_run(arguments))


if __name__ == "__main__":
    main()
