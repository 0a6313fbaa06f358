"""A browser made of `requests`: fills the simulator's forms and stops at the application's redirect URI."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import requests

_FIELD = re.compile(r'<input[^>]*type="hidden"[^>]*name="([^"]*)"[^>]*value="([^"]*)"')
_ACTION = re.compile(r'<form[^>]*action="([^"]*)"')
_CODE = re.compile(r'data-code="(\d+)"')


@dataclass
class Visit:
    """Where a sign-in ended: `params` reached the redirect URI, or `page` and `code` stayed at Microsoft."""

    params: dict[str, str] = field(default_factory=dict)
    page: str = ""
    code: int = 0
    headers: dict[str, str] = field(default_factory=dict)


class Browser:
    """One person at a browser; cookies stay between visits."""

    def __init__(self, ca_file: str, redirect_uri: str) -> None:
        self.http = requests.Session()
        self.http.trust_env = False
        self.http.verify = ca_file
        self.redirect_uri = redirect_uri
        self.steps: list[str] = []

    def sign_in(
        self,
        url: str,
        account: str = "gateway@contoso.example",
        password: str = "Simulated-Pa55",
        consent: str = "accept",
        mfa: str = "approve",
    ) -> Visit:
        """Go through all pages until the redirect URI or an error page."""
        answers: dict[str, dict[str, str]] = {
            "account": {"account": account},
            "password": {"passwd": password, "action": "signin"},
            "mfa": {"action": mfa},
            "consent": {"action": consent},
        }
        response = self.http.get(url, allow_redirects=False, timeout=10)
        for _ in range(8):
            ended = self._ended(response)
            if ended is not None:
                return ended
            hidden = {k: html.unescape(v) for k, v in _FIELD.findall(response.text)}
            step = hidden["step"]
            if self.steps[-1:] == [step]:
                return Visit(page=response.text)
            self.steps.append(step)
            action = _ACTION.search(response.text)
            assert action is not None
            form: dict[str, Any] = {**hidden, **answers[step]}
            response = self.http.post(urljoin(url, action[1]), form, allow_redirects=False, timeout=10)
        raise AssertionError("the sign-in does not end")

    def _ended(self, response: requests.Response) -> Visit | None:
        headers = dict(response.headers)
        if response.status_code == 302:
            location = urlsplit(response.headers["location"])
            assert response.headers["location"].startswith(self.redirect_uri)
            return Visit(dict(parse_qsl(location.query or location.fragment)), headers=headers)
        action = _ACTION.search(response.text)
        if action is not None and html.unescape(action[1]) == self.redirect_uri:
            fields = re.findall(r'name="([^"]*)" value="([^"]*)"', response.text)
            return Visit({k: html.unescape(v) for k, v in fields}, headers=headers)
        code = _CODE.search(response.text)
        if response.status_code >= 400:
            return Visit(page=response.text, code=int(code[1]) if code else 0, headers=headers)
        return None
