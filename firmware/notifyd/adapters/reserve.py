"""Room kept for getting mail out of a full disk.

A database that has filled its disk cannot even note that a mail was sent, so it would stay full for ever. This file
holds as much as the write-ahead log may need; it is given up for outgoing changes only, and nothing new is accepted
until it could be taken back, or the database has as much room inside itself.
"""

from __future__ import annotations

import os
from pathlib import Path

RESERVE_BYTES = 2 * 1024 * 1024
"""Twice the database's `journal_size_limit`: the log may grow once more before a checkpoint empties it."""


class Reserve:
    """A file of allocated blocks next to the database."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held = False

    def take(self) -> bool:
        """Have the blocks allocated; False when there is no room for them."""
        if self._held:
            return True
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, RESERVE_BYTES)
            finally:
                os.close(fd)
        except OSError:
            self._path.unlink(missing_ok=True)
            return False
        self._held = True
        return True

    def give_up(self) -> bool:
        """Free the blocks; False when there were none to free."""
        had, self._held = self._held, False
        self._path.unlink(missing_ok=True)
        return had
