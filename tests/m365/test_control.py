"""The control API, the mailbox view and the program."""

from __future__ import annotations

import json
import os
import select
import signal
import smtplib
import ssl
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from qemu.m365 import ThreadedSimulator
from tests.m365.smtp_client import GATEWAY, session, token_for
from tests.m365.test_grants import number, refresh, the_refresh_token

MAIL = (
    "From: Gateway <gateway@contoso.example>\r\nTo: a@example.org\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    "Message-ID: <1@gw>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n"
    "--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nPlain words\r\n"
    "--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<b>Rich</b><script>alert(1)</script>\r\n--b--\r\n"
)


class Api:
    """The control API over HTTP."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.http = requests.Session()

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of a good answer."""
        answer = self.http.request(method, self.base + path, json=body, timeout=10)
        assert answer.ok, answer.text
        return answer.json()


@pytest.fixture
def api(sim: ThreadedSimulator) -> Iterator[Api]:
    """The control API of the simulator."""
    api = Api(sim.endpoints.control)
    yield api
    api.http.close()


def test_orders_are_placed_listed_withdrawn_and_checked(sim: ThreadedSimulator, api: Api) -> None:
    """An order is played and gone; a misspelt one is refused with the list of what there is."""
    placed = api("POST", "/orders", {"target": "token", "what": "aadsts", "code": 50173})
    assert api("GET", "/orders")["orders"][0]["id"] == placed["id"]
    assert number(refresh(sim, "0.Ax")) == 50173
    assert api("GET", "/orders")["orders"] == []
    kept = api("POST", "/orders", {"target": "smtp", "what": "tenant-off", "times": None})
    assert (kept["what"], kept["stage"]) == ("reply", "auth")
    assert api("DELETE", f"/orders/{kept['id']}") == {"cancelled": True}
    for wrong in ({"target": "token", "what": "aadst"}, {"target": "x", "what": "http"}, {"what": "http"}):
        assert requests.post(f"{api.base}/orders", json=wrong, timeout=5).status_code == 400
    assert requests.post(f"{api.base}/orders", data="no json", timeout=5).status_code == 400


def test_log_counts_requests_without_secrets(sim: ThreadedSimulator, api: Api, signed_in: Any) -> None:
    """Token requests are listed with their grant type, status and number; no secret, code or token is kept."""
    refresh(sim, the_refresh_token(sim))
    refresh(sim, the_refresh_token(sim), client_secret="wrong")
    log = api("GET", "/log?endpoint=token")
    assert log["counts"]["token"] == 3
    assert [(e["grant_type"], e["status"], e.get("error_code")) for e in log["entries"]] == [
        ("authorization_code", 200, None),
        ("refresh_token", 200, None),
        ("refresh_token", 401, 7000215),
    ]
    text = json.dumps(api("GET", "/log"))
    assert sim.endpoints.client_secret not in text
    assert the_refresh_token(sim) not in text
    assert api("DELETE", "/log")["counts"] == {}


def test_tenant_can_be_edited(sim: ThreadedSimulator, api: Api, signed_in: Any) -> None:
    """Users, application, secrets, policy, limits, keys and clock are changed over HTTP."""
    token, app = the_refresh_token(sim), f"/apps/{sim.endpoints.client_id}"
    api("PATCH", f"/users/{GATEWAY}", {"enabled": False})
    assert number(refresh(sim, token)) == 50057
    api("PATCH", f"/users/{GATEWAY}", {"enabled": True, "send_as": ["x@contoso.example"]})
    assert sim.world.directory.users[GATEWAY].send_as == {"x@contoso.example"}
    api("PATCH", f"{app}/secrets/first", {"expires_in": -1})
    assert number(refresh(sim, token)) == 7000222
    api("POST", f"{app}/secrets", {"value": "Third~secret"})
    assert number(refresh(sim, token, client_secret="Third~secret")) == 0
    api("PATCH", app, {"enabled": False})
    assert number(refresh(sim, token, client_secret="Third~secret")) == 7000112
    api("PATCH", app, {"enabled": True})
    api("PATCH", "/policy", {"block": 53003})
    assert number(refresh(sim, token, client_secret="Third~secret")) == 53003
    api("PATCH", "/policy", {"block": 0})
    assert api("POST", f"/users/{GATEWAY}/revoke", {})["revoked"] >= 1
    assert number(refresh(sim, token, client_secret="Third~secret")) == 50173
    assert api("PATCH", "/limits", {"messages_per_minute": 5})["messages_per_minute"] == 5
    before = api("GET", "/clock")["now"]
    assert api("POST", "/clock", {"advance": 1000, "speed": 2})["now"] >= before + 1000
    api("PUT", "/users/new@contoso.example", {"name": "New"})
    assert "new@contoso.example" in [u["upn"] for u in api("GET", "/users")["users"]]
    assert api("DELETE", "/users/new@contoso.example") == {"deleted": True}
    assert requests.patch(f"{api.base}/policy", json={"nonsense": 1}, timeout=5).status_code == 400
    assert requests.patch(f"{api.base}/users/nobody", json={}, timeout=5).status_code == 404
    assert api("POST", "/reset") == {"reset": True}
    assert api("GET", "/policy")["block"] == 0


def test_redirect_uris_are_registered_under_entras_rules(api: Api, sim: ThreadedSimulator) -> None:
    """https only, at most 256 characters, no forbidden signs; good ones are added."""
    path = f"/apps/{sim.endpoints.client_id}/redirect-uris"
    added = api("POST", path, {"add": ["https://gw.lan/cgi-bin/msoauth2.cgi"]})["redirect_uris"]
    assert added[-1] == "https://gw.lan/cgi-bin/msoauth2.cgi"
    for bad in ("http://gw.lan/x", "https://gw.lan/" + "x" * 250, "https://gw.lan/(x)", "https://[::1]/x"):
        answer = requests.post(api.base + path, json={"add": [bad]}, timeout=5)
        assert answer.status_code == 400, bad
    assert api("POST", path, {"add": ["http://localhost/x"]})["redirect_uris"][-1] == "http://localhost/x"


