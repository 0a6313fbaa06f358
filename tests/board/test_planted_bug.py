"""The planted bug of the power rig is really one: notifyd's own way to its database ends with synchronous=NORMAL."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qemu.image.board import REPOSITORY
from tests.board.power import WEAKER_SQLITE

FULL, NORMAL = "2", "1"
ASK = (
    "import sys; from pathlib import Path; from notifyd.adapters.database import open_database; "
    "print(open_database(Path(sys.argv[1])).execute('PRAGMA synchronous').fetchone()[0])"
)


@pytest.mark.parametrize(("planted", "expected"), [(False, FULL), (True, NORMAL)])
def test_what_notifyds_database_syncs(tmp_path: Path, planted: bool, expected: str) -> None:
    """FULL as shipped; NORMAL with the plant in the import path: the rig's counter-test tests what it says."""
    paths = [str(REPOSITORY / "firmware")]
    if planted:
        (tmp_path / "planted").mkdir()
        (tmp_path / "planted" / "sitecustomize.py").write_text(WEAKER_SQLITE)
        paths.insert(0, str(tmp_path / "planted"))
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(tmp_path / "notifyd.db")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == expected, done.stderr
