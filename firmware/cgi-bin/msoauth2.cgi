#!/usr/bin/python3 -IS
"""Microsoft's redirect lands here: one request, one call to notifyd, one true page.

The browser brings `code` and `state` (or `error`) as a GET query or a POST form; they are checked for form, handed to
notifyd over callback.sock, and the page tells what came of it: success only after notifyd stored the grant. Nothing
that the browser sent is ever written back. No secret and no configuration is read here.

Only built-in and C modules are imported: `os`, `re`, `json`, `socket` or `urllib` alone would double the start time.
"""

import _json
import _socket
import posix
from time import monotonic

QUERY_LIMIT = BODY_LIMIT = 16 * 1024  # Microsoft's largest answers stay below 6 KiB
PARAMETER_LIMIT = 24
ANSWER_LIMIT = 64 * 1024
DEADLINE_S = 95.0  # notifyd answers within 90 s, whatever Microsoft does
CONNECT_DEADLINE_S = 5.0

NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")
TOKEN_CHARACTERS = frozenset(map(chr, range(0x21, 0x7F)))
TOKEN_NAMES = frozenset(("code", "state", "error", "client_info", "session_state", "iss", "error_subcode"))
HEX_DIGITS = b"0123456789abcdefABCDEF"

REASONS = {
    200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 409: "Conflict",
    410: "Gone", 413: "Content Too Large", 414: "URI Too Long", 415: "Unsupported Media Type",
    422: "Unprocessable Content", 429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway",
    503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip

AGAIN = "Close this tab, open the gateway's page and choose Get New Token again."
STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;margin:12vh auto;max-width:36rem;padding:0 1.25rem}"
    "main{border:1px solid #8889;border-top:.4rem solid #a3141c;border-radius:.6rem;padding:1.25rem 1.5rem}"
    ".good{border-top-color:#17692f}h1{font-size:1.4rem;line-height:1.25;margin:0 0 .75rem}p{margin:0 0 .75rem}"
    ".code{font-family:ui-monospace,monospace;overflow-wrap:anywhere}a{color:inherit}"
)
SCRIPT = "setTimeout(function(){window.close()},1200)"
# The hashes of the two constants above, as the page's policy needs them; tests/cgi compares them.
STYLE_HASH = "sha256-je9ynv7K9ldrHuaxo9jItAbhJ9x+OevtpqCFyM0BNO4="
SCRIPT_HASH = "sha256-FRhcWxSTJzW9dSz2SyCK5Y41bFqAm9WcHzbjmajGjJs="


class Failed(Exception):
    """The request ends here; the text goes to the page and never holds anything from the request."""

    def __init__(self, status, title, detail, remedy=AGAIN, code=""):
        super().__init__(title)
        self.status = status
        self.answer = {"ok": False, "title": title, "detail": detail, "remedy": remedy, "code": code}


class Slow(Exception):
    """notifyd did not answer in time."""


# ---- the request ----------------------------------------------------------------------------------------------------


def malformed(detail, status=400):
    return Failed(status, "This is not an answer to a sign-in", detail, code="signin.malformed")


def read_parameters(environ, read):
    """The parameters of Microsoft's redirect, checked for form only. Raises Failed with a 4xx status."""
    if environ.get("PATH_INFO"):
        raise malformed("There is no such address.", 404)
    method = environ.get("REQUEST_METHOD", "")
    query = environ.get("QUERY_STRING", "")
    if method == "GET":
        if environ.get("CONTENT_LENGTH", "0").strip("0"):
            raise malformed("A query carries no body.")
        if len(query) > QUERY_LIMIT:
            raise malformed("The query is too long.", 414)
        form = query.encode("latin-1")
    elif method == "POST":
        if query:
            raise malformed("A form carries no query.")
        form = read_form(environ, read)
    else:
        raise malformed("Only GET and POST are answered.", 405)
    parameters = parse_form(form)
    check_parameters(parameters)
    return parameters


def read_form(environ, read):
    """The body of a POST: of the announced length, of the right type, within bounds."""
    media_type, _, _ = environ.get("CONTENT_TYPE", "").partition(";")
    if media_type.strip().lower() != "application/x-www-form-urlencoded":
        raise malformed("The form has the wrong content type.", 415)
    length_text = environ.get("CONTENT_LENGTH", "")
    if not (length_text.isascii() and length_text.isdigit()):
        raise malformed("The form has no usable length.")
    if len(length_text) > 9 or int(length_text) > BODY_LIMIT:
        raise malformed("The form is too long.", 413)
    missing = int(length_text)
    pieces = []
    while missing:
        piece = read(missing)
        if not piece:
            raise malformed("The form is incomplete.")
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)


