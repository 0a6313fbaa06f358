"""One simulator for the whole folder, as new before each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msal
import pytest

from qemu.m365 import ThreadedSimulator, start_in_thread
from tests.m365.browser import Browser

REDIRECT_URI = "https://127.0.0.1:8443/cgi-bin/msoauth2.cgi"
SCOPES = ["https://outlook.office.com/SMTP.Send"]


@pytest.fixture(autouse=True)
def _no_foreign_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """These variables of the environment would override `verify=` inside requests."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)


@pytest.fixture(scope="session")
def running_sim() -> Iterator[ThreadedSimulator]:
    """The simulator of this folder."""
    with start_in_thread(redirect_uris=(REDIRECT_URI,)) as simulator:
        yield simulator


@pytest.fixture
def sim(running_sim: ThreadedSimulator) -> ThreadedSimulator:
    """The simulator as after a fresh start."""
    running_sim.reset()
    return running_sim


@pytest.fixture
def browser(sim: ThreadedSimulator) -> Browser:
    """A browser without a session."""
    return Browser(sim.endpoints.ca_file, REDIRECT_URI)


@pytest.fixture
def new_app(sim: ThreadedSimulator) -> Callable[..., Any]:
    """Makes real MSAL applications for the demo tenant."""

    def make(secret: Any = None, tenant: str = "", **options: Any) -> msal.ConfidentialClientApplication:
        ends = sim.endpoints
        return msal.ConfidentialClientApplication(
            ends.client_id,
            client_credential=ends.client_secret if secret is None else secret,
            authority=f"{ends.idp}/{tenant or ends.tenant_id}",
            instance_discovery=False,
            verify=ends.ca_file,
            timeout=options.pop("timeout", 10),
            **options,
        )

    return make


@pytest.fixture
def signed_in(new_app: Callable[..., Any], browser: Browser) -> tuple[Any, dict[str, Any]]:
    """A MSAL application with a grant, and the token answer."""
    app = new_app()
    flow = app.initiate_auth_code_flow(
        SCOPES, redirect_uri=REDIRECT_URI, response_mode="form_post", login_hint="gateway@contoso.example"
    )
    visit = browser.sign_in(flow["auth_uri"])
    answer = app.acquire_token_by_auth_code_flow(flow, visit.params)
    assert "access_token" in answer, answer
    return app, answer
