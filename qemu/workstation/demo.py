"""`make demo`: the gateway against the simulated Microsoft 365, until Ctrl-C, leaving nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qemu.workstation.gateway import ADMIN, DEFAULT_PORT, Gateway, stay_until_signal
from qemu.workstation.processes import Child, StartFailed, child_environment, wait_until

SIMULATOR_DEADLINE_S = 60.0


@dataclass(frozen=True)
class Demo:
    """A running gateway and the simulated Microsoft 365 it talks to (`m365`: what the simulator printed when ready)."""

    gateway: Gateway
    m365: dict[str, Any]


@contextmanager
def running_demo(port: int) -> Iterator[Demo]:
    """Both sides on a directory of their own, removed at the end; raises StartFailed when one does not come up."""
    home = Path(tempfile.mkdtemp(prefix="notifyd-demo-"))
    try:
        with _simulator(home, port) as m365:
            etc = home / "etc"
            shutil.copytree(home / "m365" / "clouds.d", etc / "clouds.d")
            with Gateway(etc, home / "data", home / "run", port, password="gateway-demo") as gateway:
                yield Demo(gateway, m365)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _simulator(home: Path, port: int) -> Iterator[dict[str, Any]]:
    directory = home / "m365"
    directory.mkdir()
    redirects = [f"https://{host}:{port}/cgi-bin/msoauth2.cgi" for host in ("127.0.0.1", "localhost")]
    argv = [sys.executable, "-m", "qemu.m365", "--dir", str(directory)]
    argv += [word for redirect in redirects for word in ("--redirect-uri", redirect)]
    with Child("m365", argv, child_environment(), home / "m365.log") as child:
        wait_until(lambda: child.stdout.read_bytes().endswith(b"}\n"), SIMULATOR_DEADLINE_S, "the simulator", child)
        yield json.loads(child.stdout.read_text())


def describe(demo: Demo) -> str:
    """What a person needs in order to try it by hand."""
    m365 = demo.m365
    host, smtp_port = m365["smtp"]
    return f"""
The gateway's page    {demo.gateway.address}/   (its certificate is its own: accept it once)
Login                 {ADMIN} / {demo.gateway.password}

In System > Notification > Mail Server enter
  Mail Server           {host}
  Port                  {smtp_port}, STARTTLS
  Authentication        Microsoft OAuth 2.0, cloud "simulated"
  Sender Email Address  {m365["users"][0]["upn"]}
  Client ID             {m365["client_id"]}
  Client Secret         {m365["client_secret"]}
  Tenant ID             {m365["tenant_id"]}
then Apply, Get New Token (any password will do), and send a test mail.

Mailboxes             {m365["mailbox"]}
Failures on order     {m365["control"]}   (qemu/m365/README.md)

Stop with Ctrl-C.
"""


def main() -> int:
    try:
        with running_demo(int(os.environ.get("PORT", DEFAULT_PORT))) as demo:
            print(describe(demo), flush=True)
            stay_until_signal(demo.gateway.check)
    except StartFailed as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