def test_key_rotation_is_published(sim: ThreadedSimulator, api: Api) -> None:
    """The new key comes first, the old one stays until it is retired."""
    url = f"{sim.endpoints.idp}/{sim.endpoints.tenant_id}/discovery/v2.0/keys"

    def kids() -> list[str]:
        keys = requests.get(url, verify=sim.endpoints.ca_file, timeout=5).json()["keys"]
        return [key["kid"] for key in keys]

    old = kids()[0]
    new = api("POST", "/keys", {})["kid"]
    assert kids()[:2] == [new, old]
    newest = api("POST", "/keys", {"retire": True})["kid"]
    assert kids() == [newest]


def test_mailbox_view_shows_what_arrived(sim: ThreadedSimulator, api: Api) -> None:
    """JSON and pages show subject, bodies and source; an HTML body is framed without rights."""
    assert "Nothing yet" in requests.get(sim.endpoints.mailbox, timeout=5).text
    with session(sim.endpoints, token_for(sim)) as client:
        client.sendmail(GATEWAY, ["a@example.org"], MAIL)
    listed = api("GET", "/mail")["messages"][0]
    assert (listed["subject"], listed["message_id"], listed["recipients"]) == ("Grüße", "<1@gw>", ["a@example.org"])
    whole = api("GET", f"/mail/{listed['id']}")
    assert whole["text"].strip() == "Plain words"
    assert "<b>Rich</b>" in whole["html"]
    assert "Grüße" in requests.get(sim.endpoints.mailbox, timeout=5).text
    page = requests.get(f"{sim.endpoints.mailbox}/{listed['id']}", timeout=5).text
    assert "sandbox" in page
    assert "<script>alert" not in page
    framed = requests.get(f"{sim.endpoints.mailbox}/{listed['id']}/html", timeout=5)
    assert "sandbox" in framed.headers["content-security-policy"]
    assert api("DELETE", "/mail")["messages"] == []


def test_clouds_file_is_what_the_gateway_reads(sim: ThreadedSimulator) -> None:
    """`clouds.d/m365.toml` names authority, scope, mail server and the private authority."""
    cloud = tomllib.loads(Path(sim.endpoints.clouds_file).read_text())["simulated"]
    assert cloud["authority"] == sim.endpoints.idp
    assert (cloud["smtp_host"], cloud["smtp_port"]) == tuple(sim.endpoints.smtp)
    assert cloud["scope"] == "https://outlook.office.com/SMTP.Send"
    assert Path(cloud["ca_file"]).is_file()


def _start(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "qemu.m365", "--dir", str(directory), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_program_prints_one_line_and_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """The line is JSON with all addresses; a signal ends it with status 0 and nothing on stderr."""
    with _start(tmp_path, "--redirect-uri", "https://gw/cgi-bin/msoauth2.cgi") as process:
        assert process.stdout is not None
        ends = json.loads(process.stdout.readline())
        names = {"idp", "smtp", "control", "mailbox", "ca_file", "tenant_id", "client_id", "client_secret", "users"}
        assert names <= set(ends)
        apps = requests.get(f"{ends['control']}/apps", timeout=5).json()["apps"]
        assert apps[0]["redirect_uris"] == ["https://gw/cgi-bin/msoauth2.cgi"]
        process.send_signal(number)
        rest, errors = process.communicate(timeout=10)
    assert (process.returncode, rest, errors) == (0, "", "")


def test_program_dies_with_its_parent(tmp_path: Path) -> None:
    """With --die-with-parent nothing is left when the parent is killed."""
    inner = f"[{sys.executable!r}, '-m', 'qemu.m365', '--dir', {str(tmp_path)!r}, '--die-with-parent']"
    script = f"import subprocess, sys; p = subprocess.Popen({inner}); print(p.pid, flush=True); p.wait()"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        json.loads(parent.stdout.readline())
        watch = os.pidfd_open(child)
        parent.kill()
        parent.wait(5)
    try:
        assert select.select([watch], [], [], 10)[0], "the simulator outlived its parent"
    finally:
        os.close(watch)


def test_program_stays_quiet_whatever_it_plays(tmp_path: Path) -> None:
    """Broken connections, bad certificates and impatient clients leave nothing on stderr."""
    with _start(tmp_path) as process:
        assert process.stdout is not None
        ends = json.loads(process.stdout.readline())
        url = f"{ends['idp']}/{ends['tenant_id']}/oauth2/v2.0/token"
        played = [("token", "reset"), ("token", "refuse"), ("token", "hang"), ("tls", "untrusted"), ("token", "drip")]
        for target, what in played:
            requests.post(f"{ends['control']}/orders", json={"target": target, "what": what}, timeout=5)
            with pytest.raises(requests.RequestException):
                requests.post(url, {"grant_type": "x"}, verify=ends["ca_file"], timeout=0.3)
        for stage in ("connect", "ehlo", "starttls"):
            order = {"target": "smtp", "what": "reset", "stage": stage}
            requests.post(f"{ends['control']}/orders", json=order, timeout=5)
            with pytest.raises(OSError):  # noqa: PT011 - reset, refused or timed out: all are well
                smtplib.SMTP(*ends["smtp"], timeout=5).starttls(context=ssl.create_default_context())
        process.terminate()
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")
