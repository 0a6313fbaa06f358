"""`python -m notifyd.report` as a program: its options, and the socket by which the device starts it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.stack import OPERATOR, Stack

PROGRAM = [sys.executable, "-m", "notifyd.report"]


def run(stack: Stack, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *options], env=stack.env, capture_output=True, text=True, timeout=60, check=False)


def test_it_prints_previews_samples_and_sends(valid: Stack) -> None:
    """Each option does what it says; what it sends is found under the id that it prints."""
    figures = json.loads(run(valid, "--json").stdout)
    mail = next(section for section in figures["sections"] if section["key"] == "mail")
    assert {"label": "Token", "value": "Valid", "change": "", "tone": "good"} in mail["facts"]
    assert run(valid, "--preview").stdout.startswith("<!DOCTYPE html>")
    samples = valid.data / "report" / "samples.json"
    before = len(json.loads(samples.read_text())) if samples.exists() else 0
    assert run(valid, "--sample").returncode == 0
    assert len(json.loads(samples.read_text())) == before + 1
    sent = run(valid, "--send", "--to", OPERATOR)
    assert sent.returncode == 0, sent.stderr
    assert valid.wait_mail(sent.stdout.strip(), "sent")["kind"] == "report"


def test_without_recipients_or_without_notifyd_it_says_so(valid: Stack, tmp_path: Path) -> None:
    """A clear sentence and a status that is not zero; a preview is possible even then and names the fault."""
    refused = run(valid, "--send")
    assert (refused.returncode, refused.stderr) == (1, "notifyd.report: no recipients are set\n")
    lonely = subprocess.run(
        [*PROGRAM, "--preview"],
        env=valid.env | {"NOTIFYD_RUN": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "notifyd did not answer: cannot reach notifyd" in lonely.stdout


@pytest.mark.parametrize("request_line", ["", "{", "[]", "null", "{}", '{"do": "dance"}', '{"do": 1}'])
def test_a_request_that_makes_no_sense_is_answered_with_an_error(valid: Stack, request_line: str) -> None:
    """One line of JSON with the reason, whatever came in."""
    done = subprocess.run(
        [*PROGRAM, "--serve"],
        env=valid.env,
        input=request_line + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "dance" in request_line:
        assert json.loads(done.stdout) == {"error": "it cannot do that"}
    assert list(json.loads(done.stdout.splitlines()[-1])) == ["error"]
    assert "Traceback" not in done.stderr


class SocketActivation:
    """What systemd does with Accept=yes: one program a connection, the connection as its stdin and stdout."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(stack.run / "report.sock"))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.served: list[int] = []
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                done = subprocess.run(
                    [*PROGRAM, "--serve"],
                    env=self._stack.env,
                    stdin=connection,
                    stdout=connection,
                    timeout=60,
                    check=False,
                )
                self.served.append(done.returncode)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=10)
        (self._stack.run / "report.sock").unlink()


@pytest.fixture
def activation(valid: Stack) -> Iterator[SocketActivation]:
    activation = SocketActivation(valid)
    yield activation
    activation.close()


def test_on_the_device_it_is_started_by_its_socket(valid: Stack, activation: SocketActivation) -> None:
    """With report.sock there, notifyd starts no child: the report is made at the other end of the socket."""
    reply = valid.call("POST", "/api/v1/report/send", {"to": OPERATOR})
    assert reply.status == 202, reply
    assert valid.wait_mail(reply.document["id"], "sent")["state"] == "sent"
    made: Any = valid.call("GET", "/api/v1/report/preview", headers={"Accept": "application/json"}).document
    assert "Mail and token" in made["html"]
    valid.wait(lambda: len(activation.served), lambda count: count == 2, "both programs to end")
    assert activation.served == [0, 0]
