"""Logins through the real libpam, pam_pwdfile and pam_faillock of this machine."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from notifyd import passwd
from notifyd.adapters import pam as subject
from notifyd.core.secret import Secret

PASSWORD = "correct horse battery"
REMOTE = "192.0.2.7"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals need not be slowed down here."""
    monkeypatch.setattr(subject, "REFUSAL_TAKES_S", 0.0)


@pytest.fixture
def logins(tmp_path: Path) -> subject.Logins:
    """One administrator, `admin`, whom NSS does not know."""
    passwd.set_password(tmp_path / "data" / "admins", "admin", PASSWORD)
    return subject.Logins(tmp_path / "data", tmp_path / "run", system_services=tmp_path / "none")


async def check(logins: subject.Logins, user: str, password: str) -> subject.PamVerdict:
    return await logins.check(user, Secret(password), REMOTE)


async def test_right_password_comes_in(logins: subject.Logins) -> None:
    """PAM itself says yes."""
    assert await check(logins, "admin", PASSWORD) == subject.PamVerdict(True, False, "")


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("admin", "wrong"),
        ("admin", PASSWORD + " "),
        ("admin", ""),
        ("admin", PASSWORD + "\0"),
        ("admin", "x" * 5000),
        ("nobody-here", PASSWORD),
        ("root", PASSWORD),
        ("", PASSWORD),
        ("../admin", PASSWORD),
        ("admin\nroot", PASSWORD),
        ("-admin", PASSWORD),
    ],
)
async def test_anything_else_stays_out(logins: subject.Logins, user: str, password: str) -> None:
    """One and the same sentence, whatever was wrong."""
    assert await check(logins, user, password) == subject.PamVerdict(False, False, subject.WRONG)


async def test_lock_out_after_five_failures(logins: subject.Logins) -> None:
    """The sixth try is told how long to wait, and even the right password stays out."""
    for _ in range(subject.DENY_AFTER):
        assert not (await check(logins, "admin", "wrong")).locked
    verdict = await check(logins, "admin", PASSWORD)
    assert (verdict.ok, verdict.locked) == (False, True)
    assert verdict.message.endswith("Try again in 10 minutes.")


async def test_a_burst_cannot_outrun_the_lock_out(logins: subject.Logins) -> None:
    """Tries at the same moment are asked one after the other: at most five reach the password."""
    verdicts = await asyncio.gather(*(check(logins, "admin", "wrong") for _ in range(subject.DENY_AFTER + 3)))
    assert sum(verdict.locked for verdict in verdicts) == 3


async def test_success_forgets_the_failures(logins: subject.Logins) -> None:
    """Four failures, one success, four failures: not locked."""
    for _ in range(2):
        for _ in range(subject.DENY_AFTER - 1):
            await check(logins, "admin", "wrong")
        assert (await check(logins, "admin", PASSWORD)).ok


async def test_no_lock_out_means_no_login(logins: subject.Logins, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pam_faillock could not count, even the right password is refused rather than guessed without end."""
    monkeypatch.setattr(subject, "find_nss_wrapper", lambda: None)
    verdict = await check(logins, "admin", PASSWORD)
    assert not verdict.ok
    assert "cannot check logins" in verdict.message


async def test_too_many_at_once_are_turned_away(logins: subject.Logins, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue of logins has an end."""
    monkeypatch.setattr(subject, "WAITING_LIMIT", 2)
    verdicts = await asyncio.gather(*(check(logins, "admin", PASSWORD) for _ in range(4)))
    assert sum(verdict.ok for verdict in verdicts) == 2
    assert sum("Too many logins" in verdict.message for verdict in verdicts) == 2


async def test_refusal_takes_its_time(logins: subject.Logins, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown name takes no less time than a known one."""
    monkeypatch.setattr(subject, "REFUSAL_TAKES_S", 0.8)
    began = asyncio.get_running_loop().time()
    await check(logins, "../x", "wrong")
    assert asyncio.get_running_loop().time() - began >= 0.8


async def test_hanging_pam_is_given_up(logins: subject.Logins, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """At the deadline the process is killed and the login refused."""
    monkeypatch.setattr(subject, "DEADLINE_S", 0.3)
    hanging = tmp_path / "python"
    hanging.write_text("#!/bin/sh\nexec sleep 60\n")
    hanging.chmod(0o755)
    monkeypatch.setattr(subject.sys, "executable", str(hanging))
    verdict = await check(logins, "admin", PASSWORD)
    assert not verdict.ok
    assert "does not answer" in verdict.message


async def test_device_service_wins(logins: subject.Logins, tmp_path: Path) -> None:
    """A service file of the device is what PAM is asked with."""
    services = tmp_path / "none"
    services.mkdir()
    (services / subject.SERVICE).write_text("auth required pam_deny.so\naccount required pam_permit.so\n")
    assert not (await check(logins, "admin", PASSWORD)).ok
    (services / subject.SERVICE).write_text("auth required pam_permit.so\naccount required pam_permit.so\n")
    assert (await check(logins, "admin", "anything")).ok


def test_worker_gets_a_clean_environment() -> None:
    """What could load code into the worker, or turn its messages into another language, is not passed on."""
    given = dict.fromkeys(("LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONSTARTUP", "PYTHONPATH", "LC_ALL", "PATH"), "given")
    passed = subject.worker_environment(given)
    assert [name for name, value in passed.items() if value == "given"] == ["PATH"]


# ---- the password file ----------------------------------------------------------------------------------------------


def test_password_file_is_private_and_hashed(tmp_path: Path) -> None:
    """0600, yescrypt, one line a name, no password in it."""
    admins = tmp_path / "admins"
    before = os.umask(0)
    try:
        passwd.set_password(admins, "admin", PASSWORD)
        passwd.set_password(admins, "second", PASSWORD)
        passwd.set_password(admins, "admin", PASSWORD + "2")
    finally:
        os.umask(before)
    lines = admins.read_text().splitlines()
    assert sorted(line.partition(":")[0] for line in lines) == ["admin", "second"]
    assert all(line.partition(":")[2].startswith("$y$") for line in lines)
    assert PASSWORD not in admins.read_text()
    assert stat.S_IMODE(admins.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("Admin", PASSWORD),
        ("a:b", PASSWORD),
        ("../x", PASSWORD),
        ("", PASSWORD),
        ("admin", "short"),
        ("admin", "x" * 5000),
    ],
)
def test_impossible_name_or_password_is_refused(tmp_path: Path, name: str, password: str) -> None:
    """Nothing is written."""
    with pytest.raises(passwd.Refused):
        passwd.set_password(tmp_path / "admins", name, password)
    assert not (tmp_path / "admins").exists()


def test_deleted_administrator_is_gone(tmp_path: Path) -> None:
    """Only the one named."""
    for name in ("one", "two"):
        passwd.set_password(tmp_path / "admins", name, PASSWORD)
    passwd.delete_password(tmp_path / "admins", "one")
    assert subject.admin_names(tmp_path / "admins") == {"two"}
    with pytest.raises(passwd.Refused):
        passwd.delete_password(tmp_path / "admins", "one")


def test_generated_password_is_printed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no default: a generated one is long and shown only here."""
    monkeypatch.setenv("NOTIFYD_DATA", str(tmp_path))
    assert passwd.main(["admin", "--generate"]) == 0
    assert len(capsys.readouterr().out.strip()) >= 16
