"""Names of local users and groups, from /etc/passwd and /etc/group (passwd(5), group(5)).

Not through NSS: its modules would stay in the resident process for good and cost more than the HTTP server.
"""

from __future__ import annotations

from pathlib import Path

PASSWD, GROUP = Path("/etc/passwd"), Path("/etc/group")


def user_name(uid: int, passwd: Path = PASSWD) -> str:
    """The login name of a user id; `uid N` when the file does not know it."""
    return next((fields[0] for fields in _records(passwd, 3) if fields[2] == str(uid)), f"uid {uid}")


def group_id(name: str, group: Path = GROUP) -> int | None:
    """The id of a group; None when there is none of that name."""
    ids = (fields[2] for fields in _records(group, 3) if fields[0] == name)
    return next((int(number) for number in ids if number.isdigit()), None)


def _records(path: Path, least: int) -> list[list[str]]:
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    records = (line.split(":") for line in lines)
    return [fields for fields in records if len(fields) >= least]
