"""The CGI script as a module, and its answers taken apart."""

from __future__ import annotations

import importlib.machinery
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

SCRIPT = Path(__file__).resolve().parents[2] / "firmware" / "cgi-bin" / "msoauth2.cgi"

GOOD_ANSWER = {"ok": True, "title": "Signed in", "detail": "Stored.", "remedy": "", "code": ""}


class _SourceOnly(importlib.machinery.SourceFileLoader):
    """Never leaves bytecode next to the script."""

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        return


def load() -> ModuleType:
    loader = _SourceOnly("msoauth2", str(SCRIPT))
    spec = importlib.util.spec_from_loader("msoauth2", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Answer:
    """One CGI response: `headers` with lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: str


def parse(response: bytes) -> Answer:
    """Takes a response apart and checks its form: one header block, right length, UTF-8."""
    head, separator, body = response.partition(b"\r\n\r\n")
    assert separator, response
    pairs = [line.split(": ", 1) for line in head.decode("ascii").split("\r\n")]
    headers = {name.lower(): value for name, value in pairs}
    assert len(headers) == len(pairs), "a header is given twice"
    assert int(headers["content-length"]) == len(body)
    return Answer(int(headers["status"].split(" ")[0]), headers, body.decode("utf-8"))


Ask = Callable[[str, dict[str, Any]], tuple[int, dict[str, Any]]]


def request(cgi: ModuleType, environ: Mapping[str, str], body: bytes = b"", ask: Ask | None = None) -> Answer:
    """The answer to one request, in this process; `ask` stands for notifyd."""
    rest = bytearray(body)

    def read(size: int) -> bytes:
        piece = bytes(rest[:size])
        del rest[:size]
        return piece

    return parse(cgi.respond(dict(environ), read, ask or (lambda _run, _message: (200, dict(GOOD_ANSWER)))))


def query(text: str, **more: str) -> dict[str, str]:
    return {"REQUEST_METHOD": "GET", "QUERY_STRING": text, **more}


def form(body: bytes, **more: str) -> dict[str, str]:
    """The environment of a form_post; give the same body to `request`."""
    return {
        "REQUEST_METHOD": "POST",
        "QUERY_STRING": "",
        "CONTENT_TYPE": "application/x-www-form-urlencoded",
        "CONTENT_LENGTH": str(len(body)),
        **more,
    }
