"""`make demo-once`: the administrator's whole path, headless, one line a step with its time.

Exit status 1 at the first step that fails, with what was seen instead.
"""

from __future__ import annotations

import json
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Error as BrowserError
from playwright.sync_api import Page, expect

from qemu.workstation import administrator
from qemu.workstation.demo import Demo, running_demo
from qemu.workstation.gateway import ADMIN
from qemu.workstation.processes import StartFailed, wait_until

ACCESS_TOKEN_S = 75
"""The shortest life Microsoft's policies come near, so that the demo sees a token end within two minutes."""
RENEWAL_DEADLINE_S = 2 * ACCESS_TOKEN_S
MAIL_DEADLINE_S = 60
OPERATOR = "ops@contoso.example"


class Steps:
    """Prints each step with the seconds it took."""

    @contextmanager
    def step(self, words: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        except Exception:
            print(f"FAILED {time.monotonic() - started:6.1f} s  {words}", flush=True)
            raise
        print(f"ok     {time.monotonic() - started:6.1f} s  {words}", flush=True)


def free_port() -> int:
    """A TCP port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def control(demo: Demo, method: str, path: str, body: object = None) -> Any:
    """One call of the simulator's control API."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(demo.m365["control"].rstrip("/") + path, data, method=method)
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def arrived(demo: Demo) -> int:
    """How many messages the simulated Exchange has accepted."""
    return len(control(demo, "GET", "/mail")["messages"])


def expect_mail(demo: Demo, count: int) -> Callable[[], bool]:
    return lambda: arrived(demo) >= count


def sender_of(demo: Demo) -> str:
    """The mailbox the demo signs in as."""
    return str(demo.m365["users"][0]["upn"])


def walk(demo: Demo, page: Page, steps: Steps) -> None:
    """Every step of the administrator's path, in order; raises at the first that fails."""
    sender = sender_of(demo)
    with steps.step("log in to the gateway"):
        administrator.log_in(page, demo.gateway.address, ADMIN, str(demo.gateway.password))
    with steps.step("Apply the mail server's settings: Token Status is Applied"):
        administrator.apply_settings(page, demo.m365, "simulated", sender)
    control(demo, "PATCH", "/policy", {"access_seconds": ACCESS_TOKEN_S})
    with steps.step("Get New Token opens a tab at Microsoft's sign-in"):
        tab = administrator.start_sign_in(page)
    with steps.step(f"sign in as {sender}"):
        administrator.sign_in(tab, sender)
    with steps.step("accept the consent page"):
        administrator.accept_consent(tab)
    with steps.step("the tab closes itself"):
        administrator.wait_until_closed(tab)
    with steps.step("Token Status becomes Valid by itself"):
        administrator.expect_status(page, "Valid")
    with steps.step("a test mail arrives"):
        administrator.send_test_mail(page, OPERATOR)
        wait_until(expect_mail(demo, 1), MAIL_DEADLINE_S, "the first mail", demo.gateway.notifyd)
    with steps.step(f"the access token ends after {ACCESS_TOKEN_S} s, renewed before with nobody touching it"):
        ended = time.monotonic() + ACCESS_TOKEN_S
        before = token_requests(demo)
        wait_until(
            lambda: token_requests(demo) > before and time.monotonic() > ended,
            RENEWAL_DEADLINE_S,
            "a renewal by itself",
            demo.gateway.notifyd,
        )
        administrator.expect_status(page, "Valid")
    with steps.step("a second mail arrives, with the renewed token"):
        administrator.send_test_mail(page, OPERATOR)
        wait_until(expect_mail(demo, 2), MAIL_DEADLINE_S, "the second mail", demo.gateway.notifyd)
    with steps.step("notifyd is killed with -9 and started again"):
        demo.gateway.notifyd.kill()
        demo.gateway.start_notifyd()
    with steps.step("still Valid"):
        page.reload()
        if not page.locator("#app").is_visible():
            administrator.log_in(page, demo.gateway.address, ADMIN, str(demo.gateway.password))
        administrator.expect_status(page, "Valid")
    with steps.step("a third mail arrives"):
        administrator.send_test_mail(page, OPERATOR)
        wait_until(expect_mail(demo, 3), MAIL_DEADLINE_S, "the third mail", demo.gateway.notifyd)
    with steps.step("the System log shows the token's retrieval and renewal and the mails"):
        page.locator("a[href='#log']").click()
        rows = page.locator("#log-rows")
        for words in ("token retrieved", "token renewed", "sent to"):
            expect(rows).to_contain_text(words, ignore_case=True)


def token_requests(demo: Demo) -> int:
    """Token requests the simulated Entra has answered."""
    counts = control(demo, "GET", "/log")["counts"]
    return sum(number for endpoint, number in counts.items() if "token" in endpoint)


def main() -> int:
    steps = Steps()
    started = time.monotonic()
    try:
        with steps.step("start the gateway and the simulated Microsoft 365"):
            stack = running_demo(free_port())
            demo = stack.__enter__()
        try:
            with administrator.chromium() as browser:
                page = administrator.new_context(browser).new_page()
                walk(demo, page, steps)
        finally:
            stack.__exit__(None, None, None)
    except (StartFailed, BrowserError, AssertionError, OSError) as error:
        print(f"demo-once: {error}", file=sys.stderr)
        return 1
    print(f"all steps passed in {time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
