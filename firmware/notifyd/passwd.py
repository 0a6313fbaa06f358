"""`python -m notifyd.passwd NAME`: sets the password of an administrator of the page; there is no default one.

The password is read from the terminal, or as one line from standard input; `--generate` makes one and prints it.
It is kept as a yescrypt hash (crypt(5)) in NOTIFYD_DATA/admins.
"""

from __future__ import annotations

import argparse
import ctypes
import getpass
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from notifyd.adapters.pam import PASSWORD_LIMIT, USER_NAME

SHORTEST = 8  # characters, NIST SP 800-63B 5.1.1.1; guessing is stopped by the lock-out
GENERATED_BYTES = 12


class Refused(ValueError):
    """The name or password cannot be taken; the text says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    admins = Path(os.environ.get("NOTIFYD_DATA", "/data/notifyd")) / "admins"
    try:
        if options.delete:
            delete_password(admins, options.name)
        elif options.generate:
            password = secrets.token_urlsafe(GENERATED_BYTES)
            set_password(admins, options.name, password)
            print(password)  # noqa: T201  # the only time that it is ever shown
        else:
            set_password(admins, options.name, _read_password())
    except (Refused, OSError) as error:
        print(f"passwd: {error}", file=sys.stderr)  # noqa: T201  # a command's own message
        return 1
    return 0


def set_password(admins: Path, name: str, password: str) -> None:
    """Adds or replaces one line of the password file, atomically. Raises Refused, OSError."""
    if not USER_NAME.fullmatch(name):
        raise Refused("the name must be of lower-case letters, digits, '.', '_' or '-', and begin with a letter")
    if not SHORTEST <= len(password) <= PASSWORD_LIMIT or "\0" in password:
        raise Refused(f"the password must have at least {SHORTEST} characters")
    lines = [line for line in _lines(admins) if line.partition(":")[0] != name]
    _replace(admins, [*lines, f"{name}:{crypt_hash(password)}"])


def delete_password(admins: Path, name: str) -> None:
    """Removes one administrator. Raises Refused when there is none of that name."""
    lines = _lines(admins)
    left = [line for line in lines if line.partition(":")[0] != name]
    if left == lines:
        raise Refused(f"there is no administrator {name!r}")
    _replace(admins, left)


def crypt_hash(password: str) -> str:
    """A salted yescrypt hash, by the system's libcrypt. Raises OSError when that cannot make one."""
    libcrypt = ctypes.CDLL("libcrypt.so.1")
    libcrypt.crypt_gensalt.restype = libcrypt.crypt.restype = ctypes.c_char_p
    setting = libcrypt.crypt_gensalt(b"$y$", ctypes.c_ulong(0), None, 0)
    hashed: bytes | None = libcrypt.crypt(password.encode(), setting) if setting else None
    if not hashed or hashed.startswith(b"*"):
        raise OSError("cannot hash the password: libcrypt refuses yescrypt")
    return hashed.decode("ascii")


def _lines(admins: Path) -> list[str]:
    try:
        return admins.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def _replace(admins: Path, lines: Sequence[str]) -> None:
    admins.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = admins.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))
        file.flush()
        os.fsync(descriptor)
    temporary.replace(admins)


def _read_password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    first = getpass.getpass("New password: ")
    if getpass.getpass("Again: ") != first:
        raise Refused("the two passwords differ")
    return first


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="notifyd.passwd", description=__doc__)
    parser.add_argument("name", help="the administrator, for example: admin")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--generate", action="store_true", help="make a password and print it")
    how.add_argument("--delete", action="store_true", help="remove the administrator")
    return parser


if __name__ == "__main__":
    sys.exit(main())