def parse_form(form):
    """application/x-www-form-urlencoded, strictly: every name once, every escape whole, every value UTF-8."""
    if not form:
        raise malformed("It carries no parameters.")
    pairs = form.split(b"&")
    if len(pairs) > PARAMETER_LIMIT:
        raise malformed("It carries too many parameters.")
    parameters = {}
    for pair in pairs:
        raw_name, equals, raw_value = pair.partition(b"=")
        name, value = decode(raw_name), decode(raw_value)
        if not equals or not name or len(name) > 40 or not NAME_CHARACTERS.issuperset(name):
            raise malformed("A parameter has an impossible name.")
        if name in parameters:
            raise malformed("A parameter is given twice.")
        parameters[name] = value
    return parameters


def decode(escaped):
    """Percent-decoding of one name or value, strictly."""
    head, *rest = escaped.replace(b"+", b" ").split(b"%")
    decoded = [head]
    for piece in rest:
        digits = piece[:2]
        if len(digits) != 2 or digits.strip(HEX_DIGITS):
            raise malformed("A parameter has a broken escape.")
        decoded.append(bytes.fromhex(digits.decode("ascii")) + piece[2:])
    try:
        return b"".join(decoded).decode("utf-8")
    except UnicodeDecodeError:
        raise malformed("A parameter is not valid text.") from None


def check_parameters(parameters):
    """What every answer to a sign-in has: a state, and either a code or an error."""
    for name, value in parameters.items():
        if name in TOKEN_NAMES and not TOKEN_CHARACTERS.issuperset(value):
            raise malformed("A parameter has impossible characters.")
        if any((character < " " and character not in "\r\n\t") or character == "\x7f" for character in value):
            raise malformed("A parameter has control characters.")
    if not parameters.get("state"):
        raise malformed("It does not say which sign-in it answers.")
    if bool(parameters.get("code")) == bool(parameters.get("error")):
        raise malformed("It must carry either a code or an error.")


# ---- notifyd --------------------------------------------------------------------------------------------------------


def to_json(value):
    """JSON text of str, bool and dict, which is all that is sent; the `json` module costs more than the whole CGI."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{to_json(key)}:{to_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _json.encode_basestring_ascii(value)


class JsonContext:
    """What the C scanner behind `json.loads` asks its decoder for."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict = {}  # noqa: RUF012  # one answer is read in the life of this process


def from_json(text):
    """The JSON value at the start of `text`. Raises ValueError."""
    try:
        value, _end = _json.make_scanner(JsonContext)(text, 0)
    except (StopIteration, RecursionError):
        raise ValueError("not JSON") from None
    return value


def callback_message(environ, parameters):
    """The document that notifyd takes at `POST /callback`."""
    return {
        "method": environ.get("REQUEST_METHOD", ""),
        "params": parameters,
        "server_addr": environ.get("SERVER_ADDR", ""),
        "server_port": environ.get("SERVER_PORT", ""),
        "remote_addr": environ.get("REMOTE_ADDR", ""),
        "host": environ.get("HTTP_HOST", ""),
        "https": environ.get("HTTPS", "").lower() == "on",
    }


