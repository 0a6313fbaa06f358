"""The two listening sockets: taken from systemd when it passed them by name, else made here."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from notifyd.adapters.accounts import group_id

SD_LISTEN_FDS_START = 3
MODE = 0o660


class SocketFailed(Exception):
    """A socket cannot be made; the text names the path and the reason."""


def inherited_sockets(environ: Mapping[str, str]) -> dict[str, socket.socket]:
    """Sockets that systemd passed (sd_listen_fds(3)), by their FileDescriptorName."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = int(environ.get("LISTEN_FDS", "0"))
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, socket.socket] = {}
    for index in range(count):
        name = names[index] if index < len(names) else ""
        fd = SD_LISTEN_FDS_START + index
        os.set_inheritable(fd, False)
        found[name.removesuffix(".socket")] = socket.socket(fileno=fd)
    return found


def listening_socket(path: Path, group: str, inherited: Mapping[str, socket.socket]) -> socket.socket:
    """A bound Unix socket for `path`: an inherited one of that name, or a new one with mode 0660.

    A stale socket file is removed; anything else at that path is refused. The group is set when it exists and we may.
    """
    if path.name in inherited:
        return inherited[path.name]
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous = os.umask(0o777 & ~MODE)
    try:
        sock.bind(str(path))
    except OSError as error:
        sock.close()
        raise SocketFailed(f"cannot bind {path}: {error.strerror}") from error
    finally:
        os.umask(previous)
    gid = group_id(group)
    if gid is not None:
        with suppress(PermissionError):
            os.chown(path, -1, gid, follow_symlinks=False)
    return sock


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketFailed(f"cannot replace {path}: it is not a socket")
    path.unlink()
