"""notifyctl as scripts use it: exit status, standard output, standard error, and no secret in its arguments."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from tests.support.stack import OPERATOR, REDIRECT_URI, SENDER, Stack, python_environment


def notifyctl(stack: Stack, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "notifyd.ctl", *arguments]
    return subprocess.run(command, env=stack.env, input=text, capture_output=True, text=True, timeout=60)


def test_the_administrators_path_on_the_command_line(stack: Stack, tmp_path: Path) -> None:
    """status, apply, authorize, send, queue, events, diagnose, bundle: in order, each with its exit status."""
    done = notifyctl(stack, "status")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Unconfigured" in done.stdout

    settings = stack.settings(client_secret=None)
    secret = tmp_path / "secret"
    secret.write_text(stack.microsoft.client_secret + "\n")
    flags = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    done = notifyctl(stack, "apply", *flags, "--secret-file", str(secret))
    assert (done.returncode, done.stdout) == (0, "Applied.\n"), done.stderr

    begun = json.loads(notifyctl(stack, "--json", "authorize", "--redirect-uri", REDIRECT_URI).stdout)
    answer = stack.callback(stack.browser().sign_in(begun["authorize_url"]).params)[1]
    assert answer["ok"] is True
    status = json.loads(notifyctl(stack, "status", "--json").stdout)
    assert (status["state"], status["account"]) == ("Valid", SENDER)

    done = notifyctl(stack, "send", "--to", OPERATOR, "--subject", "hello", "--wait", text="from a script\n")
    assert done.returncode == 0, done.stderr
    assert "server said 250" in done.stdout
    done = notifyctl(stack, "send", "--to", OPERATOR, "--test", "--json")
    mail_id = json.loads(done.stdout)["id"]
    stack.wait_mail(mail_id, "sent")
    assert json.loads(notifyctl(stack, "queue", "show", mail_id, "--json").stdout)["state"] == "sent"
    assert "2 sent" in notifyctl(stack, "queue").stdout

    done = notifyctl(stack, "refresh", "--force")
    assert (done.returncode, "Valid" in done.stdout) == (0, True)
    lines = [json.loads(line) for line in notifyctl(stack, "events", "--json").stdout.splitlines()]
    assert [line["id"] for line in lines] == sorted(line["id"] for line in lines)
    assert "token.retrieved" in [line["event"] for line in lines]
    done = notifyctl(stack, "diagnose")
    assert done.returncode == 0, done.stdout
    assert "XOAUTH2" in done.stdout
    done = notifyctl(stack, "bundle", "-o", str(tmp_path / "bundle.tar.gz"))
    assert done.returncode == 0
    with tarfile.open(tmp_path / "bundle.tar.gz") as archive:
        assert len(archive.getnames()) >= 6


def test_one_setting_is_changed_and_the_others_stay(stack: Stack) -> None:
    """`apply --port` is no form to fill in: what is not given stays, the secret too."""
    stack.apply()
    assert notifyctl(stack, "apply", "--port", "2525").returncode == 0
    view = stack.get("/api/v1/settings")
    assert (view["port"], view["sender"], view["client_secret"]) == (2525, SENDER, {"set": True})
    done = notifyctl(stack, "apply", "--file", "-", text=json.dumps({"port": 2526}))
    assert done.returncode == 0, done.stderr
    assert stack.get("/api/v1/settings")["port"] == 2526


def test_refusals_go_to_standard_error_with_their_status(stack: Stack) -> None:
    """1 for a problem, 2 for wrong usage, 66 for a file that is missing, 69 when notifyd is away."""
    done = notifyctl(stack, "authorize")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Apply" in done.stderr
    done = notifyctl(stack, "apply", "--server", "not a host", "--sender", "x")
    assert done.returncode == 1
    assert "/server" in done.stderr
    assert notifyctl(stack, "no-such-command").returncode == 2
    assert notifyctl(stack, "queue", "show").returncode == 2
    assert notifyctl(stack, "apply", "--secret-file", "/no/such/file").returncode == 66
    assert notifyctl(stack, "queue", "show", "nothing").returncode == 1
    done = notifyctl(stack, "--socket", "/no/such.sock", "status")
    assert (done.returncode, done.stdout) == (69, "")
    assert "cannot reach notifyd" in done.stderr


def test_a_problem_makes_status_fail_for_scripts(ready: Stack) -> None:
    """`notifyctl status` in a monitoring script: exit status 1 and the remedy on standard output."""
    ready.microsoft.order("token", "aadsts", None, code=7000222)
    assert notifyctl(ready, "refresh", "--force").returncode == 1
    done = notifyctl(ready, "status")
    assert done.returncode == 1
    assert "AADSTS7000222" in done.stdout
    assert "remedy" in done.stdout


def test_the_log_can_be_followed(stack: Stack) -> None:
    """`events -f` prints what happens from now on, line by line, until it is stopped."""
    command = [sys.executable, "-m", "notifyd.ctl", "events", "-f", "--json", "--category", "settings"]
    with subprocess.Popen(command, env=stack.env, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        stack.wait(lambda: len(stack.events()), lambda count: count >= 1, "the log")
        deadline = time.monotonic() + 20
        stack.apply()
        line = following.stdout.readline()
        assert time.monotonic() < deadline
        following.terminate()
    assert json.loads(line)["event"] == "settings.applied"


@pytest.mark.parametrize("command", ["status", "apply", "authorize", "refresh", "send", "queue", "events", "report",
                                     "diagnose", "bundle"])  # fmt: skip
def test_every_command_explains_itself(command: str) -> None:
    """`--help` works without a running notifyd, and no option takes a secret's value."""
    done = subprocess.run(
        [sys.executable, "-m", "notifyd.ctl", command, "--help"],
        env=python_environment(), capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0
    assert "--json" in done.stdout
    for word in ("--client-secret", "--password "):
        assert word not in done.stdout
