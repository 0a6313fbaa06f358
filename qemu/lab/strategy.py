"""How the unit gets from one state to another: off → booted → ready; a test names the state it needs, never the steps.

booted: the agent answers. ready: the page answers on the LAN and notifyd tells its status. `snapshot` and `restore`
keep a state, so that a boot is paid for once.
"""

from __future__ import annotations

import enum
import http.client
import json
import shutil
import ssl
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qemu.image.board import REPOSITORY, Board
from qemu.lab.agent import Agent, GuestError, GuestSilent
from qemu.lab.environment import Environment
from qemu.lab.machine import LabFailed, Machine, Setup, free_port

IMAGE = REPOSITORY / "build" / "image" / "disk.img"
POLL_S = 0.1
ADMIN, ADMIN_PASSWORD = "admin", "gateway-lab-1"
STARTING_KERNEL = "Starting kernel ..."


class State(enum.Enum):
    """What the unit is known to be doing."""

    OFF = "off"
    BOOTED = "booted"
    READY = "ready"


@dataclass(frozen=True)
class Api:
    """An answer of notifyd's API, asked inside the guest through its socket."""

    status: int
    document: Any


class Unit:
    """One unit in the lab with everything that a test drives it by."""

    def __init__(self, board: Board, environment: Environment, folder: Path, image: Path = IMAGE) -> None:
        self.board, self.environment, self.folder, self.image = board, environment, folder, image
        self.machine = Machine(board, environment, folder)
        self.agent = Agent(self.machine.agent_socket)
        self.state = State.OFF
        self.lan_port = free_port()
        self.powered_on_at = 0.0

    # ---- states -----------------------------------------------------------------------------------------------------

    def transition(self, wanted: State, **start: Any) -> None:
        """Brings the unit to a state; raises LabFailed or GuestSilent when it does not get there in time."""
        if wanted is State.OFF:
            self.power_off()
            return
        if self.state is State.OFF:
            self.power_on(**start)
            self.agent.wait(self.environment.deadline.booted)
            self.state = State.BOOTED
        if wanted is State.READY and self.state is State.BOOTED:
            self.wait_ready()

    def power_on(self, drive: str | None = None, **start: Any) -> None:
        """Power on with a fresh disk, or with the given -drive options."""
        if drive is None:
            drive = self.fresh_disk()
        forwards = [(self.lan_port, "lan", self.lan_address, 443)]
        credentials = {"admin.password": f"{ADMIN_PASSWORD}\n".encode(), **start.pop("credentials", {})}
        self.machine.start(Setup(drive=drive, forwards=forwards, credentials=credentials, **start))
        self.powered_on_at = time.monotonic()

    def wait_ready(self) -> None:
        """Until the page answers on the LAN and notifyd tells its status."""
        end = time.monotonic() + self.environment.deadline.ready
        while not self.is_ready():
            if not self.machine.running():
                raise LabFailed(f"QEMU ended:\n{self.machine.console_text()[-3000:]}")
            if time.monotonic() > end:
                raise LabFailed(f"the unit did not become ready:\n{self.machine.console_text()[-3000:]}")
            time.sleep(POLL_S)
        self.state = State.READY

    def is_ready(self) -> bool:
        """Whether the page and, behind it, notifyd answer on the LAN (401: it wants a login, so it is alive)."""
        try:
            return self.lan_get("/")[0] == 200 and self.lan_get("/api/v1/status")[0] == 401
        except (OSError, http.client.HTTPException):
            return False

    def power_off(self) -> None:
        """Pulls the plug."""
        self.agent.close()
        self.machine.stop()
        self.state = State.OFF

    def fresh_disk(self) -> str:
        """The image as it left the factory, with its own writes on top."""
        overlay = self.folder / "disk.qcow2"
        self.folder.mkdir(parents=True, exist_ok=True)
        overlay.unlink(missing_ok=True)
        argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(self.image), "-F", "raw", str(overlay)]
        subprocess.run(argv, check=True, capture_output=True)
        return self.kept_disk()

    def kept_disk(self) -> str:
        """The disk as the last run left it. The host's own crash does not matter here, so the host is not asked to
        sync.
        """
        return f"file={self.folder / 'disk.qcow2'},format=qcow2,cache=unsafe"

    # ---- snapshots --------------------------------------------------------------------------------------------------

    def snapshot(self, name: str) -> float:
        """Keeps memory, devices and disk under a name; returns the seconds it took."""
        start = time.monotonic()
        self.machine.control().monitor(f"savevm {name}")
        return time.monotonic() - start

    def restore(self, name: str) -> float:
        """Goes back to a kept state and sets the clock, which stood still; returns the seconds it took."""
        start = time.monotonic()
        self.machine.control().monitor(f"loadvm {name}")
        self.machine.control().command("cont")
        took = time.monotonic() - start
        self.agent.set_clock()
        return took

    # ---- looking at it ----------------------------------------------------------------------------------------------

    @property
    def lan_address(self) -> str:
        """The unit's default address on the LAN."""
        lan = self.board.zone("lan")
        return next(str(i.address.ip) for i in self.board.interfaces if i.address and lan.holds(i.name))

    def lan_get(self, path: str, port: int | None = None, host: str | None = None) -> tuple[int, bytes]:
        """GET from a host on the LAN; raises OSError, HTTPException."""
        context = ssl._create_unverified_context()  # the certificate is checked where that is the point
        connection = http.client.HTTPSConnection("127.0.0.1", port or self.lan_port, timeout=10, context=context)
        try:
            connection.request("GET", path, headers={"Host": host or self.lan_address})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def api(self, method: str, path: str, body: Any = None, timeout: float = 120.0) -> Api:
        """One call on notifyd's socket, made inside the guest as root."""
        script = (
            "import http.client, json, socket, sys\n"
            "ask = json.load(sys.stdin)\n"
            "c = http.client.HTTPConnection('localhost'); c.sock = socket.socket(socket.AF_UNIX)\n"
            "c.sock.settimeout(ask['timeout']); c.sock.connect('/run/notifyd/admin.sock')\n"
            "b = None if ask['body'] is None else json.dumps(ask['body'])\n"
            "c.request(ask['method'], ask['path'], b, {'Content-Type': 'application/json'} if b else {})\n"
            "r = c.getresponse(); t = r.read().decode()\n"
            "print(json.dumps([r.status, json.loads(t) if t else None]))\n"
        )
        request = json.dumps({"method": method, "path": path, "body": body, "timeout": timeout})
        output = self.agent.check("/usr/bin/python3", "-I", "-c", script, text=request, timeout=timeout + 10)
        status, document = json.loads(output)
        return Api(status, document)

    def status(self) -> dict[str, Any]:
        """notifyd's status document."""
        answer = self.api("GET", "/api/v1/status")
        if answer.status != 200:
            raise GuestError(f"GET status: {answer}")
        document: dict[str, Any] = answer.document
        return document

    def events(self) -> list[dict[str, Any]]:
        """Every event in notifyd's ring."""
        found: list[dict[str, Any]] = self.api("GET", "/api/v1/events?after=0&limit=1000").document["events"]
        return found

    def show(self, unit: str, *properties: str) -> Mapping[str, str]:
        """Properties of a systemd unit in the guest."""
        text = self.agent.check("systemctl", "show", unit, f"--property={','.join(properties)}")
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def journal(self, *arguments: str) -> list[dict[str, Any]]:
        """Journal records of this boot."""
        text = self.agent.check("journalctl", "-b", "-o", "json", "--no-pager", *arguments)
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def collect(self, target: Path) -> None:
        """Keeps what explains a failure: console, QEMU's words, and of a guest that answers journal and units."""
        target.mkdir(parents=True, exist_ok=True)
        for name in ("console.log", "qemu.log", "qemu.argv"):
            if (self.folder / name).exists():
                shutil.copyfile(self.folder / name, target / name)
        commands = {
            "journal.txt": "journalctl -b --no-pager -o short-monotonic",
            "units.txt": "systemctl list-units --all --no-pager; systemctl --failed --no-pager",
            "network.txt": "ip address; ip route; ss -lntup; nft list ruleset",
            "data.txt": "df -h; ls -la /data /data/* /run/notifyd",
        }
        for name, command in commands.items():
            try:
                (target / name).write_text(self.agent.run("/bin/bash", "-c", command, timeout=60).output)
            except GuestSilent as error:
                (target / name).write_text(f"{error}\n")
                return
