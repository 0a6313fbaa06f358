"""Whatever bytes reach the CGI: no crash, no 5xx, no echo, and only well-formed messages go on."""

from __future__ import annotations

import json
import random
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cgi import subject

MUTATIONS = 20_000  # without a library between, these take a few seconds
EXAMPLES = 600

NAMES = st.sampled_from(
    ["code", "state", "error", "error_description", "client_info", "session_state", "x", "State", ""]
)
PIECES = st.one_of(
    st.text(alphabet="abcXYZ019-_.~%+&=;[]/<>\"'\r\n\0\x1b", max_size=24),
    st.text(max_size=12),
    st.sampled_from(["%", "%4", "%zz", "%00", "%c0%af", "%ed%a0%80", "%252e", "+", "&", "=", "\xff"]),
)
PAIRS = st.tuples(NAMES, PIECES).map("=".join)
NEAR_FORMS = st.lists(PAIRS, max_size=8).map("&".join).map(lambda text: text.encode("utf-8", "surrogatepass"))
BYTES = st.one_of(NEAR_FORMS, st.binary(max_size=200), st.just(b"state=a&code=b"))
METHODS = st.sampled_from(["GET", "POST", "POST", "GET", "HEAD", "PUT", "", "get"])
LENGTHS = st.one_of(st.none(), st.integers(-2, 20000).map(str), st.text(max_size=6))
TYPES = st.sampled_from(["application/x-www-form-urlencoded"] * 4 + ["text/plain", "", "multipart/form-data"])


@pytest.fixture(scope="module")
def cgi() -> ModuleType:
    return subject.load()


SEEDS = [
    b"code=0.AXoA-code_1&state=GF5kUZ8VuOs&session_state=1b2c-3d",
    b"error=access_denied&error_description=AADSTS65004%3a+declined.%0d%0aTrace+ID%3a+5dbb&state=GF5kUZ8VuOs",
    b"admin_consent=True&tenant=11111111-2222-4333-8444-555555555555&state=x",
    b"code=%C3%A9&state=%&client_info=eyJ1aWQi",
]
TOKENS = [
    b"%",
    b"%00",
    b"%zz",
    b"&",
    b"=",
    b"state=",
    b"code=",
    b"error=",
    b"\xff",
    b"%c0%af",
    b"\r\n",
    b"+",
    b";",
    b"<script>",
]


def mutated(rng: random.Random) -> bytes:
    """A near-valid request: a seed with some bytes changed, tokens put in, pieces cut or repeated."""
    data = bytearray(rng.choice(SEEDS))
    for _ in range(rng.randrange(6)):
        at = rng.randrange(len(data) + 1)
        action = rng.randrange(4)
        if action == 0:
            data[at:at] = rng.choice(TOKENS)
        elif action == 1:
            del data[at : at + rng.randrange(8)]
        elif action == 2:
            data[at:at] = data[: rng.randrange(40)]
        elif at < len(data):
            data[at] = rng.randrange(256)
    return bytes(data)


def test_mutated_requests_get_clean_answers(cgi: ModuleType) -> None:
    """Twenty thousand near-valid requests: 200 exactly when something well-formed was handed on, else 4xx."""
    rng = random.Random(20261125)
    outcomes = {200: 0, 400: 0}
    handed_on: list[dict[str, Any]] = []

    def ask(_run: str, message: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        handed_on.append(message)
        return 200, dict(subject.GOOD_ANSWER)

    for number in range(MUTATIONS):
        data = mutated(rng)
        handed_on.clear()
        environ = subject.form(data) if number % 2 else subject.query(data.decode("latin-1"))
        answer = subject.request(cgi, environ, data if number % 2 else b"", ask)
        outcomes[answer.status] += 1
        assert (answer.status == 200) == bool(handed_on)
        if handed_on:
            params = json.loads(cgi.to_json(handed_on[0]))["params"]
            assert params["state"]
            assert bool(params.get("code")) != bool(params.get("error"))
    assert min(outcomes.values()) > MUTATIONS / 20, "the mutations must reach both sides"


@settings(max_examples=EXAMPLES, deadline=None)
@given(method=METHODS, query=BYTES, body=BYTES, length=LENGTHS, media_type=TYPES)
def test_any_request_gets_a_clean_answer(
    cgi: ModuleType, method: str, query: bytes, body: bytes, length: str | None, media_type: str
) -> None:
    """200 when it was handed on, else 4xx; what is handed on is JSON with one state and a code or an error."""
    handed_on: list[dict[str, Any]] = []

    def ask(_run: str, message: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        handed_on.append(json.loads(cgi.to_json(message)))
        return 200, dict(subject.GOOD_ANSWER)

    environ = {
        "REQUEST_METHOD": method,
        "QUERY_STRING": (query if method == "GET" else b"").decode("latin-1"),
        "CONTENT_TYPE": media_type,
        "CONTENT_LENGTH": (str(len(body)) if length is None else length) if method == "POST" else "",
        "HTTP_HOST": query.decode("latin-1"),
    }
    answer = subject.request(cgi, environ, body, ask)
    assert (answer.status == 200) == bool(handed_on)
    assert answer.status == 200 or 400 <= answer.status < 500
    for message in handed_on:
        assert message["params"]["state"]
        assert bool(message["params"].get("code")) != bool(message["params"].get("error"))


@settings(max_examples=EXAMPLES, deadline=None)
@given(received=st.one_of(st.binary(max_size=300), BYTES.map(lambda tail: b"HTTP/1.1 200 OK\r\n\r\n" + tail)))
def test_any_answer_from_notifyd_gets_a_page(cgi: ModuleType, received: bytes) -> None:
    """Nonsense from the socket is a 502, never a crash and never a success."""

    def ask(run: str, message: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        try:
            return cgi.read_answer(received)
        except (ValueError, UnicodeDecodeError):
            raise cgi.Failed(502, "t", "d") from None

    answer = subject.request(cgi, subject.query("state=a&code=b"), ask=ask)
    assert answer.status in cgi.REASONS
    assert "<script" not in answer.body
    cgi.complete(received)
