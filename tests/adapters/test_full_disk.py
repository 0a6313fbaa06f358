"""Promise P8: a full disk costs no grant. On a real small file system, filled to the last byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUNS = 200

SCENARIO = """
import json, os, sys
from pathlib import Path
from notifyd.adapters.database import SettingsStore, open_database
from notifyd.adapters.vault import Vault
from notifyd.core.faults import StoreFull
from tests.adapters.store_steps import settings

directory, runs = Path(sys.argv[1]), int(sys.argv[2])
vault = Vault(directory / "grant.slots")
connection = open_database(directory / "notifyd.db")
store = SettingsStore(connection)
vault.commit({"n": 0}, b"first")
store.save(settings("kept@example"), b"sealed", 1)
refused = free = 0
for n in range(1, runs + 1):
    fd = os.open(directory / "ballast", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for size in (1 << 16, 4096, 512, 1):
        try:
            while True:
                os.write(fd, bytes(size))
        except OSError:
            pass
    os.close(fd)
    free = max(free, os.statvfs(directory).f_bavail)
    sealed = os.urandom(40000)
    vault.commit({"n": n}, sealed)
    assert vault.load().sealed == sealed
    before = store.load()
    try:
        for number in range(200):
            store.save_document(f"filler {number}", {"x": "x" * 20000})
    except StoreFull:
        refused += 1
    assert store.load() == before
    os.truncate(directory / "ballast", 0)
    with connection.transaction():
        connection.execute("DELETE FROM documents")
    store.save(settings(f"run{n}@example"), b"sealed", n)
    assert store.load().settings.sender == f"run{n}@example"
print(json.dumps({"runs": runs, "refused": refused, "most_free_blocks": free}))
"""


@pytest.mark.timeout(300)
def test_grant_is_committed_at_no_bytes_free(tmp_path: Path) -> None:
    """With 0 blocks free every token commit succeeds, the database refuses by name, changes nothing, and goes on
    by itself when there is room."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = f'mount -t tmpfs -o size=6m,mode=700 none "{place}" || exit 77; exec "$@"'
    namespace = ["unshare", "--mount", "--map-root-user", "sh", "-c", mounted, "sh"]
    done = subprocess.run(
        [*namespace, sys.executable, "-c", SCENARIO, str(place), str(RUNS)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    if done.returncode in (1, 77) and "Traceback" not in done.stderr:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures == {"runs": RUNS, "refused": RUNS, "most_free_blocks": 0}
    print(f"\nfull disk: {RUNS} runs, 0 grants lost: at most {3 / RUNS:.2%} (95 %)")
