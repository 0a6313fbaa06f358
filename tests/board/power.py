"""The power-cut rig: a unit on a disk with a volatile cache, and the plug pulled while it works."""

from __future__ import annotations

import random
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qemu.image.board import Board
from qemu.lab.environment import Environment
from qemu.lab.microsoft import Microsoft
from qemu.lab.strategy import State, Unit
from qemu.lab.volatile_disk import VolatileDisk
from tests.board.conftest import timed_boot
from tests.board.lan import Administrator

ACKNOWLEDGED = re.compile(r"ack:([0-9A-Za-z-]+):")
BURST_DEADLINE_S = 90.0
POLL_S = 0.05

# Accepts mail as fast as it can and tells each acceptance on the console, which the host reads: the record of what was
# promised is outside the machine that loses its power.
BURST = """
import http.client, json, os, socket, sys
console = os.open('/dev/ttyAMA0', os.O_WRONLY | os.O_NOCTTY)
connection = http.client.HTTPConnection('localhost')
number = 0
while True:
    if connection.sock is None:
        connection.sock = socket.socket(socket.AF_UNIX); connection.sock.connect('/run/notifyd/admin.sock')
    number += 1
    body = json.dumps({'to': 'ops@contoso.example', 'subject': f'cut {number}', 'text': 'x' * 400})
    connection.request('POST', '/api/v1/mail', body, {'Content-Type': 'application/json'})
    answer = connection.getresponse()
    document = json.loads(answer.read())
    if answer.status == 202:
        os.write(console, f"ack:{document['id']}:\\n".encode())
"""
# What the administrator or the schedule may be doing when the power goes.
REFRESH = """
import http.client, socket
while True:
    connection = http.client.HTTPConnection('localhost')
    connection.sock = socket.socket(socket.AF_UNIX); connection.sock.connect('/run/notifyd/admin.sock')
    connection.request('POST', '/api/v1/token/refresh', '{}', {'Content-Type': 'application/json'})
    connection.getresponse().read(); connection.close()
"""

# The planted bug: SQLite told to sync less than it must. Loaded by Python itself, so notifyd is untouched.
WEAKER_SQLITE = """
import re, sqlite3
_connect = sqlite3.connect
_weaker = lambda sql: re.sub(r'(?i)(synchronous\\s*=\\s*)(FULL|EXTRA|2|3)', r'\\1NORMAL', sql)
def connect(*arguments, **options):
    base = options.get('factory', sqlite3.Connection)
    class Weak(base):
        def execute(self, sql, *rest): return super().execute(_weaker(sql), *rest)
        def executescript(self, sql): return super().executescript(_weaker(sql))
    return _connect(*arguments, **{**options, 'factory': Weak})
sqlite3.connect = connect
"""
PLANT = """[Service]
Environment=PYTHONPATH=/run/planted:/usr/lib/notifyd
"""


@dataclass
class Outcome:
    """One cut: what was promised before, what is missing after, how many sectors the drive's cache lost."""

    acknowledged: int
    missing: list[str]
    sectors_lost: int
    state: str
    account: str | None


class PowerRig:
    """A unit whose power can be cut. The disk is the only thing that survives."""

    def __init__(self, board: Board, environment: Environment, microsoft: Microsoft, folder: Path, seed: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.chance = random.Random(seed)
        self.microsoft = microsoft
        self.unit = Unit(board, environment, folder)
        self.disk = VolatileDisk(self.unit.image, folder / "disk.nbd")

    def boot(self) -> None:
        """Power on from the disk as it is, to ready."""
        timed_boot(self.unit, drive=self.disk.drive)

    def prepare(self) -> None:
        """A signed-in unit whose WAN is then unplugged, so that what is accepted stays in the queue."""
        self.boot()
        self.microsoft.install(self.unit)
        self.unit.state = State.BOOTED
        self.unit.wait_ready()
        Administrator(self.unit, self.microsoft, self.unit.folder).become_valid()

    def plant(self) -> None:
        """Weakens SQLite for this start; the drop-in is in /run and gone after the cut."""
        self.unit.agent.write("/run/planted/sitecustomize.py", WEAKER_SQLITE.encode())
        self.unit.agent.write("/run/systemd/system/notifyd.service.d/planted.conf", PLANT.encode())
        self.unit.agent.shell("chmod -R a+rX /run/planted; systemctl daemon-reload; systemctl restart notifyd", 300)

    def cut_during(self, wanted: int, *, refreshing: bool = False) -> Outcome:
        """Works until `wanted` mails are accepted, then a random moment more, cuts, boots again and looks."""
        self.unit.machine.link("ge1", up=refreshing)
        before = len(self._acknowledged())
        self._start(BURST)
        if refreshing:
            self._start(REFRESH)
        end = time.monotonic() + BURST_DEADLINE_S * self.unit.environment.deadline.booted / 150
        while len(self._acknowledged()) < before + wanted:
            assert time.monotonic() < end, f"only {len(self._acknowledged()) - before} mails were accepted"
            time.sleep(POLL_S)
        time.sleep(self.chance.uniform(0, 1.5))  # the moment of the cut is what is random here
        self.unit.power_off()
        lost = self.disk.cut(self.chance)
        promised = self._acknowledged()[before:]
        self.boot()
        status = self.unit.status()
        missing = [mail for mail in promised if not self._known(mail)]
        return Outcome(len(promised), missing, lost, status["state"], status["account"])

    def close(self) -> None:
        """Nothing is left running."""
        self.unit.power_off()
        self.disk.close()

    def _start(self, script: str) -> None:
        path = f"/run/work-{self.chance.getrandbits(32):x}.py"
        self.unit.agent.write(path, script.encode())
        self.unit.agent.shell(f"setsid nohup python3 -I {path} >/dev/null 2>&1 &")

    def _acknowledged(self) -> list[str]:
        return ACKNOWLEDGED.findall(self.unit.machine.console_text())

    def _known(self, mail: str) -> bool:
        answer: Any = self.unit.api("GET", f"/api/v1/mail/{mail}")
        return bool(answer.status == 200)
