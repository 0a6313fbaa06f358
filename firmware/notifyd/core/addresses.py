"""Mail addresses: reading a header's list, checking one address, writing it back (RFC 5322 §3.4, RFC 6532)."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass

ADDRESS_OCTETS = 254
LOCAL_OCTETS = 64
"""Limits of RFC 5321 §4.5.3.1 (a path is 256 octets with its angle brackets)."""

_LOCAL = re.compile(
    r"(?:[^\x00-\x20\x7f-\xa0()<>\[\]:;@\\,.\"\u2028\u2029]+\.)*[^\x00-\x20\x7f-\xa0()<>\[\]:;@\\,.\"\u2028\u2029]+"
)
_QUOTED_LOCAL = re.compile(r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e])*"')
_DOMAIN = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*")
_LITERAL = re.compile(r"\[[0-9A-Za-z.:]{2,64}\]")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_ENCODED_NAME = re.compile(r"=\?[!-~]+\?[BbQq]\?[!-~]*\?=(?:\s+=\?[!-~]+\?[BbQq]\?[!-~]*\?=)*")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A display name (may be empty) and an address as written, not yet checked."""

    name: str
    address: str


def check_address(text: str) -> str:
    """The address with its domain in ASCII; ValueError says what is wrong with it (and does not echo it)."""
    local, at, domain = text.rpartition("@")
    if not at or not local or not domain:
        raise ValueError("expected an address such as admin@example.com")
    if not (_LOCAL.fullmatch(local) or _QUOTED_LOCAL.fullmatch(local)) or not local.replace(" ", "x").isprintable():
        raise ValueError("the part before @ holds a character that is not allowed")
    if not domain.isascii():
        try:
            domain = domain.encode("idna").decode("ascii")
        except UnicodeError:
            raise ValueError("the part behind @ is not a domain name") from None
    if not (_DOMAIN.fullmatch(domain) or _LITERAL.fullmatch(domain)):
        raise ValueError("the part behind @ is not a domain name")
    if len(local.encode()) > LOCAL_OCTETS or len(local.encode()) + 1 + len(domain) > ADDRESS_OCTETS:
        raise ValueError("the address is too long")
    return f"{local}@{domain}"


def parse_mailboxes(text: str) -> list[Mailbox]:
    """Every mailbox in an address list: quoted names, comments, groups and route-less angle addresses.

    Tolerant: what is not an address comes back as one and is refused by `check_address`.
    """
    return _Reader(text).mailboxes()


class _Reader:
    """Walks an address list once; no backtracking, so a hostile header costs its length and no more."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._phrase: list[str] = []
        self._raw: list[str] = []
        self._angle: str | None = None
        self._found: list[Mailbox] = []

    def mailboxes(self) -> list[Mailbox]:
        while self._at < len(self._text):
            self._step(self._text[self._at])
        self._flush()
        return self._found

    def _step(self, char: str) -> None:
        self._at += 1
        if char == '"':
            self._quoted()
        elif char == "(":
            self._comment()
        elif char == "<":
            self._angle = self._until(">")
        elif char == "[":
            self._raw.append(f"[{self._until(']')}]")
        elif char in ",;":
            self._flush()
        elif char == ":":
            self._phrase, self._raw = [], []  # a group's name is not needed
        else:
            self._phrase.append(char)
            self._raw.append(char)

    def _quoted(self) -> None:
        start = self._at
        while self._at < len(self._text) and self._text[self._at] != '"':
            self._at += 2 if self._text[self._at] == "\\" else 1
        inside = self._text[start : self._at]
        self._at += 1
        self._raw.append(f'"{inside}"')
        self._phrase.append(re.sub(r"\\(.)", r"\1", inside))

    def _comment(self) -> None:
        depth = 1
        while self._at < len(self._text) and depth:
            char = self._text[self._at]
            depth += {"(": 1, ")": -1}.get(char, 0)
            self._at += 2 if char == "\\" else 1

    def _until(self, end: str) -> str:
        start = self._at
        found = self._text.find(end, start)
        stop = len(self._text) if found < 0 else found
        self._at = stop + 1
        return self._text[start:stop]

    def _flush(self) -> None:
        name = " ".join("".join(self._phrase).split())
        raw = "".join(self._raw).strip()
        if self._angle is not None:
            self._found.append(Mailbox(name, self._angle.strip()))
        elif raw:
            self._found.append(Mailbox("", raw))
        self._phrase, self._raw, self._angle = [], [], None


def encoded_words(text: str) -> str:
    """RFC 2047 encoded words of at most 75 characters, joined by a blank; no character is split over two."""
    words: list[str] = []
    part = b""
    for char in text:
        octets = char.encode("utf-8", "replace")
        if len(part) + len(octets) > 45:
            words.append(base64.b64encode(part).decode())
            part = b""
        part += octets
    words.append(base64.b64encode(part).decode())
    return " ".join(f"=?utf-8?B?{word}?=" for word in words)


def format_mailbox(box: Mailbox) -> str:
    """A mailbox as it is written into a header, in ASCII unless the local part is not."""
    if not box.name:
        return box.address
    if _PLAIN_NAME.fullmatch(box.name) and "=?" not in box.name:
        return f"{box.name} <{box.address}>"
    if _ENCODED_NAME.fullmatch(box.name):
        return f"{box.name} <{box.address}>"
    if box.name.isascii() and box.name.isprintable() and "=?" not in box.name:
        quoted = box.name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}" <{box.address}>'
    return f"{encoded_words(box.name)} <{box.address}>"


def format_mailboxes(boxes: Iterable[Mailbox]) -> str:
    """Several mailboxes as one header value."""
    return ", ".join(format_mailbox(box) for box in boxes)
