"""Inputs for reports: an empty, a normal and a hostile day."""

from __future__ import annotations

import math
from datetime import UTC
from typing import Any

from notifyd.core.eventlog import rfc3339
from notifyd.core.report_settings import ReportSettings
from notifyd.report.figures import Inputs
from notifyd.report.gather import Interface, Lease, Storage, System
from notifyd.report.history import Day, Sample

NOW = 1_795_588_200.0  # 2026-11-25 06:30 UTC
BOOT = "b" * 32
HOUR = 3600.0

HOSTILE = "<img src=x onerror=alert(1)>\"'&{{7*7}}" + "W" * 200
SCRIPTS = "日本語のホスト名 العربية עברית Ελληνικά кириллица 🔥"


def events() -> list[dict[str, Any]]:
    found = []

    def add(hours_ago: float, level: str, name: str, message: str, **fields: Any) -> None:
        found.append(
            {
                "id": len(found) + 1, "time": rfc3339(NOW - hours_ago * HOUR), "boot_id": BOOT, "level": level,
                "category": name.partition(".")[0], "event": name, "message": message, "fields": fields,
            }
        )  # fmt: skip

    for number in range(40):
        add(number * 0.59, "info", "mail.sent", f"Mail {number} sent to admin@contoso.example")
    for number in range(24):
        add(number + 0.1, "info", "token.refreshed", "Microsoft 365 token renewed for gateway@contoso.example")
    for number in range(5):
        add(8.5 + number * 0.1, "notice", "mail.deferred", "Mail deferred: the mail server asks to wait")
    add(8.2, "error", "mail.failed", "Mail 0197a2f0 to nobody@contoso.example failed for good: No such recipient")
    add(
        2.0,
        "notice",
        "auth.login",
        "Administrator admin logged in from 192.168.1.33",
        user="admin",
        remote="192.168.1.33",
    )
    for number in range(3):
        add(
            3 + number * 0.01, "warning", "auth.login_failed", "Login failed for root from 192.168.1.77",
            user="root", remote="192.168.1.77",
        )  # fmt: skip
    add(5.0, "warning", "network.wan_down", "The WAN is down: mail waits")
    add(4.9, "notice", "network.wan_up", "The WAN is up: what waited is tried now")
    return found


def interfaces(hours_ago: float) -> tuple[Interface, ...]:
    """Counters that grow as on a working day."""
    at = 200.0 - hours_ago
    wave = sum(1 + math.sin((hour % 24 - 9) / 24 * 2 * math.pi) for hour in range(int(at)))
    return (
        Interface("wan1", "ethernet", True, True, ("203.0.113.7/24",), int(wave * 9e8), int(wave * 2.1e8), 0, 0, 3),
        Interface("lan1", "bridge", True, False, ("192.168.1.1/24",), int(wave * 2.4e8), int(wave * 9.5e8), 0, 0, 0),
        Interface("ge5", "ethernet", False, False, (), 0, 0, 0, 0, 0),
        Interface("wg0", "wireguard", True, False, ("10.8.0.1/24",), int(wave * 3e7), int(wave * 2e7), 0, 0, 0),
        Interface("wg1", "wireguard", False, False, ("10.9.0.1/24",), 0, 0, 0, 0, 0),
    )


def system(hours_ago: float = 0.0) -> System:
    busy = sum(20 + 15 * math.sin((hour % 24 - 8) / 24 * 2 * math.pi) for hour in range(int(200 - hours_ago)))
    return System(
        taken_at=NOW - hours_ago * HOUR,
        boot_id=BOOT,
        host="usg-hq.contoso.example",
        model="USG FLEX 200HP",
        version="uOS 1.36(ABXF.2)",
        kernel="6.12.5",
        slot="A",
        uptime_s=86_400 * 41 + 3600 * 5,
        load=(0.42, 0.38, 0.31),
        cpus=4,
        cpu_busy=int(busy * 3600),
        cpu_total=int((200 - hours_ago) * 100 * 3600),
        memory_total=4_112_000_000,
        memory_available=2_600_000_000,
        temperature=52.5,
        sessions=1834,
        sessions_max=600_000,
        storage=(Storage("/", 310_000_000, 0), Storage("/data", 7_600_000_000, 6_900_000_000)),
        interfaces=interfaces(hours_ago),
        leases=tuple(Lease(f"192.168.1.{n}", f"02:00:00:00:00:{n:02x}", f"pc-{n}", 0.0) for n in range(33, 52)),
        missing={},
    )


def status(**changes: Any) -> dict[str, Any]:
    return {
        "state": "Valid", "can_send": True, "account": "gateway@contoso.example", "access_expires_at": NOW + 2900,
        "refresh_due_at": NOW + 1500, "grant_age_s": 700, "secret_expires_on": "2026-12-09", "problem": None,
        "pending": 0, "queue": {"held": 0, "ready": 1, "sent_today": 40, "paused": False}, "generation": 3,
    } | changes  # fmt: skip


def normal(**changes: Any) -> Inputs:
    values: dict[str, Any] = {
        "settings": ReportSettings(enabled=True, recipients=("admin@contoso.example",)),
        "system": system(),
        "samples": [Sample.of(system(hours_ago)) for hours_ago in range(26, -1, -1)],
        "days": [Day("2026-11-24", NOW - 24 * HOUR, {"wan_rx": 1.9e10, "mail_sent": 31, "memory": 0.39, "failed": 0})],
        "status": status(),
        "events": events(),
        "zone": UTC,
    }
    return Inputs(**(values | changes))


def empty() -> Inputs:
    """A gateway that was just started, where nothing answers."""
    bare = System(taken_at=NOW, boot_id="", host="gateway", missing={"cpu": "No such file", "interfaces": "no netlink"})
    return Inputs(
        settings=ReportSettings(), system=bare, samples=[Sample.of(bare)], days=[], status=None, events=[], zone=UTC,
        fault="cannot reach notifyd", auth="",
    )  # fmt: skip


def hostile() -> Inputs:
    """Everything that others can name, named to do harm."""
    from dataclasses import replace

    bad = replace(
        system(),
        host=HOSTILE,
        model=SCRIPTS,
        version=HOSTILE,
        slot=HOSTILE,
        interfaces=(Interface(HOSTILE, HOSTILE, True, True, (HOSTILE,), 10**15, 10**15, 1, 1, 1),),
        leases=(Lease("192.168.1.2", "=cmd|'/c calc'!A1", SCRIPTS, 0.0), Lease("10.0.0.1", HOSTILE, HOSTILE, 0.0)),
        storage=(Storage(HOSTILE, 100_000_000, 1_000_000),),
        temperature=99.0,
        missing={HOSTILE: "x"},
    )
    wild = [
        {
            "id": n,
            "time": "never",
            "level": "loud",
            "event": HOSTILE,
            "category": SCRIPTS,
            "message": HOSTILE,
            "fields": [],
        }
        for n in range(30)
    ]
    wild += [
        {
            "id": 99, "time": rfc3339(NOW), "level": "error", "event": "auth.login_failed", "category": "auth",
            "message": "=HYPERLINK(1)", "fields": {"remote": HOSTILE, "user": SCRIPTS},
        }
    ]  # fmt: skip
    problem = {"code": "x", "title": HOSTILE, "detail": HOSTILE, "remedy": SCRIPTS}
    return normal(
        system=bad,
        events=wild,
        samples=[Sample.of(bad)],
        status=status(state=HOSTILE, can_send=False, account=HOSTILE, problem=problem, secret_expires_on="2020-01-01"),
        settings=ReportSettings(title="%hostname %model", subject="%hostname %version", attach_csv=True),
        missed=3,
    )
