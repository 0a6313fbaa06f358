"""Administrator logins, asked of PAM in a short-lived process: pam_pwdfile checks the password, pam_faillock locks out.

The administrators of the page are accounts of their own (NOTIFYD_DATA/admins, `name:crypt hash`), not of the system.
/etc/pam.d/notifyd is used when the device has one; elsewhere the same stack is written to NOTIFYD_RUN/pam.d.

pam_faillock ignores names that NSS does not know, and nobody would be locked out. For such a name the process (and only
it) runs with libnss-wrapper, which answers NSS from a file made of the administrators' names; without that library the
login is refused.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from notifyd.core.secret import Secret

IMPORT_ROOT = Path(__file__).resolve().parents[2]
SERVICE = "notifyd"
SYSTEM_SERVICES = Path("/etc/pam.d")
DENY_AFTER = 5
UNLOCK_AFTER_S = 600

DEADLINE_S = 20.0
REFUSAL_TAKES_S = 1.0  # every refusal takes as long, so that time does not tell which names exist
AT_ONCE = 4
WAITING_LIMIT = 32
PASSWORD_LIMIT = 1024  # characters; longer ones only cost time (PAM_MAX_RESP_SIZE is 512 bytes and more)

NSS_WRAPPER = "libnss_wrapper.so"
LIBRARY_FOLDERS = ("/usr/lib/*-linux-gnu*", "/usr/lib", "/usr/lib64")
NOBODY_ID = 65534  # pam_faillock never locks out user id 0

USER_NAME = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
MINUTES_LEFT = re.compile(r"\((\d+) minutes? left to unlock\)")

WRONG = "The user name or password is wrong."


@dataclass(frozen=True, slots=True)
class PamVerdict:
    """ok: let in. locked: too many failures; `message` says in words what to tell the person."""

    ok: bool
    locked: bool
    message: str


class Logins:
    """Asks PAM; at most a few at once, and one at a time for one name (a burst must not outrun the lock-out)."""

    def __init__(self, data: Path, run: Path, system_services: Path = SYSTEM_SERVICES) -> None:
        self._admins = data / "admins"
        self._run = run
        self._system_services = system_services
        self._free = asyncio.Semaphore(AT_ONCE)
        self._by_user: dict[str, asyncio.Lock] = {}
        self._waiting = 0

    async def check(self, user: str, password: Secret, remote: str) -> PamVerdict:
        """Whether `user` may come in with `password` from the address `remote`. Never raises for bad input."""
        if self._waiting >= WAITING_LIMIT:
            return PamVerdict(False, False, "Too many logins at once: try again in a minute.")
        self._waiting += 1
        try:
            quiet_end = asyncio.get_running_loop().time() + REFUSAL_TAKES_S
            verdict = await self._check(user, password, remote)
            if not verdict.ok:
                await asyncio.sleep(max(0.0, quiet_end - asyncio.get_running_loop().time()))
            return verdict
        finally:
            self._waiting -= 1

    async def _check(self, user: str, password: Secret, remote: str) -> PamVerdict:
        secret = password.reveal()
        if not USER_NAME.fullmatch(user) or not secret or len(secret) > PASSWORD_LIMIT or "\0" in secret:
            return PamVerdict(False, False, WRONG)
        lock = self._by_user.setdefault(user, asyncio.Lock())
        async with self._free, lock:
            try:
                answer = await self._ask(user, secret, remote)
            except (OSError, TimeoutError, ValueError):
                return PamVerdict(False, False, "The login service does not answer: look at the system log.")
        if not lock.locked():
            self._by_user.pop(user, None)
        return verdict_of(answer)

    async def _ask(self, user: str, secret: str, remote: str) -> Mapping[str, object]:
        names = admin_names(self._admins)
        environment = worker_environment(os.environ)
        if user in names and not _known_to_nss(user):
            wrapper = find_nss_wrapper()
            if wrapper is None:
                return {"ok": False, "messages": ["cannot lock out: libnss-wrapper is missing"], "unusable": True}
            environment |= self._wrapped_nss(names, wrapper)
        request = {
            "service": SERVICE,
            "service_dir": str(self._service_dir()),
            "user": user,
            "password": secret,
            "remote": remote,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "notifyd.adapters.pam_worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
        )
        try:
            async with asyncio.timeout(DEADLINE_S):
                output, _ = await process.communicate(json.dumps(request).encode() + b"\n")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        answer = json.loads(output)
        if not isinstance(answer, dict):
            raise ValueError("not an object")  # noqa: TRY004  # one kind of error for every kind of nonsense
        return answer

    def _service_dir(self) -> Path:
        if (self._system_services / SERVICE).is_file():
            return self._system_services
        own = self._run / "pam.d"
        tally = self._run / "faillock"
        for directory in (own, tally):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_if_changed(own / SERVICE, service_text(self._admins, tally))
        return own

    def _wrapped_nss(self, names: frozenset[str], wrapper: Path) -> dict[str, str]:
        directory = self._run / "pam.d"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        uid, gid = os.geteuid() or NOBODY_ID, os.getegid() or NOBODY_ID
        users = "".join(f"{name}:x:{uid}:{gid}:administrator of the page:/:/bin/false\n" for name in sorted(names))
        write_if_changed(directory / "nss.passwd", users)
        write_if_changed(directory / "nss.group", f"administrators:x:{gid}:\n")
        return {
            "LD_PRELOAD": str(wrapper),
            "NSS_WRAPPER_PASSWD": str(directory / "nss.passwd"),
            "NSS_WRAPPER_GROUP": str(directory / "nss.group"),
        }


_instance: Logins | None = None


async def check(user: str, password: Secret, remote: str) -> PamVerdict:
    """`Logins.check` on the roots that NOTIFYD_DATA and NOTIFYD_RUN name."""
    global _instance  # noqa: PLW0603  # the locks must outlive one call
    if _instance is None:
        _instance = Logins(_root("NOTIFYD_DATA", "/data/notifyd"), _root("NOTIFYD_RUN", "/run/notifyd"))
    return await _instance.check(user, password, remote)


def _root(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable, default)).absolute()


def verdict_of(answer: Mapping[str, object]) -> PamVerdict:
    """What the worker's answer means to the person at the door."""
    if answer.get("ok") is True:
        return PamVerdict(True, False, "")
    if answer.get("unusable") is True:
        return PamVerdict(False, False, "The gateway cannot check logins: look at the system log.")
    messages = answer.get("messages")
    words = " ".join(text for text in messages if isinstance(text, str)) if isinstance(messages, list) else ""
    if "account is locked" not in words:
        return PamVerdict(False, False, WRONG)
    left = MINUTES_LEFT.search(words)
    when = f"in {_minutes(int(left[1]))}" if left else "in a few minutes"
    return PamVerdict(False, True, f"This account is locked after {DENY_AFTER} failed logins. Try again {when}.")


