"""One emulated unit: its QEMU process, disk, flash, cards and console. labgrid would call it the QEMU driver."""

from __future__ import annotations

import base64
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qemu.image.board import Board
from qemu.image.disk import uboot_environment
from qemu.image.network import network_of, qemu_cards
from qemu.lab.environment import Environment
from qemu.lab.guest_agent import PORT_NAME
from qemu.lab.qmp import Qmp, QmpError

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
FLASH_SIZE = 64 << 20  # each of the two flash chips of QEMU's virt board
START_DEADLINE_S = 20.0
POLL_S = 0.02

_AGENT_UNIT = """[Unit]
Description=Agent of the lab
DefaultDependencies=no
After=systemd-tmpfiles-setup.service notifyd.service
Conflicts=shutdown.target
Before=shutdown.target
[Service]
ImportCredential=lab-agent.py
ExecStart=/usr/bin/python3 -I %d/lab-agent.py
Restart=always
"""


class LabFailed(RuntimeError):
    """The lab itself does not work; the text says what and shows the end of the console."""


def free_port() -> int:
    """A TCP port of the loopback address that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _die_with_parent() -> None:
    """In the child, before exec: SIGKILL when this process ends, so that a killed run leaves no guest."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


@dataclass
class Setup:
    """What one start of the unit is given.

    drive: QEMU's -drive options of the disk. rtc: the clock at power-on (`-rtc base=`). credentials: systemd
    credentials from the machine's owner, by name. forwards: (host port, zone, guest address, guest port). agent:
    whether the lab's agent is handed in; a person's `make qemu` works without.
    """

    drive: str
    rtc: str = "utc"
    credentials: Mapping[str, bytes] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    forwards: Sequence[tuple[int, str, str, int]] = ()
    extra_bootargs: str = ""
    agent: bool = True
    console_to_terminal: bool = False
    wires_off: Sequence[str] = ()
    extra_disks: Sequence[Path] = ()


