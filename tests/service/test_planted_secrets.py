"""Secrets with recognisable bytes go in by every door; then every place where they must not be is searched for them.

The tokens themselves are taken from the vault with the device's key, so that the search knows what to look for. Each is
looked for as it is and in every form that software likes to give it: base64 at any offset, base64url, hex, percent.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from notifyd.adapters.devicekey import read_device_key
from notifyd.adapters.entra import identity
from notifyd.adapters.entra_worker import grants
from notifyd.adapters.sealing import Context, unseal
from notifyd.adapters.vault import HEADER, _decode
from notifyd.core.settings import Auth, Security, Settings
from tests.support.stack import OPERATOR, SENDER, Stack

PASSWORD = "Pl4nted~mail-password_8d1f0c"
WRONG_SECRET = "Pl4nted~wrong-client-secret_77aa31bc"
BODY = "Pl4nted-mail-body-5521-of-nobody's-business"
SHORTEST = 12  # a search word; shorter ones would be found by chance


def forms(secret: str) -> dict[str, bytes]:
    """Every form of one secret that is worth searching for."""
    raw = secret.encode()
    found = {
        "raw": raw,
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
        "utf-16": secret.encode("utf-16-le"),
    }
    for offset in range(3):
        encoded = base64.b64encode(b"x" * offset + raw)
        inner = encoded[4 if offset else 0 : -4]  # what no neighbour can change
        found[f"base64+{offset}"] = inner
        found[f"base64url+{offset}"] = inner.replace(b"+", b"-").replace(b"/", b"_")
    found["percent"] = urllib.parse.quote(secret, safe="").encode()
    found["json"] = json.dumps(secret)[1:-1].encode()
    return {name: form for name, form in found.items() if len(form) >= SHORTEST}


class Processes(threading.Thread):
    """Collects command lines and environments of notifyd and its children while the test runs."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self.ended = threading.Event()
        self.seen: set[bytes] = set()

    def run(self) -> None:
        while not self.ended.wait(0.005):
            for pid in (self._pid, *self._children()):
                for name in ("cmdline", "environ", "comm"):
                    try:
                        self.seen.add(Path(f"/proc/{pid}/{name}").read_bytes())
                    except OSError:
                        continue

    def _children(self) -> Iterator[int]:
        try:
            tasks = list(Path(f"/proc/{self._pid}/task").iterdir())
        except OSError:
            return
        for task in tasks:
            try:
                yield from map(int, (task / "children").read_text().split())
            except OSError:
                continue


