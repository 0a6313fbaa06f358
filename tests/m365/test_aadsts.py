"""Every AADSTS number can be ordered, with its HTTP status and its `error`, where Microsoft shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests

from qemu.m365 import ThreadedSimulator
from qemu.m365.aadsts import FAULTS
from tests.m365.browser import Browser
from tests.m365.conftest import REDIRECT_URI, SCOPES
from tests.m365.test_grants import refresh


def test_table_has_all_numbers_an_administrator_can_meet() -> None:
    """143 numbers are documented; each has a text and a place where it shows."""
    assert len(FAULTS) == 143
    assert all(fault.text and fault.where and set(fault.where) <= set("prt") for fault in FAULTS.values())


def test_every_number_of_the_token_endpoint(sim: ThreadedSimulator) -> None:
    """All numbers are answered at the token endpoint with the table's status, error and suberror."""
    with requests.Session() as http:
        for fault in FAULTS.values():
            sim.order("token", "aadsts", code=fault.number)
            answer = refresh(sim, "0.Aany", http)
            body = answer.json()
            seen = (answer.status_code, body["error"], body.get("suberror", ""), body["error_codes"])
            assert seen == (fault.status, fault.error, fault.suberror, [fault.number])
            assert body["error_description"].startswith(f"AADSTS{fault.number}: ")
    assert not sim.world.orders.open()


def test_every_number_of_the_sign_in(new_app: Callable[..., Any], browser: Browser, sim: ThreadedSimulator) -> None:
    """Page faults stay on the page, redirect faults come back with error and state."""
    flow = new_app().initiate_auth_code_flow(SCOPES, redirect_uri=REDIRECT_URI, response_mode="form_post")
    for fault in FAULTS.values():
        if fault.where == "t":
            continue
        sim.order("authorize", "aadsts", code=fault.number)
        visit = browser.sign_in(flow["auth_uri"])
        if "r" in fault.where:
            assert visit.params["error"] == fault.error
            assert visit.params["error_description"].startswith(f"AADSTS{fault.number}: ")
            assert visit.params["state"] == flow["state"]
        else:
            assert (visit.code, visit.params) == (fault.number, {})


def test_fault_after_consent_and_on_the_other_side(
    new_app: Callable[..., Any], browser: Browser, sim: ThreadedSimulator
) -> None:
    """An order can wait for the end of the sign-in, and force page or redirect."""
    sim.order("authorize", "aadsts", code=53003, at="end", on="redirect")
    flow = new_app().initiate_auth_code_flow(SCOPES, redirect_uri=REDIRECT_URI, response_mode="form_post")
    visit = browser.sign_in(flow["auth_uri"])
    assert browser.steps == ["account", "password", "consent"]
    assert visit.params["error_description"].startswith("AADSTS53003")


def test_order_may_differ_from_the_table(sim: ThreadedSimulator) -> None:
    """Status, error, suberror, text, claims and Retry-After can be set, for unknown numbers too."""
    changes = {"status": 503, "error": "odd_error", "suberror": "odd", "text": "Odd.", "claims": "{}"}
    sim.order("token", "aadsts", code=123456789, retry_after=17, **changes)
    answer = refresh(sim, "0.Aany")
    body = answer.json()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "17")
    assert (body["error"], body["suberror"], body["claims"]) == ("odd_error", "odd", "{}")
    assert body["error_description"].startswith("AADSTS123456789: Odd.")


def test_challenged_faults_carry_claims(sim: ThreadedSimulator) -> None:
    """Conditional Access answers bring the claims to pass on; others do not."""
    for number, expected in ((50076, True), (53003, True), (50173, False)):
        sim.order("token", "aadsts", code=number)
        assert ("claims" in refresh(sim, "0.Aany").json()) is expected


@pytest.mark.parametrize("code", ["7000222", "1", "x"])
def test_number_can_be_looked_up_by_people(sim: ThreadedSimulator, browser: Browser, code: str) -> None:
    """/error?code=N shows the words, and never fails."""
    page = browser.http.get(f"{sim.endpoints.idp}/error?code={code}", timeout=10)
    assert page.status_code == 400
    assert ("expired" in page.text) is (code == "7000222")
