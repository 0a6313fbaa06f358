"""Real programs of Debian that mail through /usr/sbin/sendmail, with ours in its place."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.debian import in_private_root, library_path, unpacked
from tests.support.stack import Stack

OPS = "ops@contoso.example"

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root for a mount namespace"
)


def with_our_sendmail(stack: Stack, tmp_path: Path, command: list[str], setup: str = "", **env: str) -> str:
    """Run a program that finds our sendmail under /usr/sbin; what it printed."""
    wrapper = tmp_path / "sendmail"
    # As cron starts it: with an environment that says nothing about us.
    wrapper.write_text(
        f"#!/bin/sh\nNOTIFYD_RUN={stack.run} PYTHONPATH={os.pathsep.join(sys.path)} "
        f'exec {sys.executable} -m notifyd.sendmail "$@"\n'
    )
    wrapper.chmod(0o755)
    home = tmp_path / "layers"
    home.mkdir()
    place = f"over /usr/sbin; cp {wrapper} /usr/sbin/sendmail; {setup}"
    done = subprocess.run(
        in_private_root(command, place, home),
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **env},
        check=False,
    )
    return done.stdout + done.stderr


def arrived(stack: Stack, word: str) -> dict[str, Any]:
    """The mail whose subject or text has this word, once it is in the mailbox."""

    def look() -> list[dict[str, Any]]:
        return [m for m in stack.microsoft.mail() if word in m["subject"] + m["text"]]

    (found,) = stack.wait(look, bool, f"the mail with {word}")
    return dict(found)


def test_mail_of_bsd_mailx_arrives(gateway: Stack, tmp_path: Path) -> None:
    """`mail -s … address < text`: the way most scripts do it."""
    shelf = unpacked("bsd-mailx", "liblockfile1", "libbsd0", "libmd0")
    command = ["sh", "-c", f"echo 'the disk is full' | {shelf}/usr/bin/bsd-mailx -s 'from-mailx' {OPS}"]
    printed = with_our_sendmail(gateway, tmp_path, command, LD_LIBRARY_PATH=library_path(shelf))
    mail = arrived(gateway, "from-mailx")
    assert printed == ""
    assert mail["recipients"] == [OPS]
    assert mail["text"].strip() == "the disk is full"
    assert "gateway@contoso.example" in mail["from"]


def test_mail_of_a_cron_job_arrives(gateway: Stack, tmp_path: Path) -> None:
    """cron mails the output of a job to a local user: it reaches the gateway's own mailbox, named as cron's."""
    shelf = unpacked("cron", "cron-daemon-common")
    crontab = tmp_path / "crontab"
    crontab.write_text("SHELL=/bin/sh\n@reboot root echo output-of-the-cron-job\n")
    setup = (
        f"over /etc; cp {crontab} /etc/crontab; chmod 644 /etc/crontab; mkdir -p /var/spool /run; "
        "mount -t tmpfs none /var/spool; mkdir -p /var/spool/cron/crontabs; mount -t tmpfs none /run; "
        "rm -rf /etc/cron.d; "
    )
    # timeout ends the daemon; its private /run is gone with the namespace
    run_dir = gateway.run
    keep = f"mkdir -p {run_dir}; " if str(run_dir).startswith("/run") else ""
    printed = with_our_sendmail(gateway, tmp_path, ["timeout", "8", f"{shelf}/usr/sbin/cron", "-f"], setup + keep)
    mail = arrived(gateway, "output-of-the-cron-job")
    assert mail["recipients"] == ["gateway@contoso.example"], printed
    assert mail["subject"].startswith("Cron <root@")
    assert "output-of-the-cron-job" in mail["text"]


def test_mail_of_mdadm_arrives(gateway: Stack, tmp_path: Path) -> None:
    """mdadm's own test of its alarm, which pipes a message with its recipients into `sendmail -t`."""
    shelf = unpacked("mdadm")
    command = [f"{shelf}/sbin/mdadm", "--monitor", "--test", "--oneshot", f"--mail={OPS}", "/dev/md77"]
    printed = with_our_sendmail(gateway, tmp_path, command)
    mail = arrived(gateway, "/dev/md77")
    assert mail["recipients"] == [OPS], printed
    assert mail["subject"].startswith("TestMessage event on /dev/md77")
    assert mail["from"] == "mdadm monitoring <gateway@contoso.example>"