class Machine:
    """A running QEMU. Created stopped; `start` powers it on."""

    def __init__(self, board: Board, environment: Environment, folder: Path) -> None:
        self.board, self.environment, self.folder = board, environment, folder
        self.console = folder / "console.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.qmp: Qmp | None = None

    @property
    def agent_socket(self) -> Path:
        return self.folder / "agent.sock"

    def raw_wire(self, zone: str) -> tuple[Path, Path]:
        """(QEMU's socket, the test's socket) of the raw port on a zone's wire."""
        return self.folder / f"{zone}.qemu", self.folder / f"{zone}.test"

    def start(self, setup: Setup, *, paused: bool = False) -> None:
        """Powers the unit on; raises LabFailed when QEMU does not come up."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for stale in self.folder.glob("*.sock"):
            stale.unlink()
        argv = self.arguments(setup)
        (self.folder / "qemu.argv").write_text("\n".join(argv) + "\n")
        errors = (self.folder / "qemu.log").open("ab")
        self.process = subprocess.Popen(
            argv + (["-S"] if paused else []),
            stdin=None if setup.console_to_terminal else subprocess.DEVNULL,
            stdout=None if setup.console_to_terminal else errors,
            stderr=errors,
            preexec_fn=_die_with_parent,
        )
        errors.close()
        self._wait((self.folder / "qmp.sock").exists, "QEMU's control socket")
        self.qmp = Qmp(self.folder / "qmp.sock")

    def control(self) -> Qmp:
        """The control connection; raises LabFailed when the unit is off."""
        if self.qmp is None:
            raise LabFailed("the unit is off")
        return self.qmp

    def arguments(self, setup: Setup) -> list[str]:
        """QEMU's whole command line."""
        emulation = self.board.emulation
        argv = [self.environment.program, "-M", emulation.machine, "-accel", self.environment.accelerator]
        argv += ["-cpu", emulation.cpu, "-smp", str(emulation.processors), "-m", str(emulation.memory_mib)]
        argv += ["-nodefaults", "-display", "none", "-rtc", f"base={setup.rtc}"]
        argv += ["-qmp", f"unix:{self.folder / 'qmp.sock'},server=on,wait=off"]
        argv += self._flash(setup)
        argv += ["-drive", f"if=none,id=disk,{setup.drive}", "-device", "virtio-blk-pci,drive=disk"]
        for number, path in enumerate(setup.extra_disks):
            argv += ["-drive", f"if=none,id=extra{number},file={path},format=raw,readonly=on"]
            argv += ["-device", f"virtio-blk-pci,drive=extra{number}"]
        argv += ["-device", "virtio-rng-pci", *self._console(setup), *self._credentials(setup)]
        for zone in self.environment.wires:
            argv += self._wire(zone, setup)
        for name, mac in qemu_cards(self.board):
            zone = network_of(self.board, name)
            # Each port has a cable to its zone's hub; ge2 (the second WAN) has a hub of its own and nobody on it.
            hub = f"hub-{zone}-{name}"
            wire = zone if name in self._plugged() else name
            argv += ["-netdev", f"hubport,id={hub},hubid={self._hub(wire)}"]
            argv += ["-device", f"virtio-net-pci,id={name},netdev={hub},mac={mac},romfile="]
        return argv

    def stop(self) -> None:
        """Pulls the plug: SIGKILL to QEMU, and only to this one."""
        if self.qmp is not None:
            self.qmp.close()
            self.qmp = None
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def running(self) -> bool:
        """Whether QEMU still lives."""
        return self.process is not None and self.process.poll() is None

    def link(self, interface: str, *, up: bool) -> None:
        """Plugs a port's cable in or out."""
        self.control().command("set_link", name=interface, up=up)

    def user_network(self, zone: str, *, up: bool) -> None:
        """Joins the host's user-mode network to a zone's wire, or cuts it off."""
        self.control().command("set_link", name=f"slirp-{zone}", up=up)

    def forward(self, host_port: int, zone: str, address: str, port: int) -> None:
        """Opens another way from the host into a zone's wire while the unit runs."""
        try:
            self.control().monitor(f"hostfwd_add slirp-{zone} tcp:127.0.0.1:{host_port}-{address}:{port}")
        except QmpError as error:
            raise LabFailed(str(error)) from error

    def console_text(self) -> str:
        """What the unit has printed on its serial console."""
        return self.console.read_text(errors="replace") if self.console.exists() else ""

    def _plugged(self) -> list[str]:
        """The first port of each zone: where that zone's wire is plugged in."""
        first: dict[str, str] = {}
        for name, _ in qemu_cards(self.board):
            first.setdefault(network_of(self.board, name), name)
        return list(first.values())

    def _hub(self, name: str) -> int:
        return ([*self.environment.wires] + [port for port, _ in qemu_cards(self.board)]).index(name)

    def _wire(self, zone: str, setup: Setup) -> list[str]:
        wire, hub = self.environment.wires[zone], self._hub(zone)
        argv: list[str] = []
        if zone not in setup.wires_off:
            user = f"user,id=slirp-{zone},net={wire.network},host={wire.host},dhcpstart={wire.dhcp_start}"
            user += f",dns={wire.resolver},ipv6=off"
            for host_port, forward_zone, address, port in setup.forwards:
                if forward_zone == zone:
                    user += f",hostfwd=tcp:127.0.0.1:{host_port}-{address}:{port}"
            argv += ["-netdev", user, "-netdev", f"hubport,id=port-slirp-{zone},hubid={hub},netdev=slirp-{zone}"]
        ours, theirs = self.raw_wire(zone)
        for path in (ours, theirs):
            path.unlink(missing_ok=True)
        raw = f"dgram,id=raw-{zone},local.type=unix,local.path={ours},remote.type=unix,remote.path={theirs}"
        return [*argv, "-netdev", raw, "-netdev", f"hubport,id=port-raw-{zone},hubid={hub},netdev=raw-{zone}"]

    def _flash(self, setup: Setup) -> list[str]:
        """Boot loader and its environment; read-only, since the slot state lives on the disk."""
        # Emulation on a busy machine may need minutes for what a unit does in seconds.
        bootargs = ["systemd.default_device_timeout_sec=600", *([setup.extra_bootargs] if setup.extra_bootargs else [])]
        units = dict(setup.units)
        if setup.agent:
            units["lab-agent.service"] = _AGENT_UNIT
        for name, text in units.items():
            encoded = base64.b64encode(text.encode()).decode()
            bootargs.append(f"systemd.set_credential_binary=systemd.extra-unit.{name}:{encoded}")
            if "[Service]" in text and not name.endswith("@.service"):
                bootargs.append(f"systemd.wants={name}")
        argv = []
        contents = {"code": self.environment.boot_loader.read_bytes(), "env": uboot_environment(" ".join(bootargs))}
        for name, content in contents.items():
            path = self.folder / f"flash-{name}.img"
            with path.open("wb") as file:
                file.write(content)
                file.truncate(FLASH_SIZE)
            argv += ["-drive", f"if=pflash,format=raw,readonly=on,file={path}"]
        return argv

    def _console(self, setup: Setup) -> list[str]:
        """The serial console into a file (and to the terminal), and the agent's port."""
        if setup.console_to_terminal:
            argv = ["-chardev", f"stdio,id=console,mux=off,signal=on,logfile={self.console}"]
        else:
            argv = ["-chardev", f"file,id=console,path={self.console},append=on"]
        argv += ["-serial", "chardev:console"]
        if setup.agent:
            argv += ["-device", "virtio-serial-pci"]
            argv += ["-chardev", f"socket,id=agent,path={self.agent_socket},server=on,wait=off"]
            argv += ["-device", f"virtserialport,chardev=agent,name={PORT_NAME}"]
        return argv

    def _credentials(self, setup: Setup) -> list[str]:
        credentials = dict(setup.credentials)
        if setup.agent:
            credentials["lab-agent.py"] = Path(__file__).with_name("guest_agent.py").read_bytes()
        argv = []
        for name, content in credentials.items():
            path = self.folder / f"credential-{name}"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            argv += ["-fw_cfg", f"name=opt/io.systemd.credentials/{name},file={path}"]
        return argv

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + START_DEADLINE_S
        while not condition():
            if not self.running() or time.monotonic() > end:
                log = (self.folder / "qemu.log").read_text(errors="replace")
                self.stop()
                raise LabFailed(f"{what} did not appear:\n{log[-2000:]}")
            time.sleep(POLL_S)
