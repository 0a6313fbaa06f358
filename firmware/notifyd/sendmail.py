"""sendmail(8) for programs on the gateway: takes a message on standard input and hands it to notifyd.

Only what mailing programs really use is understood; options that tune a real sendmail's delivery are accepted and
ignored, as Postfix does it. The message is accepted when notifyd has it on the disk, so exit status 0 means "will be
delivered or reported". Standard library only and no import of the package: it may run as a plain file, and starts fast.

Exit status (sysexits.h): 0 accepted, 64 usage, 65 message or address refused, 69 notifyd cannot do that, 75 try again
later, 77 not allowed.

A gateway's scripts start it thousands of times a day, so every import counts: `dataclasses`, `contextlib` and `socket`
would triple its run time. `_socket` is what `socket` is made of.
"""

import _socket
import os
import sys
import time

EX_OK, EX_USAGE, EX_DATAERR, EX_UNAVAILABLE, EX_TEMPFAIL, EX_NOPERM = 0, 64, 65, 69, 75, 77

LONGEST_MESSAGE = 35 * 1024 * 1024
PATIENCE_S = 20.0
"""How long a service that is just being restarted is waited for."""

LONGEST_LIST = 3_500
"""Characters of recipients in one request."""

ANSWER_S = 60.0
PAUSE_S = 0.25

WITH_VALUE = frozenset("fFrRNVOXLhpBbodqACDM")
"""Options that have a value, attached or (for most) as the next argument."""

ATTACHED_ONLY = frozenset("bodq")
FLAGS = frozenset("tinmsUvGx7")


class Usage(Exception):
    """The command line makes no sense."""