def held_tokens(stack: Stack) -> list[str]:
    """The access and refresh tokens in the vault, opened with the device's key."""
    settings = stack.get("/api/v1/settings")
    applied = Settings(
        settings["server"], settings["port"], Security.STARTTLS, Auth.OAUTH2, settings["cloud"], SENDER,
        settings["client_id"], settings["tenant_id"],
    )  # fmt: skip
    raw = (stack.data / "grant.slots").read_bytes()
    tokens = []
    for start in (0, len(raw) // 2):
        slot = _decode(raw[start : start + len(raw) // 2])
        if slot is not None:
            context = Context("grant", identity(applied), int(slot.meta["sealed_for"]))
            grant = grants.decode(unseal(read_device_key(stack.data / "device.key"), context, slot.sealed))
            tokens += [grant.access_token, *grant.candidates()]
    assert HEADER.size < len(raw)
    return [token for token in tokens if token]


def answers(stack: Stack) -> bytes:
    """Everything that the API lets itself be asked."""
    paths = (
        "status", "settings", "redirect-uris", "mail", "events?after=0&limit=1000", "report/settings", "support-bundle",
    )  # fmt: skip
    parts = [json.dumps(stack.call("POST", "/api/v1/diagnose").document).encode()]
    for path in paths:
        document = stack.call("GET", f"/api/v1/{path}").document
        parts.append(document if isinstance(document, bytes) else json.dumps(document).encode())
    parts.append(stack.call("GET", "/metrics").document)
    return b"\n".join(parts)


@pytest.fixture
def searched(stack: Stack) -> dict[str, bytes]:
    """A life with every kind of secret in it, and afterwards all the places to search, by name."""
    watcher = Processes(stack.process.pid)
    watcher.start()
    planted = {"password": PASSWORD, "wrong secret": WRONG_SECRET, "secret": stack.microsoft.client_secret}
    stack.apply(client_secret=WRONG_SECRET)
    visit = stack.visit()
    planted |= {"first code": visit.params["code"], "first state": visit.params["state"]}
    pages = [json.dumps(stack.callback(visit.params))]
    stack.apply()
    visit = stack.visit()
    planted |= {"code": visit.params["code"], "state": visit.params["state"]}
    stack.microsoft.order(
        "token", "aadsts", 1, code=70043, text=f"AADSTS70043: {visit.params['code']} has been refused."
    )
    pages.append(json.dumps(stack.callback(visit.params)))
    visit = stack.visit()
    pages.append(json.dumps(stack.callback(visit.params)))
    planted |= {f"token {number}": token for number, token in enumerate(held_tokens(stack))}
    stack.call("POST", "/api/v1/token/refresh", {"force": True})
    planted |= {f"renewed {number}": token for number, token in enumerate(held_tokens(stack))}
    mail = {"to": OPERATOR, "subject": "planted", "text": BODY}
    stack.wait_mail(stack.call("POST", "/api/v1/mail", mail).document["id"], "sent")
    pages.append(json.dumps(stack.call("PUT", "/api/v1/settings", stack.settings(client_secret=WRONG_SECRET)).document))
    told = answers(stack)
    refused = stack.call("PUT", "/api/v1/settings", stack.settings(auth="password", password=PASSWORD, port=0))
    pages.append(json.dumps(refused.document))
    stack.apply(auth="password", password=PASSWORD, client_secret=None, client_id=None, tenant_id=None)
    told += answers(stack)
    watcher.ended.set()
    watcher.join()
    stack.stop()
    places = {"API answers": told, "callback answers": "\n".join(pages).encode(), "logs": stack.logs().encode()}
    places |= {"processes": b"\n".join(watcher.seen)}
    for path in [*stack.data.rglob("*"), *stack.run.rglob("*")]:
        if path.is_file() and path.name != "device.key":
            places[path.name] = path.read_bytes()
    stack.planted = {**planted, "body": BODY}  # type: ignore[attr-defined]  # for the test below only
    return places


def test_no_secret_is_anywhere_in_clear(searched: dict[str, bytes], stack: Stack) -> None:
    """Client secrets, password, codes, states, tokens, mail bodies: in no log, event, answer, process list or file."""
    planted: dict[str, str] = stack.planted  # type: ignore[attr-defined]  # see the fixture
    assert sum(name.startswith("token") for name in planted) >= 2
    assert len(searched["processes"]) > 1000
    assert {"notifyd.db", "events.db", "grant.slots"} <= set(searched)
    found = [
        f"{name} as {form} in {place}"
        for place, content in searched.items()
        for name, secret in planted.items()
        for form, pattern in forms(secret).items()
        if pattern in content
    ]
    assert found == []
    for place, content in searched.items():
        assert not re.search(rb"eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}\.", content), f"a JWT in {place}"


def test_the_search_would_find_them(tmp_path: Path) -> None:
    """The forms are what encoders really make of a secret, in the midst of other text."""
    patterns = forms(PASSWORD)
    for prefix in ("", "a", "ab", "abc"):
        text = f"{prefix}{PASSWORD} and more".encode()
        encoded = [base64.b64encode(text), base64.urlsafe_b64encode(text), text.hex().encode(), text]
        for content in encoded:
            assert any(pattern in content for pattern in patterns.values()), (prefix, content)
    assert forms(PASSWORD)["percent"] in urllib.parse.urlencode({"p": PASSWORD}).encode()


def test_the_process_dumps_no_core_and_nobody_reads_its_memory(stack: Stack) -> None:
    """RLIMIT_CORE 0 and not dumpable: the kernel gives /proc/PID of such a process to root alone."""
    limits = Path(f"/proc/{stack.process.pid}/limits").read_text()
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
    assert Path(f"/proc/{stack.process.pid}/mem").stat().st_uid == 0
    status = Path(f"/proc/{stack.process.pid}/status").read_text()
    assert "CoreDumping:\t0" in status
    for name, mode in (("device.key", 0o600), ("notifyd.db", 0o600), ("grant.slots", 0o600), ("events.db", 0o600)):
        assert (stack.data / name).stat().st_mode & 0o777 == mode, name
    for name in ("admin.sock", "callback.sock"):
        assert (stack.run / name).stat().st_mode & 0o777 == 0o660
