"""What the CGI takes from a browser, and what it refuses."""

from __future__ import annotations

from types import ModuleType
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.cgi import subject

GOOD = "code=0.AXoA-code_1&state=GF5kUZ8VuOs"
ENTRA_ERROR = {
    "error": "access_denied",
    "error_description": "AADSTS65004: User declined to consent.\r\nTrace ID: 5dbb5a2b\r\nTimestamp: 2026-11-25",
    "error_uri": "https://login.microsoftonline.com/error?code=65004",
    "state": "GF5kUZ8VuOs",
}


@pytest.fixture(scope="module")
def cgi() -> ModuleType:
    return subject.load()


def handed_on(cgi: ModuleType, environ: dict[str, str], body: bytes = b"") -> dict[str, Any]:
    """The message that notifyd would get."""
    seen: list[dict[str, Any]] = []

    def ask(_run: str, message: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        seen.append(message)
        return 200, dict(subject.GOOD_ANSWER)

    answer = subject.request(cgi, environ, body, ask)
    assert answer.status == 200, answer.body
    return seen[0]


def refused(cgi: ModuleType, environ: dict[str, str], body: bytes = b"") -> subject.Answer:
    """The answer to a request that must not reach notifyd."""

    def ask(_run: str, _message: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        raise AssertionError("notifyd was asked")

    return subject.request(cgi, environ, body, ask)


def test_query_is_handed_on(cgi: ModuleType) -> None:
    """A GET redirect reaches notifyd decoded, with where it came in."""
    environ = subject.query(
        GOOD + "&session_state=1b2c-3d",
        SERVER_ADDR="192.168.168.1",
        SERVER_PORT="443",
        REMOTE_ADDR="192.168.168.33",
        HTTP_HOST="gateway.example",
        HTTPS="on",
    )
    assert handed_on(cgi, environ) == {
        "method": "GET",
        "params": {"code": "0.AXoA-code_1", "state": "GF5kUZ8VuOs", "session_state": "1b2c-3d"},
        "server_addr": "192.168.168.1",
        "server_port": "443",
        "remote_addr": "192.168.168.33",
        "host": "gateway.example",
        "https": True,
    }


def test_form_is_handed_on(cgi: ModuleType) -> None:
    """A form_post reaches notifyd like a query, whatever charset parameter its type has."""
    body = GOOD.encode()
    environ = subject.form(body, CONTENT_TYPE="application/x-www-form-urlencoded; charset=UTF-8")
    assert handed_on(cgi, environ, body)["params"]["code"] == "0.AXoA-code_1"


def test_microsofts_error_is_handed_on_word_for_word(cgi: ModuleType) -> None:
    """Line breaks and all: Entra puts CR LF into error_description."""
    body = urlencode(ENTRA_ERROR).encode()
    assert handed_on(cgi, subject.form(body), body)["params"] == ENTRA_ERROR


def test_text_of_any_language_survives(cgi: ModuleType) -> None:
    """Percent-encoded UTF-8 and plus signs are decoded as forms do."""
    environ = subject.query(
        "state=a&error=access_denied&error_description=" + quote("Zustimmung verweigert – 拒否") + "+x"
    )
    assert handed_on(cgi, environ)["params"]["error_description"] == "Zustimmung verweigert – 拒否 x"


REFUSED_QUERIES = {
    "empty": ("", 400),
    "no state": ("code=a", 400),
    "empty state": ("code=a&state=", 400),
    "neither code nor error": ("state=a", 400),
    "both code and error": ("state=a&code=b&error=c", 400),
    "state twice": ("code=a&state=b&state=b", 400),
    "code twice, one escaped": ("code=a&%63ode=b&state=c", 400),
    "array name": ("state[]=a&code=b", 400),
    "upper-case name": ("State=a&state=b&code=c", 400),
    "no equals sign": ("code&state=a", 400),
    "empty piece": ("code=a&&state=b", 400),
    "semicolon separator": ("code=a;state=b", 400),
    "bare percent": ("code=%&state=b", 400),
    "half escape": ("code=%4&state=b", 400),
    "wrong escape": ("code=%zz&state=b", 400),
    "escape with a sign": ("code=%+1&state=b", 400),
    "NUL": ("code=a%00b&state=b", 400),
    "NUL in free text": ("error=a&state=b&error_description=%00", 400),
    "escape character in free text": ("error=a&state=b&error_description=%1b[31m", 400),
    "line break in state": ("code=a&state=b%0d%0aSet-Cookie:x", 400),
    "overlong UTF-8": ("code=a&state=b&error_description=%c0%af", 400),
    "UTF-16 surrogate": ("code=a&state=b&x=%ed%a0%80", 400),
    "raw byte that is no UTF-8": ("code=a&state=b&x=\xff", 400),
    "non-ASCII code": ("code=" + quote("é") + "&state=b", 400),
    "too many parameters": ("code=a&state=b&" + "&".join(f"x{n}=1" for n in range(40)), 400),
    "name too long": ("code=a&state=b&" + "x" * 64 + "=1", 400),
    "too long": ("code=" + "a" * (17 * 1024) + "&state=b", 414),
}


@pytest.mark.parametrize(("text", "status"), REFUSED_QUERIES.values(), ids=REFUSED_QUERIES)
def test_malformed_query_is_refused(cgi: ModuleType, text: str, status: int) -> None:
    """Refused with a 4xx before notifyd hears of it."""
    assert refused(cgi, subject.query(text)).status == status


REFUSED_FORMS = {
    "JSON": ({"CONTENT_TYPE": "application/json"}, 415),
    "multipart": ({"CONTENT_TYPE": "multipart/form-data; boundary=x"}, 415),
    "no type": ({"CONTENT_TYPE": ""}, 415),
    "no length": ({"CONTENT_LENGTH": ""}, 400),
    "negative length": ({"CONTENT_LENGTH": "-1"}, 400),
    "length that is no number": ({"CONTENT_LENGTH": "1e3"}, 400),
    "length in other digits": ({"CONTENT_LENGTH": "\u0661"}, 400),
    "huge length": ({"CONTENT_LENGTH": "9" * 4000}, 413),
    "too long": ({"CONTENT_LENGTH": "16385"}, 413),
    "truncated": ({"CONTENT_LENGTH": "4000"}, 400),
    "form and query": ({"QUERY_STRING": "state=x"}, 400),
}


@pytest.mark.parametrize(("change", "status"), REFUSED_FORMS.values(), ids=REFUSED_FORMS)
def test_malformed_form_is_refused(cgi: ModuleType, change: dict[str, str], status: int) -> None:
    """A body of the wrong type, length or company is refused unread or unused."""
    body = GOOD.encode()
    assert refused(cgi, {**subject.form(body), **change}, body).status == status


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "get", "POST\n", "", "\xff"])
def test_other_methods_are_refused(cgi: ModuleType, method: str) -> None:
    """Only GET and POST, and the answer says so."""
    answer = refused(cgi, {**subject.query(GOOD), "REQUEST_METHOD": method})
    assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")


