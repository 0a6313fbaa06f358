"""A disk with a volatile write cache, as a server of the NBD protocol (newstyle, simple replies).

A power cut that only kills QEMU is too kind: what the guest wrote but never flushed survives in the host's page cache.
Here a write goes into memory, and only a FLUSH (or a write with FUA) moves it into what survives `cut`. A cut keeps a
random subset of the sectors that were not flushed, since a real drive may write them back in any order.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

SECTOR = 512
_MAGIC, _OPTION_MAGIC, _OPTION_REPLY = 0x4E42444D41474943, 0x49484156454F5054, 0x3E889045565A9
_REQUEST_MAGIC, _REPLY_MAGIC = 0x25609513, 0x67446698
_OPTION_EXPORT_NAME, _OPTION_ABORT, _OPTION_INFO, _OPTION_GO = 1, 2, 6, 7
_REPLY_ACK, _REPLY_INFO, _REPLY_UNSUPPORTED = 1, 3, 0x80000001
_FLAGS = 1 | 4 | 8  # has flags, sends flush, sends FUA
_READ, _WRITE, _DISCONNECT, _FLUSH = 0, 1, 2, 3
_FUA = 1
_IO_ERROR = 5


class VolatileDisk:
    """Sectors in three layers: the image (never written), what was flushed, what is only in the drive's cache."""

    def __init__(self, image: Path, socket_path: Path) -> None:
        self._image = image.open("rb")
        self.size = image.stat().st_size
        self._flushed: dict[int, bytes] = {}
        self._cached: dict[int, bytes] = {}
        self._lock = threading.Lock()
        self.flushes = self.writes = 0
        self.socket_path = socket_path
        socket_path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(socket_path))
        self._listener.listen(4)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def drive(self) -> str:
        """QEMU's -drive options; the host's own caching is off, so that every guest flush arrives here."""
        return f"driver=raw,file.driver=nbd,file.server.type=unix,file.server.path={self.socket_path},cache.direct=on"

    def cut(self, chance: random.Random) -> int:
        """The power is gone: each unflushed sector survives with probability one half. Returns how many were lost."""
        with self._lock:
            lost = 0
            for number, content in self._cached.items():
                if chance.random() < 0.5:
                    self._flushed[number] = content
                else:
                    lost += 1
            self._cached.clear()
            return lost

    def pending(self) -> int:
        """How many sectors a cut would put at risk now."""
        with self._lock:
            return len(self._cached)

    def write_through(self, offset: int, content: bytes) -> None:
        """Changes the medium itself: for a flipped block or a planted state."""
        with self._lock:
            for number, piece in _sectors(offset, content):
                self._flushed[number] = piece

    def read(self, offset: int, length: int) -> bytes:
        """What the guest would read."""
        with self._lock:
            return self._read(offset, length)

    def save(self, target: Path) -> None:
        """The whole medium as a sparse file, for a look from outside."""
        with self._lock, target.open("wb") as file:
            self._image.seek(0)
            position = 0
            while block := self._image.read(1 << 20):
                if block.strip(b"\0"):
                    file.seek(position)
                    file.write(block)
                position += len(block)
            file.truncate(self.size)
            for number, content in self._flushed.items():
                file.seek(number * SECTOR)
                file.write(content)

    def close(self) -> None:
        """Ends the server; connections end with their peers."""
        self._listener.close()
        self._image.close()

    def _read(self, offset: int, length: int) -> bytes:
        self._image.seek(offset)
        data = bytearray(self._image.read(length).ljust(length, b"\0"))
        if self._flushed or self._cached:
            for number in range(offset // SECTOR, (offset + length) // SECTOR):
                content = self._cached.get(number) or self._flushed.get(number)
                if content is not None:
                    start = number * SECTOR - offset
                    data[start : start + SECTOR] = content
        return bytes(data)

    def _write(self, offset: int, content: bytes, *, durable: bool) -> None:
        with self._lock:
            self.writes += 1
            for number, piece in _sectors(offset, content):
                if durable:
                    self._flushed[number] = piece
                    self._cached.pop(number, None)
                else:
                    self._cached[number] = piece

    def _flush(self) -> None:
        with self._lock:
            self.flushes += 1
            self._flushed.update(self._cached)
            self._cached.clear()

    # ---- protocol ---------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                if self._negotiate(connection):
                    self._transmit(connection)
            except (EOFError, OSError):
                return

    def _negotiate(self, connection: socket.socket) -> bool:
        connection.sendall(struct.pack(">QQH", _MAGIC, _OPTION_MAGIC, 1 | 2))
        no_zeroes = struct.unpack(">I", _exactly(connection, 4))[0] & 2
        while True:
            _, option, length = struct.unpack(">QII", _exactly(connection, 16))
            _exactly(connection, length)
            if option == _OPTION_EXPORT_NAME:
                connection.sendall(struct.pack(">QH", self.size, _FLAGS) + (b"" if no_zeroes else bytes(124)))
                return True
            if option in (_OPTION_GO, _OPTION_INFO):
                _option_reply(connection, option, _REPLY_INFO, struct.pack(">HQH", 0, self.size, _FLAGS))
                _option_reply(connection, option, _REPLY_ACK, b"")
                if option == _OPTION_GO:
                    return True
            elif option == _OPTION_ABORT:
                _option_reply(connection, option, _REPLY_ACK, b"")
                return False
            else:
                _option_reply(connection, option, _REPLY_UNSUPPORTED, b"")

    def _transmit(self, connection: socket.socket) -> None:
        while True:
            _, flags, kind, handle, offset, length = struct.unpack(">IHHQQI", _exactly(connection, 28))
            if kind == _DISCONNECT:
                return
            reply = struct.pack(">IIQ", _REPLY_MAGIC, 0, handle)
            if kind == _READ:
                connection.sendall(reply + self.read(offset, length))
            elif kind == _WRITE:
                self._write(offset, _exactly(connection, length), durable=bool(flags & _FUA))
                connection.sendall(reply)
            elif kind == _FLUSH:
                self._flush()
                connection.sendall(reply)
            else:
                connection.sendall(struct.pack(">IIQ", _REPLY_MAGIC, _IO_ERROR, handle))


def _sectors(offset: int, content: bytes) -> Iterator[tuple[int, bytes]]:
    for position in range(0, len(content), SECTOR):
        yield (offset + position) // SECTOR, content[position : position + SECTOR]


def _option_reply(connection: socket.socket, option: int, kind: int, data: bytes) -> None:
    connection.sendall(struct.pack(">QIII", _OPTION_REPLY, option, kind, len(data)) + data)


def _exactly(connection: socket.socket, length: int) -> bytes:
    pieces = bytearray()
    while len(pieces) < length:
        piece = connection.recv(min(length - len(pieces), 1 << 20))
        if not piece:
            raise EOFError
        pieces += piece
    return bytes(pieces)
