"""The process that the crash campaign kills: the real queue, mailer and SMTP adapter, fed over a Unix socket.

`python -m tests.campaigns.crash_child` is a nursery: for each line on its standard input it forks a child that has
everything imported already, so that a kill costs milliseconds and not the start of an interpreter. The child opens the
database as any start does, and lives until it is killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import signal
import sys
import time
from pathlib import Path

import aiosmtplib  # noqa: F401  # imported before the fork: the child shall not spend its short life on it

from notifyd.adapters import clock
from notifyd.adapters.database import open_database
from notifyd.adapters.queue import MailQueue, QueueLimits
from notifyd.adapters.smtp import SmtpTarget
from notifyd.core.addresses import Mailbox
from notifyd.core.governor import OTHER_SERVER
from notifyd.core.message import Draft, Stamp, compose
from notifyd.core.secret import Secret
from notifyd.core.settings import Auth, Security
from notifyd.mailer import Account, Mailer
from qemu.workstation.processes import die_with_parent

SENDER = "gateway@contoso.example"


async def live(order: dict[str, str | int]) -> None:
    """Open the queue of `directory`, send through the server at `port`, accept on `directory`/in.sock."""
    directory, ca_file = Path(str(order["directory"])), Path(str(order["ca_file"]))
    queue = MailQueue(open_database(directory / "notifyd.db"), QueueLimits(), now=clock.now, boot_id=clock.boot_id())
    target = SmtpTarget("localhost", int(order["port"]), Security.STARTTLS, ca_file)
    account = Account(target, SENDER, SENDER, Auth.PASSWORD, Secret("password"), OTHER_SERVER)

    async def current() -> Account:
        return account

    def emit(event: str, /, **fields: object) -> None:
        if event not in ("mail.accepted", "mail.sent"):  # nothing else may happen: the server is always there
            print(event, fields, file=sys.stderr, flush=True)

    mailer = Mailer(
        queue, account=current, report=lambda outcome: None, emit=emit, now=clock.now, chance=random.Random()
    )

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            wish = json.loads(line)
            draft = Draft((Mailbox("", "ops@contoso.example"),), str(wish["number"]), "x" * int(wish["size"]))
            composed = compose(draft, SENDER, Stamp(time.time(), secrets.token_hex(12)))
            accepted = await mailer.submit(composed, idempotency_key=str(wish["number"]))
            writer.write(json.dumps({"number": wish["number"], "id": accepted.id}).encode() + b"\n")

    path = directory / "in.sock"
    path.unlink(missing_ok=True)
    await asyncio.start_unix_server(serve, path)
    await mailer.run()


def nursery() -> None:
    """Fork one child per line; its process id is the answer."""
    die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them: the kernel reaps
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            die_with_parent()
            try:
                random.seed()
                asyncio.run(live(json.loads(line)))
            finally:
                os._exit(70)  # reached only by a fault: a good child is killed
        print(pid, flush=True)


if __name__ == "__main__":
    nursery()
