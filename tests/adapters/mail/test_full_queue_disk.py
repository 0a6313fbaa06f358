"""Promise P8 for mail: on a file system without a free block nothing accepted is lost, and mail still gets out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_a_full_disk_refuses_new_mail_and_lets_the_old_out(tmp_path: Path) -> None:
    """The queue itself fills the disk: refused by name, all accepted mails whole and sent at zero blocks, then room."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = f'mount -t tmpfs -o size=6m,mode=700 none "{place}" || exit 77; exec "$@"'
    program = [sys.executable, "-m", "tests.adapters.mail.full_disk_steps", str(place)]
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", mounted, "sh", *program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    if done.returncode in (1, 77) and "Traceback" not in done.stderr:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["accepted"] > 100
    assert figures["refused"] > 0
    assert figures["whole"] == figures["accepted"] == figures["sent_at_zero_blocks"]
    assert figures["sent_in_all"] == figures["accepted"] + 1
    print(f"\nfull disk: {figures['accepted']} mails accepted, 0 lost, all sent at 0 free blocks")
