"""`make qemu`: the board's image with a LAN and a WAN, the simulated Microsoft 365 behind the WAN, and a console.

The page is in the person's own browser through a port of the loopback; the serial console is this terminal, logged in
as root by a credential of the machine's owner. Leave with Ctrl-C, or `poweroff` on the console.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from contextlib import suppress

from qemu.image.board import REPOSITORY, load_board
from qemu.lab.environment import load_environment
from qemu.lab.machine import LabFailed, Machine, Setup, free_port
from qemu.lab.microsoft import CLOUDS_IN_GUEST, Microsoft, running_microsoft
from qemu.lab.strategy import ADMIN, IMAGE, Unit
from qemu.workstation.processes import StartFailed

FOLDER = REPOSITORY / "build" / "qemu" / "run"
PASSWORD = "gateway-demo"
CLOUD_UNIT = f"""[Unit]
DefaultDependencies=no
After=data-ready.service
Before=notifyd.service
[Service]
Type=oneshot
ImportCredential=m365.*
ExecStart=/bin/cp %d/m365.toml %d/m365.pem {CLOUDS_IN_GUEST}/
ExecStart=/bin/chmod 644 {CLOUDS_IN_GUEST}/m365.toml {CLOUDS_IN_GUEST}/m365.pem
"""


def main() -> int:
    board, environment = load_board(), load_environment()
    missing = environment.missing() or (None if IMAGE.exists() else f"{IMAGE} is not built: make image")
    if missing:
        print(f"qemu: {missing}", file=sys.stderr)
        return 1
    shutil.rmtree(FOLDER, ignore_errors=True)
    unit = Unit(board, environment, FOLDER)
    port = int(os.environ.get("PORT", "0")) or free_port()
    hosts = [unit.lan_address, f"127.0.0.1:{port}", f"localhost:{port}"]
    redirects = [f"https://{host}/cgi-bin/msoauth2.cgi" for host in hosts]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with running_microsoft(FOLDER / "m365", environment.wires["wan"].host, redirects) as microsoft:
            start(unit.machine, unit.fresh_disk(), port, microsoft, unit.lan_address)
            print(describe(port, unit.lan_address, microsoft), flush=True)
            with suppress(KeyboardInterrupt):
                assert unit.machine.process is not None
                unit.machine.process.wait()
    except (LabFailed, StartFailed) as error:
        print(f"qemu: {error}", file=sys.stderr)
        return 1
    finally:
        unit.machine.stop()
    return 0


def start(machine: Machine, drive: str, port: int, microsoft: Microsoft, lan_address: str) -> None:
    """Power on with the terminal as console."""
    toml, pem = microsoft.cloud_for_guest(f"{CLOUDS_IN_GUEST}/m365.pem")
    setup = Setup(
        drive=drive,
        forwards=[(port, "lan", lan_address, 443)],
        credentials={
            "admin.password": f"{PASSWORD}\n".encode(),
            "m365.toml": toml.encode(),
            "m365.pem": pem,
            "agetty.autologin": b"root",
        },
        units={"m365-cloud.service": CLOUD_UNIT},
        agent=False,
        console_to_terminal=True,
    )
    machine.start(setup)


def describe(port: int, lan_address: str, microsoft: Microsoft) -> str:
    """What a person needs in order to try it by hand."""
    host, smtp_port = microsoft.ends["smtp"]
    idp = microsoft.ends["idp"].split("/", 3)[2]
    rules = f"MAP {lan_address}:443 127.0.0.1:{port},MAP {idp} 127.0.0.1:{microsoft.idp_port}"
    return f"""
The unit starts below; the page is there after about half a minute.

Browser on the LAN    chromium --ignore-certificate-errors --host-resolver-rules="{rules}" https://{lan_address}/
Login                 {ADMIN} / {PASSWORD}
Mail server           {host} port {smtp_port}, STARTTLS, Microsoft OAuth 2.0, cloud "simulated"
Sender                gateway@contoso.example
Client ID, secret     {microsoft.ends["client_id"]}  {microsoft.ends["client_secret"]}
Tenant ID             {microsoft.ends["tenant_id"]}
Mailboxes             {microsoft.ends["mailbox"]}
Leave with Ctrl-C, or `poweroff` on the console.
"""


if __name__ == "__main__":
    sys.exit(main())
