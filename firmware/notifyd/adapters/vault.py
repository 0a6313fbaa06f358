"""The grant's own store: two fixed slots in one file, written in turn.

What lives here: where the sealed grant lies, and in which order bytes reach the disk. It is apart from the database and
allocated in advance, so that a full disk, a full queue or a damaged database cannot cost a grant: overwriting blocks
that already belong to a file needs no new ones (ext4; file systems that copy on write need reserved space).

A slot is written whole with one `pwrite` and made durable before anything relies on it, and its checksum covers all of
it. The other slot is untouched meanwhile, so a cut at any byte leaves the grant before.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notifyd.core.faults import StoreFailed

SLOT_SIZE = 64 * 1024
"""Room for three tokens of 16 KiB with their data; see `entra_worker.grants`."""

SLOT_COUNT = 2
MAGIC = b"ntfyslt1"
HEADER = struct.Struct(">8sQIII")
"""Magic, sequence, length of meta, length of sealed, CRC-32 of all the others and the content."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A stored grant.

    meta: what may be read without the key: account, when it was obtained, the generation it was sealed for, ….
    sequence: grows with every commit.
    """

    meta: Mapping[str, Any]
    sealed: bytes
    sequence: int


class Vault:
    """The slots file at `path`. One process only: a second one is refused by a lock. Raises StoreFailed throughout."""

    def __init__(self, path: Path) -> None:
        try:
            if not path.exists():
                _create(path)
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise StoreFailed(f"cannot open {path.name}: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _allocate(self._fd)
        except OSError as error:
            os.close(self._fd)
            raise StoreFailed(f"cannot use {path.name}: {error.strerror}") from error

    def close(self) -> None:
        """Let go of the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def load(self) -> Slot | None:
        """The newest grant that is whole, or None. A torn or damaged slot falls back to the one before."""
        return max((slot for slot in self._slots() if slot), key=lambda slot: slot.sequence, default=None)

    def commit(self, meta: Mapping[str, Any], sealed: bytes) -> Slot:
        """Make this the newest grant; it is on the disk when this returns.

        Raises StoreFailed when it is not; the grant before is then still there.
        """
        slots = self._slots()
        sequences = [slot.sequence if slot else 0 for slot in slots]
        target = sequences.index(min(sequences))
        slot = Slot(dict(meta), sealed, max(sequences) + 1)
        self._write(target, _encode(slot))
        return slot

    def wipe(self) -> None:
        """Overwrite every grant, the older one first: a cut in between must not bring an older grant back."""
        slots = self._slots()
        order = sorted(range(SLOT_COUNT), key=lambda index: slots[index].sequence if slots[index] else 0)  # type: ignore[union-attr]  # the condition excludes None
        for index in order:
            self._write(index, bytes(SLOT_SIZE))

    def _slots(self) -> list[Slot | None]:
        try:
            return [_decode(os.pread(self._fd, SLOT_SIZE, index * SLOT_SIZE)) for index in range(SLOT_COUNT)]
        except OSError as error:
            raise StoreFailed(f"cannot read the grant: {error.strerror}") from error

    def _write(self, index: int, content: bytes) -> None:
        try:
            written = os.pwrite(self._fd, content, index * SLOT_SIZE)
            if written != len(content):
                raise StoreFailed(f"cannot write the grant: {written} of {len(content)} bytes were taken")
            os.fdatasync(self._fd)
        except OSError as error:
            raise StoreFailed(f"cannot write the grant: {error.strerror}") from error


def _encode(slot: Slot) -> bytes:
    meta = json.dumps(dict(slot.meta), separators=(",", ":")).encode()
    content = meta + slot.sealed
    if HEADER.size + len(content) > SLOT_SIZE:
        raise StoreFailed(f"cannot write the grant: {len(content)} bytes do not fit a slot")
    fields = (MAGIC, slot.sequence, len(meta), len(slot.sealed))
    checksum = zlib.crc32(content, zlib.crc32(HEADER.pack(*fields, 0)))
    return HEADER.pack(*fields, checksum) + content


def _decode(raw: bytes) -> Slot | None:
    if len(raw) < HEADER.size:
        return None
    magic, sequence, meta_length, sealed_length, checksum = HEADER.unpack_from(raw)
    end = HEADER.size + meta_length + sealed_length
    if magic != MAGIC or end > len(raw):
        return None
    content = raw[HEADER.size : end]
    fields = (magic, sequence, meta_length, sealed_length)
    if zlib.crc32(content, zlib.crc32(HEADER.pack(*fields, 0))) != checksum:
        return None
    with suppress(ValueError):
        meta = json.loads(content[:meta_length])
        if isinstance(meta, dict):
            return Slot(meta, content[meta_length:], sequence)
    return None


def _create(path: Path) -> None:
    """Make the file with every block written: an unwritten extent would still need room at the first overwrite."""
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _allocate(fd)
    finally:
        os.close(fd)
    temporary.rename(path)
    _sync_directory(path.parent)


def _allocate(fd: int) -> None:
    size = os.fstat(fd).st_size
    missing = SLOT_COUNT * SLOT_SIZE - size
    if missing > 0:
        offset = size
        while offset < SLOT_COUNT * SLOT_SIZE:
            offset += os.pwrite(fd, bytes(SLOT_COUNT * SLOT_SIZE - offset), offset)
        os.fsync(fd)


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
