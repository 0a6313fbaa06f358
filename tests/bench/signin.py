"""From Microsoft's redirect to `Valid`: what the gateway adds to the identity provider's own answer time."""

from __future__ import annotations

import base64
import hashlib
import statistics
import time
from typing import Any
from urllib.parse import urlencode

import requests

from notifyd.ctl.client import Client
from qemu.workstation.demo import Demo
from tests.m365.browser import Browser

RUNS = 7
SCOPE = "https://outlook.office.com/SMTP.Send offline_access openid profile"


def settings(demo: Demo) -> dict[str, Any]:
    """The demo tenant's settings."""
    m365 = demo.m365
    return {
        "server": m365["smtp"][0],
        "port": m365["smtp"][1],
        "security": "starttls",
        "auth": "oauth2",
        "cloud": "simulated",
        "sender": m365["users"][0]["upn"],
        "client_id": m365["client_id"],
        "tenant_id": m365["tenant_id"],
        "client_secret": m365["client_secret"],
    }


def measure(demo: Demo) -> dict[str, float]:
    """`redirect_to_valid_overhead_ms`: CGI through lighttpd until its page, less a token request's own time."""
    client = Client(demo.gateway.run / "admin.sock")
    reply = client.call("PUT", "/api/v1/settings", settings(demo))
    assert reply.status == 200, reply
    redirect_uri = f"{demo.gateway.address}/cgi-bin/msoauth2.cgi"
    whole, own = [], []
    for _ in range(RUNS):
        visit = Browser(demo.m365["ca_file"], redirect_uri).sign_in(_authorize(client, redirect_uri))
        started = time.perf_counter()
        page = requests.post(redirect_uri, visit.params, verify=False, timeout=60)
        whole.append(time.perf_counter() - started)
        assert page.status_code == 200, page.text
        assert client.call("GET", "/api/v1/status").document["state"] == "Valid"
        own.append(_token_request_s(demo, redirect_uri))
    return {
        "redirect_to_valid_overhead_ms": round((statistics.median(whole) - statistics.median(own)) * 1000, 1),
        "redirect_to_valid_ms": round(statistics.median(whole) * 1000, 1),
        "identity_provider_ms": round(statistics.median(own) * 1000, 1),
    }


def _authorize(client: Client, redirect_uri: str) -> str:
    reply = client.call("POST", "/api/v1/token/authorize", {"redirect_uri": redirect_uri})
    assert reply.status == 200, reply
    url: str = reply.document["authorize_url"]
    return url


def _token_request_s(demo: Demo, redirect_uri: str) -> float:
    """Seconds that the identity provider itself takes to redeem a code, over a new connection."""
    m365 = demo.m365
    verifier = "bench-" + "v" * 60
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    query = {
        "client_id": m365["client_id"],
        "response_type": "code",
        "redirect_uri": redirect_uri,
        "scope": SCOPE,
        "state": "bench",
        "response_mode": "query",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    base = f"{m365['idp']}/{m365['tenant_id']}/oauth2/v2.0"
    visit = Browser(m365["ca_file"], redirect_uri).sign_in(f"{base}/authorize?{urlencode(query)}")
    form = {
        "client_id": m365["client_id"],
        "client_secret": m365["client_secret"],
        "grant_type": "authorization_code",
        "code": visit.params["code"],
        "redirect_uri": redirect_uri,
        "code_verifier": verifier,
        "scope": SCOPE,
    }
    with requests.Session() as session:
        session.trust_env = False
        session.verify = m365["ca_file"]
        started = time.perf_counter()
        answer = session.post(f"{base}/token", form, timeout=30)
        elapsed = time.perf_counter() - started
    assert answer.status_code == 200, answer.text
    return elapsed
