"""Promise P3: the power goes at any moment, the drive's cache with it; no accepted mail is lost, nor the grant.

Three cuts by default; `NOTIFYD_CUTS=30` is the campaign. The same rig must find a planted bug, or its silence means
nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from qemu.image.board import Board
from qemu.lab.environment import Environment
from qemu.lab.microsoft import Microsoft
from tests.board.conftest import ARTEFACTS
from tests.board.power import PowerRig

CUTS = int(os.environ.get("NOTIFYD_CUTS", "3"))
PLANTED_TRIES = 4
MAILS_BEFORE_CUT = 6

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(1200 + 200 * CUTS)]


@pytest.fixture(name="rig", scope="module")
def _rig(board: Board, lab_environment: Environment, microsoft: Microsoft, alone: None) -> Iterator[PowerRig]:
    rig = PowerRig(
        board, lab_environment, microsoft, ARTEFACTS / "power", seed=int(os.environ.get("NOTIFYD_SEED", "1"))
    )
    try:
        microsoft.control("POST", "/reset")
        rig.prepare()
        yield rig
    finally:
        rig.close()


def test_no_accepted_mail_and_no_grant_is_lost(rig: PowerRig) -> None:
    """Cut after cut on the same disk: every mail that was answered 202 is in the queue, the token state is Valid."""
    acknowledged = 0
    for number in range(CUTS):
        outcome = rig.cut_during(MAILS_BEFORE_CUT, refreshing=number % 2 == 1)
        acknowledged += outcome.acknowledged
        print(f"cut {number + 1}: {outcome}")
        assert outcome.missing == [], outcome
        assert outcome.state in ("Valid", "Expired"), outcome
        assert outcome.account, outcome
    print(f"{CUTS} cuts, {acknowledged} accepted mails: 0 lost (95 % bound per cut {min(1.0, 3 / CUTS):.1%})")


def test_the_rig_finds_a_planted_bug(rig: PowerRig) -> None:
    """With synchronous=NORMAL accepted mail is lost within a few cuts; a rig that stays silent fails here."""
    for number in range(PLANTED_TRIES):
        rig.plant()
        outcome = rig.cut_during(MAILS_BEFORE_CUT)
        print(f"planted bug, cut {number + 1}: {len(outcome.missing)} of {outcome.acknowledged} accepted mails lost")
        if outcome.missing:
            return
    pytest.fail(f"{PLANTED_TRIES} cuts under synchronous=NORMAL lost nothing: this rig proves nothing")