def _minutes(count: int) -> str:
    return "1 minute" if count == 1 else f"{count} minutes"


def service_text(admins: Path, tally: Path) -> str:
    """The PAM service (pam.d(5)) for the password file `admins` and the directory `tally` of failure counts."""
    lock = f"nodelay dir={tally} deny={DENY_AFTER} unlock_time={UNLOCK_AFTER_S}"
    return (
        f"auth    requisite                  pam_faillock.so preauth {lock}\n"
        f"auth    [success=1 default=ignore] pam_pwdfile.so nodelay pwdfile={admins}\n"
        f"auth    [default=die]              pam_faillock.so authfail {lock}\n"
        f"auth    required                   pam_faillock.so authsucc {lock}\n"
        "account required                   pam_permit.so\n"
    )


def admin_names(admins: Path) -> frozenset[str]:
    """The names in the password file; none when there is no file."""
    try:
        lines = admins.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return frozenset()
    return frozenset(name for line in lines if USER_NAME.fullmatch(name := line.partition(":")[0]))


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What the worker needs to start, and nothing that could change what is loaded into it."""
    kept = ("PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")
    own = {"PYTHONPATH": str(IMPORT_ROOT), "LC_ALL": "C.UTF-8"}
    return {name: environment[name] for name in kept if name in environment} | own


def find_nss_wrapper() -> Path | None:
    """Where libnss-wrapper is installed, or None."""
    for folder in LIBRARY_FOLDERS:
        for found in sorted(Path("/").glob(f"{folder.lstrip('/')}/{NSS_WRAPPER}")):
            return found
    return None


def _known_to_nss(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def write_if_changed(path: Path, text: str) -> None:
    """Writes `text` to `path` by rename, and only when it differs."""
    try:
        if path.read_text(encoding="utf-8") == text:
            return
    except FileNotFoundError:
        pass
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
