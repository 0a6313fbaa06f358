"""The simulated Microsoft 365 on the WAN's side of a unit: its addresses are those that the unit sees."""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qemu.image.board import REPOSITORY
from qemu.lab.strategy import Unit
from qemu.workstation.processes import Child, child_environment, wait_until

START_DEADLINE_S = 90.0
CLOUDS_IN_GUEST = "/data/clouds.d"


@dataclass
class Microsoft:
    """A running simulator; `ends` is what it printed when it was ready."""

    ends: dict[str, Any]

    @property
    def idp_port(self) -> int:
        return int(str(self.ends["idp"]).rsplit(":", 1)[1].split("/")[0])

    @property
    def ca_file(self) -> Path:
        return Path(self.ends["ca_file"])

    def control(self, method: str, path: str, body: object = None) -> Any:
        """One call of its control API."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.ends["control"].rstrip("/") + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def mail(self) -> list[dict[str, Any]]:
        """What its mailboxes received."""
        found: list[dict[str, Any]] = self.control("GET", "/mail?full=1")["messages"]
        return found

    def cloud_for_guest(self, ca_in_guest: str) -> tuple[str, bytes]:
        """The clouds.d file with the CA at its place in the guest, and the CA's certificate."""
        text = Path(self.ends["clouds_file"]).read_text()
        text = re.sub(r'^ca_file = ".*"$', f'ca_file = "{ca_in_guest}"', text, flags=re.MULTILINE)
        return text, self.ca_file.read_bytes()

    def install(self, unit: Unit) -> None:
        """Tells the unit of this cloud, as an administrator would of a private one, and restarts notifyd."""
        ca_in_guest = f"{CLOUDS_IN_GUEST}/m365-ca.pem"
        toml, pem = self.cloud_for_guest(ca_in_guest)
        unit.agent.write(ca_in_guest, pem)
        unit.agent.write(f"{CLOUDS_IN_GUEST}/m365.toml", toml.encode())
        unit.agent.shell(f"chmod 644 {CLOUDS_IN_GUEST}/*; sync; systemctl restart notifyd.service", timeout=180)


@contextmanager
def running_microsoft(folder: Path, host: str, redirect_uris: list[str]) -> Iterator[Microsoft]:
    """A simulator on the host, which the unit sees as `host` on its WAN."""
    folder.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "qemu.m365", "--dir", str(folder), "--host", host]
    argv += [word for uri in redirect_uris for word in ("--redirect-uri", uri)]
    paths = os.pathsep.join([str(REPOSITORY / "firmware"), str(REPOSITORY)])
    with Child("m365", argv, child_environment(PYTHONPATH=paths), folder / "m365.log") as child:
        wait_until(lambda: child.stdout.read_bytes().endswith(b"}\n"), START_DEADLINE_S, "the simulator", child)
        yield Microsoft(json.loads(child.stdout.read_text()))
