"""Promise P10 at power-on: a wrong clock, a unit that comes up, and is right when time arrives."""

from __future__ import annotations

import shutil

import pytest

from qemu.image.board import Board
from qemu.lab.environment import Environment
from qemu.lab.microsoft import Microsoft
from qemu.lab.strategy import State, Unit
from tests.board.conftest import ARTEFACTS, timed_boot
from tests.board.lan import Administrator

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(2400)]


@pytest.mark.parametrize("start", ["1970-01-02T00:00:00", "2099-01-01T00:00:00"])
def test_a_wrong_clock_at_power_on(
    board: Board, lab_environment: Environment, microsoft: Microsoft, alone: None, start: str
) -> None:
    """The unit becomes ready; once the clock is right a sign-in ends Valid, with a certificate that browsers take."""
    folder = ARTEFACTS / f"clock-{start[:4]}"
    shutil.rmtree(folder, ignore_errors=True)
    unit = Unit(board, lab_environment, folder)
    try:
        timed_boot(unit, rtc=start)
        print(f"power-on at {start}: the system says {unit.agent.check('date', '-u', '+%F %T').strip()}")
        microsoft.control("POST", "/reset")
        microsoft.install(unit)
        unit.agent.set_clock()
        unit.state = State.BOOTED
        unit.wait_ready()
        unit.agent.check("systemctl", "start", "page-renew.service", timeout=300)
        Administrator(unit, microsoft, folder).become_valid()
    finally:
        unit.collect(folder / "end")
        unit.power_off()