def exchange(path, message, deadline):
    """Sends the message to the socket at `path`; returns the whole HTTP answer. Raises OSError, Slow."""
    body = to_json(message).encode("ascii", "backslashreplace")
    head = (
        "POST /callback HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.settimeout(CONNECT_DEADLINE_S)
        connection.connect(path)
        connection.sendall(head.encode("ascii") + body)
        return receive(connection, deadline)
    finally:
        connection.close()


def receive(connection, deadline):
    """What comes until the answer is complete, the other side closes, or it grows too long. Raises OSError, Slow."""
    received = b""
    while len(received) <= ANSWER_LIMIT and not complete(received):
        left = deadline - monotonic()
        if left <= 0:
            raise Slow
        connection.settimeout(left)
        try:
            piece = connection.recv(8192)
        except TimeoutError:
            raise Slow from None
        if not piece:
            break
        received += piece
    return received


def split_answer(received):
    """(status line, lower-case header lines, body) of an HTTP answer, as far as it has come."""
    head, _, body = received.partition(b"\r\n\r\n")
    status_line, *headers = head.split(b"\r\n")
    return status_line, [header.lower() for header in headers], body


def complete(received):
    """True when the body is as long as the answer announced; an answer without a length ends with the connection."""
    _, headers, body = split_answer(received)
    for header in headers:
        name, _, length = header.partition(b":")
        if name == b"content-length" and length.strip().isdigit():
            return b"\r\n\r\n" in received and len(body) >= int(length.strip()[:9])
    return False


def ask_notifyd(run, message):
    """(status, answer) from notifyd. Raises Failed when it is away, slow or speaks nonsense."""
    try:
        received = exchange(run + "/callback.sock", message, monotonic() + DEADLINE_S)
    except Slow:
        raise Failed(
            504,
            "The gateway is still working on it",
            "The notification service has not finished within 95 seconds.",
            "Look at Token Status on the gateway's page; if it does not become Valid, choose Get New Token again.",
            "signin.timeout",
        ) from None
    except OSError:
        raise Failed(
            503,
            "The gateway's notification service is not running",
            "Microsoft's answer has reached the gateway, but nothing there could take it. No token was stored.",
            "Wait a minute, then choose Get New Token on the gateway's page again.",
            "signin.service_away",
        ) from None
    try:
        return read_answer(received)
    except (ValueError, UnicodeDecodeError):
        raise Failed(
            502,
            "The gateway's notification service gave no clear answer",
            "It is not known whether a token was stored.",
            "Look at Token Status on the gateway's page; if it is not Valid, choose Get New Token again.",
            "signin.service_confused",
        ) from None


def read_answer(received):
    """(status, answer) of notifyd's HTTP answer; every field a string except `ok`. Raises ValueError."""
    status_line, _, body = split_answer(received)
    version, status, *_ = [*status_line.split(b" "), b"", b""]
    if not version.startswith(b"HTTP/1.") or not (len(status) == 3 and status.isdigit()):
        raise ValueError("not HTTP")
    document = from_json(body.decode("utf-8"))
    if not isinstance(document, dict):
        raise ValueError("not an object")  # noqa: TRY004  # one kind of error for every kind of nonsense
    answer = {name: text_of(document.get(name)) for name in ("title", "detail", "remedy", "code")}
    answer["ok"] = document.get("ok") is True and status == b"200"
    if not answer["title"]:
        raise ValueError("no title")
    return (int(status) if int(status) in REASONS else 502), answer


def text_of(value):
    return value if isinstance(value, str) else ""


# ---- the page -------------------------------------------------------------------------------------------------------

ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})


def page(status, answer):
    """The whole CGI response, headers and HTML, as bytes."""
    ok = answer["ok"]
    lines = [f"<h1>{answer['title'].translate(ESCAPES)}</h1>"]
    lines += [f"<p>{answer[part].translate(ESCAPES)}</p>" for part in ("detail", "remedy") if answer[part]]
    if ok:
        lines.append("<p>This tab closes by itself. If it stays, close it: nothing more is needed here.</p>")
    elif answer["code"]:
        lines.append(f'<p class="code">Code: {answer["code"].translate(ESCAPES)}</p>')
    if not ok:
        lines.append('<p><a href="/">The gateway’s page</a></p>')
    script = f"<script>{SCRIPT}</script>" if ok else ""
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{'Signed in' if ok else 'Sign-in failed'}</title><style>{STYLE}</style></head>"
        f"<body><main{' class=good' if ok else ''}>{''.join(lines)}</main>{script}</body></html>"
    ).encode("utf-8", "replace")
    policy = f"default-src 'none'; style-src '{STYLE_HASH}'; " + (f"script-src '{SCRIPT_HASH}'; " if ok else "")
    headers = [
        f"Status: {status} {REASONS[status]}",
        "Content-Type: text/html; charset=utf-8",
        f"Content-Length: {len(html)}",
        f"Content-Security-Policy: {policy}base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "Cache-Control: no-store",
        "Referrer-Policy: no-referrer",
        "X-Content-Type-Options: nosniff",
        "X-Frame-Options: DENY",
    ]
    if status == 405:
        headers.append("Allow: GET, POST")
    return "\r\n".join(headers).encode("ascii") + b"\r\n\r\n" + html


def respond(environ, read, ask):
    """The response to one request; `read(n)` gives the body, `ask(run, message)` is `ask_notifyd`."""
    try:
        parameters = read_parameters(environ, read)
        status, answer = ask(environ.get("NOTIFYD_RUN") or "/run/notifyd", callback_message(environ, parameters))
    except Failed as failure:
        status, answer = failure.status, failure.answer
    return page(status, answer)


def text_environment():
    """The process environment, one character a byte, so that any byte survives and none raises."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in posix.environ.items()}


def main():
    response = respond(text_environment(), lambda size: posix.read(0, size), ask_notifyd)
    while response:
        response = response[posix.write(1, response) :]
    posix._exit(0)  # nothing is left to clean up, and taking the interpreter down costs a fifth of its start


if __name__ == "__main__":
    main()
