"""The flash is full, read-only or damaged: the page stays up and the log says what is wrong."""

from __future__ import annotations

import pytest

from qemu.lab.agent import GuestError
from tests.board.conftest import Journal, Lab

pytestmark = pytest.mark.qemu

MAIL = {"to": "ops@contoso.example", "subject": "flash", "text": "x"}
STORE_WORDS = r"(?i)store|storage|disk|space|database|read-?only|damaged|corrupt|flash|I/O"


def test_a_full_flash_refuses_mail_and_keeps_the_grant(valid: Lab, journal: Journal) -> None:
    """New mail is refused with a reason, a renewed token is still stored, and room makes everything as before."""
    journal.allow(STORE_WORDS)
    unit = valid.unit
    generation = unit.status()["grant_age_s"]
    assert generation is not None
    unit.agent.shell(
        "cd /data; fallocate -l $(($(df --output=avail -B1 /data | tail -1) - 65536)) filler || true; "
        "dd if=/dev/zero of=filler2 bs=4096 2>/dev/null || true; sync",
        timeout=300,
    )
    answers = [unit.api("POST", "/api/v1/mail", {**MAIL, "text": "x" * 20000}) for _ in range(4)]
    assert answers[-1].status in (503, 507), answers[-1]
    assert answers[-1].document["detail"], answers[-1]
    renewed = unit.api("POST", "/api/v1/token/refresh", {"force": True}, timeout=180)
    assert renewed.status == 200, renewed
    assert renewed.document["state"] == "Valid", renewed
    assert unit.lan_get("/")[0] == 200
    unit.agent.shell("rm -f /data/filler /data/filler2; sync")
    again = valid.wait(
        lambda: unit.api("POST", "/api/v1/mail", MAIL), lambda answer: answer.status == 202, "mail again", 90
    )
    path = f"/api/v1/mail/{again.document['id']}"
    valid.wait(lambda: unit.api("GET", path).document["state"], lambda state: state == "sent", "the mail's end", 240)


def test_an_ext4_error_makes_the_flash_read_only_and_the_page_stays(valid: Lab, journal: Journal) -> None:
    """The kernel finds an error (errors=remount-ro): no mail is claimed accepted, the page is up, fsck repairs."""
    journal.allow(STORE_WORDS, r"EXT4-fs", r"notifyd\.service: ", r"Failed to start notifyd", r"notifyd: ")
    unit = valid.unit
    unit.agent.shell("echo test > /sys/fs/ext4/$(basename $(readlink -f /dev/disk/by-partlabel/data))/trigger_fs_error")
    assert unit.agent.run("touch", "/data/x").status != 0, "the flash is still writable"
    try:
        answer = unit.api("POST", "/api/v1/mail", MAIL).status
    except GuestError:
        answer = 0  # notifyd has given up its store and is being started again: nothing was accepted
    assert answer in (0, 500, 503, 507), answer
    assert unit.lan_get("/")[0] == 200
    unit.agent.shell(
        "systemctl stop notifyd-admin.socket notifyd-callback.socket notifyd; umount /data; "
        "e2fsck -fy /dev/disk/by-partlabel/data || [ $? -le 2 ]; "
        "mount /data 2>/dev/null || systemctl start data.mount; "
        "systemctl reset-failed notifyd; systemctl start notifyd-admin.socket notifyd-callback.socket notifyd",
        timeout=300,
    )
    assert valid.wait(unit.status, lambda status: bool(status["account"]), "the grant", 120)


def test_a_flipped_block_in_the_database_is_told_and_the_page_stays(valid: Lab, journal: Journal) -> None:
    """One damaged page of notifyd.db: the event names it, the page answers, and the grant's own file is untouched."""
    journal.allow(STORE_WORDS, r"notifyd\.service: ", r"Failed to start notifyd", r"notifyd\[")
    unit = valid.unit
    accepted = unit.api("POST", "/api/v1/mail", MAIL)
    assert accepted.status == 202
    before = unit.agent.check("sha256sum", "/data/notifyd/grant.slots")
    unit.agent.shell(
        "systemctl stop notifyd-admin.socket notifyd-callback.socket notifyd; "
        "printf '\\377%.0s' $(seq 512) | dd of=/data/notifyd/notifyd.db bs=512 seek=9 conv=notrunc 2>/dev/null; "
        "printf '\\377%.0s' $(seq 512) | dd of=/data/notifyd/notifyd.db bs=512 seek=0 conv=notrunc 2>/dev/null; sync; "
        "systemctl start notifyd-admin.socket notifyd-callback.socket; systemctl start --no-block notifyd",
        timeout=120,
    )
    valid.wait(
        lambda: " ".join(str(record.get("MESSAGE")) for record in unit.journal("-u", "notifyd.service", "-n", "40")),
        lambda text: "corrupt" in text.lower() or "damaged" in text.lower() or "malformed" in text.lower(),
        "the log's word for it",
        180,
    )
    assert unit.lan_get("/")[0] == 200
    assert unit.agent.check("sha256sum", "/data/notifyd/grant.slots") == before