def test_query_with_a_body_is_refused(cgi: ModuleType) -> None:
    """Two places for parameters are one too many."""
    assert refused(cgi, subject.query(GOOD, CONTENT_LENGTH="3"), b"a=b").status == 400


def test_path_below_the_cgi_is_refused(cgi: ModuleType) -> None:
    """PATH_INFO is no address of ours."""
    assert refused(cgi, subject.query(GOOD, PATH_INFO="/../../etc/passwd")).status == 404


SHAPES_OF_ATTACK = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "$(reboot)",
    "`reboot`",
    ";reboot|cat&&",
    "--help",
    "%s%n{0.__class__}",
    "../../etc/shadow",
    "() { :;}; echo vulnerable",
    "\u202egnp.exe",
    "\r\nSet-Cookie: a=b",
]


@pytest.mark.parametrize("attack", SHAPES_OF_ATTACK)
@pytest.mark.parametrize("name", ["code", "state", "error", "error_description", "client_info", "unknown"])
def test_nothing_sent_is_ever_echoed(cgi: ModuleType, name: str, attack: str) -> None:
    """Whether taken or refused, the page holds none of it."""
    parameters = {"state": "s", "error": "e"} | {name: "MARK" + attack}
    if name == "code":
        del parameters["error"]
    answer = subject.request(cgi, subject.query(urlencode(parameters)))
    assert answer.status in (200, 400)
    assert "MARK" not in answer.body
    assert not any("MARK" in value for value in answer.headers.values())
