"""notifyctl: what the page can do, for scripts and for administrators on the console.

Secrets are never taken from the command line (every user can read it in /proc): from a file, standard input or a
prompt. Standard output carries the result only, as JSON with `--json`; everything else goes to standard error.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
import time
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from notifyd.ctl import show
from notifyd.ctl.client import Client, Reply, Unreachable

OUTCOME_DEADLINE_S = 120.0
POLL_S = 0.5
MAX_SECRET = 1024
SETTINGS = (
    "server",
    "port",
    "security",
    "auth",
    "cloud",
    "sender",
    "client_id",
    "tenant_id",
    "username",
    "secret_expires_on",
)


class Exit(IntEnum):
    """Exit statuses; those from 64 up are those of sysexits.h."""

    OK = 0
    PROBLEM = 1
    USAGE = 2
    NO_INPUT = 66
    UNAVAILABLE = 69
    TEMPORARY = 75


class _Ends(Exception):
    """The command ends with this status; the text goes to standard error."""

    def __init__(self, status: Exit, text: str) -> None:
        super().__init__(text)
        self.status = status


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    # The common options may stand before or after the command, so neither place may set a default over the other.
    options = argparse.Namespace(**{"json": False, "socket": None, **vars(_parser().parse_args(arguments))})
    try:
        run: Callable[[argparse.Namespace, Client], Exit] = options.run
        return run(options, Client(options.socket))
    except _Ends as end:
        _complain(end)
        return end.status
    except Unreachable as error:
        _complain(error)
        return Exit.UNAVAILABLE
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK


def _complain(what: object) -> None:
    sys.stderr.write(f"notifyctl: {what}\n")


def _expect(reply: Reply) -> Any:
    if not reply.ok:
        status = Exit.TEMPORARY if reply.status in (429, 503, 507) else Exit.PROBLEM
        raise _Ends(status, show.refusal(reply.status, reply.document))
    return reply.document


def _print(options: argparse.Namespace, document: Any, text: Callable[[Any], str]) -> None:
    sys.stdout.write((json.dumps(document, ensure_ascii=False) if options.json else text(document)) + "\n")
    sys.stdout.flush()


def _status(options: argparse.Namespace, client: Client) -> Exit:
    document = _expect(client.call("GET", "/api/v1/status"))
    _print(options, document, show.status)
    return Exit.OK if document["problem"] is None else Exit.PROBLEM


def _apply(options: argparse.Namespace, client: Client) -> Exit:
    settings, headers = _current_settings(client)
    given = {name: getattr(options, name) for name in SETTINGS if getattr(options, name) is not None}
    if options.file:
        given = {**_read_json(options.file), **given}
    settings.update(given)
    for name, source in (("client_secret", options.secret_file), ("password", options.password_file)):
        if source is not None:
            settings[name] = _read_secret(source, name.replace("_", " "))
    document = _expect(client.call("PUT", "/api/v1/settings", settings, headers=headers))
    _print(options, document, lambda _: "Applied.")
    return Exit.OK


def _current_settings(client: Client) -> tuple[dict[str, Any], dict[str, str]]:
    """What is applied, ready to be changed and sent back, with its version for If-Match."""
    reply = client.call("GET", "/api/v1/settings")
    document = _expect(reply)
    if not document["applied"]:
        return {}, {}
    hidden = ("client_secret", "password", "clouds", "applied")
    kept = {name: value for name, value in document.items() if name not in hidden and value not in (None, "")}
    return kept, {"If-Match": reply.headers["etag"]}


def _read_json(path: str) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")
        document = json.loads(text)
    except (OSError, ValueError) as error:
        raise _Ends(Exit.NO_INPUT, f"cannot read settings from {path}: {error}") from error
    if not isinstance(document, dict):
        raise _Ends(Exit.NO_INPUT, f"cannot read settings from {path}: it is not a JSON object")
    return document


def _read_secret(source: str, name: str) -> str:
    try:
        if source == "-":
            value = getpass.getpass(f"{name}: ") if sys.stdin.isatty() else sys.stdin.read(MAX_SECRET + 1)
        else:
            value = Path(source).read_text("utf-8")
    except (OSError, ValueError) as error:
        raise _Ends(Exit.NO_INPUT, f"cannot read the {name} from {source}: {error}") from error
    return value.rstrip("\r\n")


def _authorize(options: argparse.Namespace, client: Client) -> Exit:
    body = {"redirect_uri": options.redirect_uri} if options.redirect_uri else {}
    document = _expect(client.call("POST", "/api/v1/token/authorize", body))
    _print(options, document, show.begun)
    return Exit.OK


def _refresh(options: argparse.Namespace, client: Client) -> Exit:
    document = _expect(client.call("POST", "/api/v1/token/refresh", {"force": options.force}))
    _print(options, document, show.status)
    return Exit.OK if document["problem"] is None else Exit.PROBLEM


def _forget(options: argparse.Namespace, client: Client) -> Exit:
    document = _expect(client.call("DELETE", "/api/v1/token"))
    _print(options, document, show.status)
    return Exit.OK


def _send(options: argparse.Namespace, client: Client) -> Exit:
    if options.test:
        reply = client.call("POST", "/api/v1/mail/test", {"to": options.to[0]})
    else:
        headers = {"Idempotency-Key": options.idempotency_key} if options.idempotency_key else {}
        mail = {
            "to": options.to,
            "subject": options.subject or "",
            "text": sys.stdin.read(),
            "priority": options.priority,
        }
        reply = client.call("POST", "/api/v1/mail", mail, headers=headers)
    accepted = _expect(reply)
    if not options.wait:
        _print(options, accepted, lambda document: f"accepted as {document['id']}")
        return Exit.OK
    document = _outcome(client, accepted["id"])
    _print(options, document, show.mail)
    return {"sent": Exit.OK, "failed": Exit.PROBLEM}.get(document["state"], Exit.TEMPORARY)


def _outcome(client: Client, mail_id: str) -> Any:
    """The message once it is settled, held, or the deadline has come."""
    end = time.monotonic() + OUTCOME_DEADLINE_S
    while True:
        document = _expect(client.call("GET", f"/api/v1/mail/{mail_id}"))
        if document["state"] in ("sent", "failed", "held") or time.monotonic() > end:
            return document
        time.sleep(POLL_S)


def _queue(options: argparse.Namespace, client: Client) -> Exit:
    if options.action == "list":
        query = urlencode({name: value for name, value in (("state", options.state),) if value})
        _print(options, _expect(client.call("GET", "/api/v1/mail" + (f"?{query}" if query else ""))), show.queue)
    elif options.action in ("hold", "release"):
        _print(options, _expect(client.call("POST", f"/api/v1/mail/{options.action}")), lambda _: "done")
    elif not options.id:
        raise _Ends(Exit.USAGE, f"queue {options.action} needs the id of a message")
    elif options.action == "show":
        _print(options, _expect(client.call("GET", f"/api/v1/mail/{options.id}")), show.mail)
    elif options.action == "retry":
        _print(options, _expect(client.call("POST", f"/api/v1/mail/{options.id}/retry")), show.mail)
    else:
        _expect(client.call("DELETE", f"/api/v1/mail/{options.id}"))
        _print(options, {"deleted": options.id}, lambda _: "deleted")
    return Exit.OK


def _events(options: argparse.Namespace, client: Client) -> Exit:
    filters = {"level": options.level, "category": options.category, "text": options.text, "after": options.after}
    query = {name: value for name, value in filters.items() if value is not None}
    page = _expect(client.call("GET", "/api/v1/events?" + urlencode({**query, "limit": options.limit})))
    records = sorted(page["events"], key=lambda record: record["id"])
    for record in records:
        _print(options, record, show.event)
    last_id = max([page["last_id"], *(record["id"] for record in records)])
    while options.follow:
        query.pop("after", None)
        for record in client.stream("/api/v1/events?" + urlencode(query), last_id):
            last_id = record["id"]
            _print(options, record, show.event)
    return Exit.OK


def _report(options: argparse.Namespace, client: Client) -> Exit:
    document = _expect(client.call("POST", "/api/v1/report/send", {}))
    _print(options, document, lambda sent: f"accepted as {sent.get('id', sent)}")
    return Exit.OK


def _diagnose(options: argparse.Namespace, client: Client) -> Exit:
    document = _expect(client.call("POST", "/api/v1/diagnose"))
    _print(options, document, show.diagnosis)
    return Exit.PROBLEM if document["verdict"] == "failed" else Exit.OK


def _bundle(options: argparse.Namespace, client: Client) -> Exit:
    archive = _expect(client.call("GET", "/api/v1/support-bundle"))
    try:
        Path(options.output).write_bytes(archive)
    except OSError as error:
        raise _Ends(Exit.PROBLEM, f"cannot write {options.output}: {error.strerror}") from error
    _print(
        options,
        {"written": options.output, "bytes": len(archive)},
        lambda done: f"{done['written']}: {done['bytes']} bytes",
    )
    return Exit.OK


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON, for programs")
    common.add_argument("--socket", type=Path, default=argparse.SUPPRESS, help="admin socket (NOTIFYD_RUN/admin.sock)")
    parser = argparse.ArgumentParser("notifyctl", description=__doc__, parents=[common])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace, Client], Exit], summary: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary, parents=[common])
        sub.set_defaults(run=run)
        return sub

    command("status", _status, "show the token's and the mail's status")
    _apply_arguments(command("apply", _apply, "change and apply the mail server settings; what is not given stays"))
    authorize = command("authorize", _authorize, "Get New Token: print the address to open in a browser")
    authorize.add_argument("--redirect-uri", help="one of the gateway's redirect URIs")
    refresh = command("refresh", _refresh, "Refresh Token Status: re-check now, renew when due")
    refresh.add_argument("--force", action="store_true", help="renew even when it is not due")
    command("forget", _forget, "forget the grant")
    _send_arguments(command("send", _send, "send a message; its text is read from standard input"))
    queue = command("queue", _queue, "look at the mail queue, or change it")
    queue.add_argument(
        "action", nargs="?", default="list", choices=("list", "show", "retry", "delete", "hold", "release")
    )
    queue.add_argument("id", nargs="?")
    queue.add_argument("--state", choices=("ready", "sending", "held", "deferred", "sent", "failed"))
    _events_arguments(command("events", _events, "show the System log"))
    report = command("report", _report, "Send Report Now")
    report.add_argument("action", nargs="?", default="send", choices=("send",))
    command("diagnose", _diagnose, "check every step between here and the mailbox")
    bundle = command("bundle", _bundle, "write an archive for support; it holds no secret")
    bundle.add_argument("-o", "--output", default="notifyd-support.tar.gz")
    return parser


def _apply_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--file", help="settings as a JSON object, - for standard input")
    parser.add_argument("--server")
    parser.add_argument("--port", type=int)
    parser.add_argument("--security", choices=("none", "starttls", "tls"))
    parser.add_argument("--auth", choices=("none", "password", "oauth2"))
    parser.add_argument("--cloud")
    parser.add_argument("--sender")
    parser.add_argument("--client-id")
    parser.add_argument("--tenant-id")
    parser.add_argument("--username")
    parser.add_argument("--secret-expires-on", metavar="DATE")
    parser.add_argument(
        "--secret-file", metavar="FILE", help="file with the client secret; - asks, or reads standard input"
    )
    parser.add_argument(
        "--password-file", metavar="FILE", help="file with the mail password; - asks, or reads standard input"
    )


def _send_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", action="append", required=True, metavar="ADDRESS")
    parser.add_argument("--subject")
    parser.add_argument("--priority", choices=("alert", "report", "bulk"), default="alert")
    parser.add_argument("--idempotency-key", metavar="KEY", help="the same key is accepted once")
    parser.add_argument("--test", action="store_true", help="send the test mail instead")
    parser.add_argument("--wait", action="store_true", help="wait for the outcome")


def _events_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--follow", action="store_true", help="go on with new records as they come")
    parser.add_argument("--after", type=int, metavar="ID")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--level")
    parser.add_argument("--category")
    parser.add_argument("--text")


if __name__ == "__main__":
    sys.exit(main())
