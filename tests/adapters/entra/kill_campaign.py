"""Kills a renewing process at random moments and looks whether the grant on the disk still renews (promise P4).

`python -m tests.adapters.entra.kill_campaign CONFIG`: a process of its own, since it forks. Each trial forks a child
that renews and commits without end over real TLS, ends it with SIGKILL after a random time, then renews with what is
on the disk. Prints one JSON line with the counts.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import sys
import time
from base64 import b64decode, b64encode
from collections import Counter
from pathlib import Path
from typing import Any

from notifyd.adapters.entra_worker import operations
from notifyd.adapters.entra_worker.faults import OperationFailed
from notifyd.adapters.vault import Vault
from tests.m365.browser import Browser

LONGEST_WAIT_S = 5.0
COMMIT_S = 0.003
"""About the time that a commit takes."""

IDLE, ASKED, ANSWERED, COMMITTED = range(4)
LONGEST_LIFE = 2.5
"""In renewals, as long as they last on this machine now: every moment of one is hit."""


class Campaign:
    """One device under fire."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self._slots = Path(config["slots"])
        self._stage = mmap.mmap(-1, 1)
        self._number = 0
        self._renewal_s = 0.1
        self.counts: Counter[str] = Counter()

    def sign_in(self) -> None:
        """A new grant by a whole sign-in."""
        redirect_uri = self._config["redirect_uri"]
        begun = self._perform(op="begin", redirect_uri=redirect_uri, login_hint="", claims="")
        browser = Browser(self._config["request"]["ca_file"], redirect_uri)
        params = browser.sign_in(begun["url"]).params
        browser.http.close()
        self._keep(self._perform(op="redeem", flow=begun["flow"], params=params))

    def trial(self, share: float) -> None:
        """One kill, at `share` (0…1) of the longest life."""
        self._stage[0] = IDLE
        child = os.fork()
        if child == 0:
            self._renew_for_ever()
        self._wait(share)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        stage = self._stage[0]
        self.counts[("idle", "asked", "answered", "committed")[stage]] += 1
        start = time.monotonic()
        try:
            self._keep(self._renew())
            self._renewal_s += (time.monotonic() - start - self._renewal_s) / 4
        except OperationFailed as refused:
            in_window = stage in (ASKED, ANSWERED)
            self.counts["lost_in_window" if in_window else "lost"] += 1
            self.counts[f"told_as_{refused.failure.error}"] += 1
            self.sign_in()

    def _wait(self, share: float) -> None:
        """Every second kill falls while an answer is being made durable, the others anywhere."""
        self._number += 1
        if self._number % 2:
            time.sleep(share * LONGEST_LIFE * self._renewal_s)
            return
        deadline = time.monotonic() + LONGEST_WAIT_S
        while self._stage[0] != ANSWERED and time.monotonic() < deadline:
            time.sleep(0.0002)
        time.sleep(share * COMMIT_S)

    def _renew_for_ever(self) -> None:
        try:
            vault = Vault(self._slots)
            while True:
                self._stage[0] = IDLE
                slot = vault.load()
                assert slot is not None
                self._stage[0] = ASKED
                renewed = self._perform(op="refresh", grant=_text(slot.sealed), grant_generation=1)
                self._stage[0] = ANSWERED
                vault.commit({"generation": 1}, b64decode(renewed["sealed"]))
                self._stage[0] = COMMITTED
        finally:
            os._exit(1)

    def _renew(self) -> dict[str, Any]:
        vault = Vault(self._slots)
        slot = vault.load()
        vault.close()
        assert slot is not None, "no grant is whole"
        return self._perform(op="refresh", grant=_text(slot.sealed), grant_generation=1)

    def _keep(self, result: dict[str, Any]) -> None:
        vault = Vault(self._slots)
        vault.commit({"generation": 1}, b64decode(result["sealed"]))
        vault.close()

    def _perform(self, **fields: Any) -> dict[str, Any]:
        return operations.perform({**self._config["request"], **fields})


def _text(sealed: bytes) -> str:
    return b64encode(sealed).decode()


def main() -> None:
    """Run the trials."""
    config = json.loads(sys.argv[1])
    rng = random.Random(config["seed"])
    campaign = Campaign(config)
    campaign.sign_in()
    for _ in range(config["trials"]):
        campaign.trial(rng.random())
    print(json.dumps(campaign.counts))


if __name__ == "__main__":
    main()
