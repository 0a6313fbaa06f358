"""A person at a browser on the LAN: sees the unit and Microsoft by their own addresses."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from qemu.lab.microsoft import Microsoft
from qemu.lab.strategy import ADMIN, ADMIN_PASSWORD, Unit
from tests.m365.browser import Browser

REQUEST_DEADLINE_S = 120.0


class Routed(HTTPAdapter):
    """Carries what is meant for one address to a port of the loopback; name checks are made against the real one."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, assert_hostname=self._host, server_hostname=self._host)

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        routed = request.copy()
        url = urlsplit(str(request.url))
        routed.url = url._replace(netloc=f"127.0.0.1:{self._port}").geturl()
        routed.headers["Host"] = url.netloc
        options["timeout"] = options.get("timeout") or REQUEST_DEADLINE_S
        response = super().send(routed, *arguments, **options)
        response.request, response.url = request, str(request.url)
        return response


class Administrator:
    """Does what the guide says, in its order."""

    def __init__(self, unit: Unit, microsoft: Microsoft, folder: Path) -> None:
        self.unit, self.microsoft = unit, microsoft
        self.origin = f"https://{unit.lan_address}"
        self.redirect_uri = f"{self.origin}/cgi-bin/msoauth2.cgi"
        self.http = requests.Session()
        self.http.trust_env = False
        self.http.mount(self.origin, Routed(unit.lan_address, unit.lan_port))
        self.http.verify = str(self._import_certificate(folder / "device.pem"))
        self.browser = Browser(str(microsoft.ca_file), self.redirect_uri)
        idp = microsoft.ends["idp"].split("/", 3)[2]
        self.browser.http.mount(f"https://{idp}", Routed(idp.split(":")[0], microsoft.idp_port))

    def _import_certificate(self, target: Path) -> Path:
        """The device's certificate as the administrator would import it: without its key."""
        target.write_text(device_certificate(self.unit))
        return target

    def call(self, method: str, path: str, body: Any = None) -> requests.Response:
        headers = {"Origin": self.origin, "Sec-Fetch-Site": "same-origin"}
        return self.http.request(method, f"{self.origin}{path}", json=body, headers=headers, timeout=REQUEST_DEADLINE_S)

    def log_in(self) -> None:
        answer = self.call("POST", "/api/v1/session", {"user": ADMIN, "password": ADMIN_PASSWORD})
        assert answer.status_code in (200, 201), answer.text

    def settings(self) -> dict[str, Any]:
        server, port = self.microsoft.ends["smtp"]
        return {
            "server": server,
            "port": port,
            "security": "starttls",
            "auth": "oauth2",
            "cloud": "simulated",
            "sender": "gateway@contoso.example",
            "client_id": self.microsoft.ends["client_id"],
            "tenant_id": self.microsoft.ends["tenant_id"],
            "client_secret": self.microsoft.ends["client_secret"],
        }

    def apply(self) -> None:
        answer = self.call("PUT", "/api/v1/settings", self.settings())
        assert answer.status_code == 200, answer.text

    def get_new_token(self) -> requests.Response:
        """From the button to the page that the tab shows."""
        answer = self.call("POST", "/api/v1/token/authorize", {"redirect_uri": self.redirect_uri})
        assert answer.status_code == 200, answer.text
        visit = self.browser.sign_in(answer.json()["authorize_url"])
        assert "code" in visit.params, visit
        # Microsoft's page posts the form across sites: no cookie of the gateway comes with it.
        return requests_session_without_cookies(self.http).post(
            self.redirect_uri, data=visit.params, headers={"Sec-Fetch-Site": "cross-site"}, timeout=REQUEST_DEADLINE_S
        )

    def status(self) -> dict[str, Any]:
        answer = self.call("GET", "/api/v1/status")
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def become_valid(self) -> None:
        """Everything up to a Valid token."""
        self.log_in()
        self.apply()
        page = self.get_new_token()
        assert page.status_code == 200, page.text
        assert self.status()["state"] == "Valid"


def device_certificate(unit: Unit) -> str:
    """The certificate that the page shows now, as PEM."""
    return unit.agent.check("sed", "-n", "/BEGIN CERTIFICATE/,/END CERTIFICATE/p", "/data/page/tls/device.pem")


def requests_session_without_cookies(session: requests.Session) -> requests.Session:
    """Another tab that the browser does not send the page's cookies from."""
    other = requests.Session()
    other.trust_env, other.verify, other.adapters = False, session.verify, session.adapters
    return other
