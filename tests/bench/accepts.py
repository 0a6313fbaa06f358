"""Durable accepts a second against Debian's nullmailer and Postfix, on the same disk in the same run.

`python -m tests.bench.accepts` needs root (for a mount namespace) and apt. Each figure is the median of rounds that
take turns, so that a busy moment of the machine hits all alike. What is measured is the time until the program that
mails knows that its mail is on the disk; none of them delivers during it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from qemu.workstation.processes import Child, wait_until
from tests.bench.accept_rate import UnixConnection
from tests.support.debian import ROOT, in_private_root, unpacked

ROUNDS, CONNECTED, SPAWNED = 5, 200, 40
MESSAGE = b"From: root\nTo: ops@contoso.example\nSubject: bench\n\n" + b"x" * 70 * 28 + b"\n"

_POSTFIX = """
compatibility_level = 3.6
queue_directory = {spool}
command_directory = {sbin}
daemon_directory = {daemons}
shlib_directory = /usr/lib/postfix
data_directory = {spool}/data
mail_owner = postfix
setgid_group = postdrop
alias_maps =
myhostname = gateway.example
inet_interfaces = loopback-only
"""

_LOOP = """
import subprocess, sys, time
command, count, message = sys.argv[3:], int(sys.argv[1]), open(sys.argv[2], "rb").read()
began = time.perf_counter()
for _ in range(count):
    subprocess.run(command, input=message, check=True, stdout=subprocess.DEVNULL)
print(count / (time.perf_counter() - began))
"""


def spawned(command: list[str], message: Path, setup: str, home: Path, **env: str) -> float:
    """Mails a second when each is handed in by a program of its own."""
    loop = [sys.executable, "-c", _LOOP, str(SPAWNED), str(message), *command]
    argv = in_private_root(loop, setup, home) if setup else loop
    done = subprocess.run(argv, env={**os.environ, **env}, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: {done.stderr[-1500:]}")
    return float(done.stdout.split()[-1])


def nullmailer(disk: Path, message: Path) -> Callable[[], float]:
    """nullmailer-inject with its queue on our disk."""
    shelf, spool, home = unpacked("nullmailer"), disk / "nullmailer", disk / "layers-n"
    for name in ("queue", "tmp", "failed"):
        (spool / name).mkdir(parents=True)
    home.mkdir()
    setup = (
        f"over /usr/sbin; over /etc; over /var/spool; cp {shelf}/usr/sbin/nullmailer-queue /usr/sbin/; "
        "mkdir -p /var/spool/nullmailer /etc/nullmailer; echo gateway.example > /etc/nullmailer/me; "
        f"mount --bind {spool} /var/spool/nullmailer; mkfifo /var/spool/nullmailer/trigger 2>/dev/null || true"
    )
    command = [f"{shelf}/usr/bin/nullmailer-inject", "ops@contoso.example"]
    return lambda: spawned(command, message, setup, home)


def postfix(disk: Path, message: Path) -> Callable[[], float]:
    """Postfix's sendmail and postdrop with their queue on our disk."""
    shelf, spool, config, home = unpacked("postfix"), disk / "postfix", disk / "postfix-etc", disk / "layers-p"
    for name in ("maildrop", "public", "data", "pid"):
        (spool / name).mkdir(parents=True)
    config.mkdir()
    home.mkdir()
    shlib = shelf / "usr/lib/postfix"
    text = _POSTFIX.format(spool=spool, sbin=shelf / "usr/sbin", daemons=shelf / "usr/lib/postfix/sbin")
    (config / "main.cf").write_text(text)
    (config / "master.cf").touch()
    setup = (
        f"over /usr/lib; cp -r {shlib} /usr/lib/; "  # postdrop is started with a clean environment: no library path
        "over /etc; echo 'postfix:x:29901:29901::/:/bin/false' >> /etc/passwd; "
        "echo 'postfix:x:29901:' >> /etc/group; echo 'postdrop:x:29902:' >> /etc/group; "
        f"chown 29901 {spool}/maildrop {spool}/data"
    )
    command = [f"{shelf}/usr/sbin/sendmail", "-C", str(config), "-i", "ops@contoso.example"]
    return lambda: spawned(command, message, setup, home)


def our_sendmail(run: Path, message: Path, home: Path) -> Callable[[], float]:
    """Our sendmail program, started as on the device."""
    command = [sys.executable, "-IS", str(ROOT / "firmware/bin/sendmail"), "-i", "ops@contoso.example"]
    return lambda: spawned(command, message, "", home, NOTIFYD_RUN=str(run))


def connected(run: Path) -> float:
    """Mails a second over one connection that stays, one after the other."""
    connection = UnixConnection(run / "admin.sock")
    began = time.perf_counter()
    for _ in range(CONNECTED):
        connection.request("POST", "/api/v1/mail", MESSAGE, {"Content-Type": "message/rfc822"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 202:
            raise RuntimeError(f"notifyd answered {answer.status}")
    rate = CONNECTED / (time.perf_counter() - began)
    connection.close()
    return rate


def measure(disk: Path) -> dict[str, float]:
    """All four, in turns; the ratios are against the better of the two others."""
    roots = {name: disk / name.lower() for name in ("ETC", "DATA", "RUN")}
    for root in roots.values():
        root.mkdir()
    message = disk / "message"
    message.write_bytes(MESSAGE)
    env = {**os.environ, "PYTHONPATH": str(ROOT / "firmware"), **{f"NOTIFYD_{n}": str(p) for n, p in roots.items()}}
    command = [sys.executable, "-m", "notifyd", "--lan-interface", "lo"]
    with Child("notifyd", command, env, disk / "notifyd.log") as daemon:
        wait_until(lambda: (roots["RUN"] / "admin.sock").exists(), 30, "notifyd", daemon)
        _apply(roots["RUN"])
        contestants = {
            "nullmailer": nullmailer(disk, message),
            "postfix": postfix(disk, message),
            "sendmail": our_sendmail(roots["RUN"], message, disk),
            "connected": lambda: connected(roots["RUN"]),
        }
        rounds = [{name: run() for name, run in contestants.items()} for _ in range(ROUNDS)]
    rates = {name: statistics.median(one[name] for one in rounds) for name in contestants}
    best = max(rates["nullmailer"], rates["postfix"])
    return {
        "nullmailer_accepts_per_s": round(rates["nullmailer"], 1),
        "postfix_accepts_per_s": round(rates["postfix"], 1),
        "sendmail_accepts_per_s": round(rates["sendmail"], 1),
        "connected_accepts_per_s": round(rates["connected"], 1),
        "accepts_ratio_connected": round(rates["connected"] / best, 2),
        "accepts_ratio_sendmail": round(rates["sendmail"] / best, 2),
    }


def _apply(run: Path) -> None:
    """A relay that does not exist: mail is accepted and kept."""
    settings = {"server": "127.0.0.1", "port": 9, "security": "none", "auth": "none", "cloud": "public"}
    body = json.dumps({**settings, "sender": "gateway@contoso.example"})
    connection = UnixConnection(run / "admin.sock")
    connection.request("PUT", "/api/v1/settings", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"Apply was answered {answer.status}: {answer.read()[:300]!r}")
    connection.close()


def main() -> int:
    """The program: figures as JSON on one line, status 1 when a ratio is not reached."""
    with tempfile.TemporaryDirectory(prefix="accepts-", dir=ROOT / "build") as disk:
        figures = measure(Path(disk))
    print(json.dumps(figures))
    return 0 if figures["accepts_ratio_connected"] >= 3 and figures["accepts_ratio_sendmail"] >= 1 else 1


if __name__ == "__main__":
    sys.exit(main())