class Wish:
    """What the command line asks for."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.extract = False
        self.dot_ends = True
        self.name = ""
        self.recipients: list[str] = []


def parse(program: str, arguments: list[str]) -> Wish:
    """Read a sendmail command line. Raises Usage."""
    wish = Wish({"mailq": "p", "newaliases": "i"}.get(program, "m"))
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            wish.recipients += rest
            break
        if not word.startswith("-") or word == "-":
            wish.recipients.append(word)
        else:
            _options(wish, word[1:], rest)
    return wish


def _options(wish: Wish, letters: str, rest: list[str]) -> None:
    while letters:
        letter, letters = letters[0], letters[1:]
        if letter in WITH_VALUE:
            if not letters and letter not in ATTACHED_ONLY:
                if not rest:
                    raise Usage(f"option -{letter} needs a value")
                letters = rest.pop(0)
            _valued(wish, letter, letters)
            return
        if letter not in FLAGS:
            raise Usage(f"unknown option -{letter}")
        if letter == "t":
            wish.extract = True
        elif letter == "i":
            wish.dot_ends = False


def _valued(wish: Wish, letter: str, value: str) -> None:
    if letter == "b":
        wish.mode = value or "m"
    elif letter == "F":
        wish.name = value
    elif (letter == "o" and value.startswith("i")) or (
        letter == "O" and value.lower().replace(" ", "") in ("ignoredots", "ignoredots=true")
    ):
        wish.dot_ends = False


def read_message(wish: Wish) -> bytes:
    """The message from standard input, up to a lone dot unless that is to be ignored."""
    if not wish.dot_ends:
        return sys.stdin.buffer.read(LONGEST_MESSAGE + 1)
    lines: list[bytes] = []
    size = 0
    for line in sys.stdin.buffer:
        if line in (b".\n", b".\r\n") or size > LONGEST_MESSAGE:
            break
        lines.append(line)
        size += len(line)
    return b"".join(lines)


def dressed(wish: Wish, message: bytes) -> bytes:
    """The message with what the command line adds to it: a sender's name, and with -t further recipients.

    Both go in as header fields: notifyd replaces the address in From by the mailbox's, and drops Bcc after reading it.
    """
    if message.startswith(b"From "):
        message = message.partition(b"\n")[2]
    added = b""
    head = b"\n" + message.replace(b"\r\n", b"\n").partition(b"\n\n")[0].lower()
    if wish.name and b"\nfrom:" not in head:
        quoted = _plain(wish.name).replace("\\", "\\\\").replace('"', '\\"')
        added += f'From: "{quoted}" <uid{os.getuid()}@localhost>\n'.encode("utf-8", "surrogateescape")
    if wish.extract and wish.recipients:
        added += f"Bcc: {_plain(', '.join(wish.recipients))}\n".encode("utf-8", "surrogateescape")
    return added + message


def submit(wish: Wish, message: bytes) -> int:
    """Hand the message in; the exit status."""
    message = dressed(wish, message)
    status = EX_OK
    for recipients in [""] if wish.extract else portions(wish.recipients):
        status = _submit(f"?recipients={_percent(recipients)}" if recipients else "", message) or status
    return status


def portions(recipients: list[str]) -> list[str]:
    """Recipients as lists short enough for one request each."""
    found: list[str] = []
    for address in map(_plain, recipients):
        if found and len(found[-1]) + len(address) < LONGEST_LIST:
            found[-1] += "," + address
        else:
            found.append(address)
    return found


def _submit(query: str, message: bytes) -> int:
    # The key makes a repetition safe when the answer got lost because the service was restarted.
    head = {"Content-Type": "message/rfc822", "Idempotency-Key": os.urandom(16).hex()}
    status, body = request("POST", "/api/v1/mail" + query, head, message)
    if status in (200, 202):
        return EX_OK
    complain(detail_of(body) or f"notifyd answered {status}")
    return exit_status(status)


def exit_status(status: int) -> int:
    """The sysexits code for an HTTP status of notifyd."""
    if status in (401, 403):
        return EX_NOPERM
    if status in (400, 409, 422):
        return EX_DATAERR
    if status in (404, 405, 413, 415):
        return EX_UNAVAILABLE
    return EX_TEMPFAIL


def list_queue() -> int:
    """`sendmail -bp` and `mailq`: what waits, and why."""
    import json

    status, body = request("GET", "/api/v1/mail", {}, b"")
    if status != 200:
        complain(detail_of(body) or f"notifyd answered {status}")
        return exit_status(status)
    waiting = [m for m in json.loads(body)["messages"] if m["state"] not in ("sent", "failed")]
    lines = [f"{m['id']}  {m['size']:>9}  {m['state']:<8}  {', '.join(m['to'])}" for m in waiting]
    for mail, line in zip(waiting, lines, strict=True):
        reason = (mail.get("waiting_for") or {}).get("title")
        sys.stdout.write(line + (f"\n    ({reason})" if reason else "") + "\n")
    sys.stdout.write(f"-- {len(waiting)} waiting --\n" if waiting else "Mail queue is empty\n")
    return EX_OK


def request(method: str, path: str, head: dict[str, str], body: bytes) -> tuple[int, bytes]:
    """One HTTP request over the admin socket; a service that is not there (any more) is waited for."""
    lines = [f"{method} {path} HTTP/1.1", "Host: notifyd", "Connection: close", f"Content-Length: {len(body)}"]
    sent = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in head.items()), "", ""]).encode() + body
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return _exchange(sent)
        except PermissionError:
            raise
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(PAUSE_S)


def _exchange(sent: bytes) -> tuple[int, bytes]:
    path = os.path.join(os.environ.get("NOTIFYD_RUN", "/run/notifyd"), "admin.sock")  # noqa: PTH118  # pathlib costs 3 ms
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.settimeout(ANSWER_S)
        connection.connect(path)
        answer = b""
        try:
            connection.sendall(sent)
        except BrokenPipeError:
            sent = b""  # refused before the end of a long message: the answer tells why
        while chunk := connection.recv(65_536):
            answer += chunk
    finally:
        connection.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[1].isdigit():
        raise ConnectionResetError("notifyd closed the connection without an answer")
    return int(words[1]), body


def detail_of(body: bytes) -> str:
    """What a problem document (RFC 9457) says, field errors included; empty for anything else."""
    import json

    try:
        told = json.loads(body)
        errors = [f"{error['pointer']}: {error['detail']}" for error in told.get("errors", [])]
        return "; ".join([str(told.get("detail") or told.get("title", "")), *errors])
    except (ValueError, AttributeError, KeyError, TypeError):
        return ""


def complain(text: str) -> None:
    """One line on standard error, free of control characters."""
    sys.stderr.write("sendmail: " + "".join(c if c.isprintable() else " " for c in text) + "\n")


def _plain(text: str) -> str:
    if not all(c.isprintable() or "\udc80" <= c <= "\udcff" for c in text):
        raise Usage("control characters are not allowed")
    return text


def _percent(text: str) -> str:
    kept = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~@,"
    return "".join(chr(o) if o in kept else f"%{o:02X}" for o in text.encode("utf-8", "surrogateescape"))


def run(program: str, arguments: list[str]) -> int:
    """The whole program; the exit status."""
    wish = parse(program, arguments)
    if wish.mode == "p":
        return list_queue()
    if wish.mode == "i":
        return EX_OK  # there is no alias database to rebuild
    if wish.mode != "m":
        raise Usage(f"mode -b{wish.mode} is not supported: notifyd listens on no SMTP port")
    if not wish.extract and not wish.recipients:
        raise Usage("no recipients: name them or use -t")
    message = read_message(wish)
    if len(message) > LONGEST_MESSAGE:
        complain("the message is too large")
        return EX_UNAVAILABLE
    return submit(wish, message)


def main() -> int:
    """Entry point."""
    try:
        return run(os.path.basename(sys.argv[0]), sys.argv[1:])  # noqa: PTH119  # pathlib costs 3 ms
    except Usage as error:
        complain(str(error))
        return EX_USAGE
    except PermissionError:
        complain("not allowed: membership in the group notify-admin is needed")
        return EX_NOPERM
    except OSError as error:
        complain(f"notifyd does not answer: {error.strerror or error}")
        return EX_TEMPFAIL


if __name__ == "__main__":
    sys.exit(main())
