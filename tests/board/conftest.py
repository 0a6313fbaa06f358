"""One unit for the whole session: booted once, kept as snapshots, restored for each test that asks for it.

`ready` is a unit as it leaves the factory that knows the simulated Microsoft 365; `valid` has a grant besides. After
each test the guest's journal must hold no surprise. Nothing is left running, whatever happens.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from qemu.image.board import REPOSITORY, Board, load_board
from qemu.lab.agent import GuestSilent
from qemu.lab.environment import Environment, load_environment
from qemu.lab.machine import LabFailed
from qemu.lab.microsoft import Microsoft, running_microsoft
from qemu.lab.strategy import IMAGE, STARTING_KERNEL, State, Unit
from tests.board.lan import Administrator

# Two sessions at once need a folder each.
ARTEFACTS = Path(os.environ.get("NOTIFYD_LAB_FOLDER", REPOSITORY / "build" / "qemu"))
POLL_S = 0.2

# Errors that QEMU's emulation of the board brings with it; each is known and says nothing about the gateway.
KNOWN_JOURNAL = (
    r"pci-host-generic .*: Memory resource size exceeds max",
    r"hrtimer: interrupt took",
    r"sched_clock: ",
    r"clocksource: ",
    r"watchdog: ",
    # lighttpd logs everything as an error, also that it took a renewed certificate; with a socket from systemd it then
    # registers that socket once more, which the kernel answers with "exists".
    r"lighttpd: \(server\.c\.\d+\) ",
    r"lighttpd: \(fdevent_fdnode\.c\.\d+\) fdevent event_(set|del) failed on fd \d+: (File exists|No such file)",
)


@dataclass
class Lab:
    """The shared unit, the simulator and how long things took."""

    unit: Unit
    microsoft: Microsoft
    environment: Environment
    folder: Path
    boot: dict[str, float]
    cursor: str = ""
    figures: dict[str, float] = field(default_factory=dict)

    def administrator(self) -> Administrator:
        return Administrator(self.unit, self.microsoft, self.folder)

    def wait(self, look: Callable[[], Any], wanted: Callable[[Any], bool], what: str, deadline_s: float = 60.0) -> Any:
        """Polls until what is seen is wanted; a failure shows what was seen last."""
        end = time.monotonic() + deadline_s
        while not wanted(seen := look()):
            assert time.monotonic() < end, f"{what}: last seen {seen}"
            time.sleep(POLL_S)
        return seen


@dataclass
class Journal:
    """What a test expects the guest's journal to complain about."""

    allowed: list[str] = field(default_factory=lambda: list(KNOWN_JOURNAL))

    def allow(self, *patterns: str) -> None:
        self.allowed.extend(patterns)

    def surprises(self, unit: Unit, cursor: str) -> list[str]:
        records = unit.journal("--priority=err", *([f"--after-cursor={cursor}"] if cursor else []))
        lines = [f"{r.get('SYSLOG_IDENTIFIER', '?')}: {r.get('MESSAGE', '')}" for r in records]
        return [line for line in lines if not any(re.search(pattern, line) for pattern in self.allowed)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under emulation the usual limit of a test is too short."""
    for item in items:
        if item.get_closest_marker("qemu") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(name="board", scope="session")
def _board() -> Board:
    return load_board()


@pytest.fixture(name="lab_environment", scope="session")
def _lab_environment() -> Environment:
    environment = load_environment()
    missing = environment.missing() or (None if IMAGE.exists() else f"{IMAGE} is not built (make image)")
    if missing:
        if os.environ.get("NOTIFYD_REQUIRE_QEMU"):
            pytest.fail(missing)
        pytest.skip(missing)
    return environment


@pytest.fixture(name="microsoft", scope="session")
def _microsoft(board: Board, lab_environment: Environment) -> Iterator[Microsoft]:
    """One simulator on the WAN for every unit of the session."""
    folder = ARTEFACTS / "microsoft"
    shutil.rmtree(folder, ignore_errors=True)
    uri = f"https://{Unit(board, lab_environment, folder).lan_address}/cgi-bin/msoauth2.cgi"
    with running_microsoft(folder, lab_environment.wires["wan"].host, [uri]) as microsoft:
        yield microsoft


SHARED: list[Lab] = []


@pytest.fixture(name="lab", scope="session")
def _lab(board: Board, lab_environment: Environment, microsoft: Microsoft) -> Iterator[Lab]:
    folder = ARTEFACTS / "session"
    shutil.rmtree(folder, ignore_errors=True)
    unit = Unit(board, lab_environment, folder)
    try:
        boot = timed_boot(unit)
        microsoft.install(unit)
        unit.state = State.BOOTED
        unit.wait_ready()
        lab = Lab(unit, microsoft, lab_environment, folder, boot, newest_cursor(unit))
        lab.figures["savevm_s"] = unit.snapshot("ready")
        SHARED.append(lab)
        yield lab
    except (LabFailed, GuestSilent):
        unit.collect(folder / "failure")
        raise
    finally:
        SHARED.clear()
        unit.power_off()


@pytest.fixture(name="alone", scope="module")
def _alone() -> Iterator[None]:
    """For tests with a unit of their own: the shared one sleeps meanwhile, since both would share two processors."""
    for lab in SHARED:
        lab.unit.machine.control().command("stop")
    yield
    for lab in SHARED:
        lab.unit.machine.control().command("cont")


def timed_boot(unit: Unit, **start: Any) -> dict[str, float]:
    """Cold boot to ready; the host's times in seconds since power-on, and the processor time that QEMU took."""
    times = {"load": os.getloadavg()[0]}
    unit.power_on(**start)
    end = time.monotonic() + unit.environment.deadline.booted + unit.environment.deadline.ready
    while "ready" not in times:
        if "kernel" not in times and STARTING_KERNEL in unit.machine.console_text():
            times["kernel"] = time.monotonic() - unit.powered_on_at
            times["kernel_cpu"] = processor_seconds(unit)
        if "kernel" in times and unit.is_ready():
            times["ready"] = time.monotonic() - unit.powered_on_at
            times["ready_cpu"] = processor_seconds(unit)
        if not unit.machine.running() or time.monotonic() > end:
            raise LabFailed(f"the unit did not become ready:\n{unit.machine.console_text()[-3000:]}")
        time.sleep(POLL_S)
    unit.agent.wait(unit.environment.deadline.booted)
    unit.state = State.READY
    return times


def processor_seconds(unit: Unit) -> float:
    """Processor time of the QEMU process so far."""
    assert unit.machine.process is not None
    fields = Path(f"/proc/{unit.machine.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def newest_cursor(unit: Unit) -> str:
    """The journal's newest record, from which a test's own records follow."""
    text = unit.agent.check("journalctl", "-b", "-n", "1", "--show-cursor", "--no-pager", "-q")
    return text.rsplit("-- cursor: ", 1)[1].strip()


@pytest.fixture(name="journal")
def _journal() -> Journal:
    return Journal()


@pytest.fixture(name="ready")
def _ready(lab: Lab, journal: Journal, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The unit as it was when it became ready, restored from memory."""
    yield from _restored(lab, "ready", lab.cursor, journal, request)


@pytest.fixture(name="valid_cursor", scope="session")
def _valid_cursor(lab: Lab) -> str:
    """Makes the snapshot `valid`, once: an administrator has signed in."""
    lab.microsoft.control("POST", "/reset")
    lab.unit.restore("ready")
    lab.administrator().become_valid()
    cursor = newest_cursor(lab.unit)
    lab.unit.snapshot("valid")
    return cursor


@pytest.fixture(name="valid")
def _valid(lab: Lab, valid_cursor: str, journal: Journal, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A unit with a grant, restored from memory."""
    yield from _restored(lab, "valid", valid_cursor, journal, request)


def _restored(lab: Lab, name: str, cursor: str, journal: Journal, request: pytest.FixtureRequest) -> Iterator[Lab]:
    lab.figures[f"restore_{name}_s"] = lab.unit.restore(name)
    failed_before = request.session.testsfailed
    yield lab
    surprises = journal.surprises(lab.unit, cursor)
    if surprises or request.session.testsfailed > failed_before:
        lab.unit.collect(ARTEFACTS / re.sub(r"\W+", "-", request.node.name))
    assert not surprises, "the guest's journal has surprises:\n" + "\n".join(surprises)
