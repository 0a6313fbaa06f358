"""RFC 5322 and MIME on bytes: header fields, parts, transfer encodings.

Written out instead of using the standard library's `email` package: that one costs memory for as long as the service
lives, and it repairs or folds what is meant to be refused. Everything made here is 7-bit with lines within limits.
"""

from __future__ import annotations

import base64
import quopri
import re
from dataclasses import dataclass
from urllib.parse import quote

from notifyd.core.addresses import encoded_words, format_mailboxes, parse_mailboxes

LINE_OCTETS = 998
"""Longest line without its CRLF (RFC 5322 §2.1.1)."""

FOLD_AT = 76
WORD_CHARS = 240
"""Longest word kept whole: 4 octets a character at most, so a line never passes the limit."""

NESTING = 20
"""Deepest multipart that is looked into; what lies deeper is left as it is."""

_NAME = re.compile(rb"[!-9;-~]+")
_LINE_END = re.compile(rb"\r\n|\r|\n")
_BOUNDARY = re.compile(r"""boundary\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))""", re.IGNORECASE)
_ADDRESS_FIELDS = frozenset(("from", "sender", "reply-to", "to", "cc", "bcc", "resent-to", "resent-cc", "resent-from"))


@dataclass(frozen=True, slots=True)
class Field:
    """One header field: its name as written and its unfolded value, any octet outside ASCII decoded."""

    name: str
    value: str

    @property
    def key(self) -> str:
        """The name for comparing."""
        return self.name.lower()


class BadHeader(ValueError):
    """The head of a message holds what could be read as something else by somebody else."""


def unify_lines(raw: bytes) -> bytes:
    """Every CR, LF and CRLF as CRLF: no reader behind us can see a line end where we saw none."""
    return _LINE_END.sub(b"\r\n", raw)


def split_head(raw: bytes) -> tuple[list[Field], bytes]:
    """Fields and body of a message or part. Lines may end in LF or CRLF; a bare CR or a NUL in the head is refused.

    A line that is no field ends the head, as sendmail has always done it; a leading mbox "From " line is dropped.
    """
    fields: list[tuple[bytes, bytes]] = []
    at = 0
    while at < len(raw):
        end = raw.find(b"\n", at)
        line, following = (raw[at:], len(raw)) if end < 0 else (raw[at:end], end + 1)
        line = line.removesuffix(b"\r")
        if not line:
            at = following
            break
        if line[:1] in b" \t" and fields:
            fields[-1] = (fields[-1][0], fields[-1][1] + b" " + line.strip(b" \t"))
        elif not (at == 0 and line.startswith(b"From ")):
            name, colon, value = line.partition(b":")
            if not colon or not _NAME.fullmatch(name.rstrip(b" \t")):
                break
            fields.append((name.rstrip(b" \t"), value.strip(b" \t")))
        at = following
    return [_field(name, value) for name, value in fields], raw[at:]


def _field(name: bytes, value: bytes) -> Field:
    if b"\r" in value or b"\0" in value:
        raise BadHeader(f"the header field {name.decode('ascii')} holds a bare CR or a NUL")
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return Field(name.decode("ascii"), "".join(c if c.isprintable() else " " for c in text))


def render_field(field: Field) -> bytes:
    """A field as lines of ASCII (UTF-8 only where an address needs it), folded, with its CRLF."""
    value = field.value
    if not value.isascii():
        value = format_mailboxes(parse_mailboxes(value)) if field.key in _ADDRESS_FIELDS else _encode_text(value)
    return _fold(f"{field.name}: {value}").encode() + b"\r\n"


def _encode_text(value: str) -> str:
    """Encode only from the first to the last word that needs it: the rest stays readable and searchable."""
    words = value.split(" ")
    needing = [index for index, word in enumerate(words) if not word.isascii() or word.startswith("=?")]
    first, last = needing[0], needing[-1] + 1
    return " ".join((*words[:first], encoded_words(" ".join(words[first:last])), *words[last:]))


def _fold(line: str) -> str:
    """Broken at blanks where that keeps lines short; a word too long for any line gets a blank."""
    lines: list[str] = []
    current = ""
    for word in line.rstrip().split(" "):
        for piece in (word[at : at + WORD_CHARS] for at in range(0, max(len(word), 1), WORD_CHARS)):
            may_break = current.strip() and not current.endswith(":")
            if may_break and len(current) + 1 + len(piece) > FOLD_AT:
                lines.append(current)
                current = " " + piece
            else:
                current = f"{current} {piece}" if current else piece
    return "\r\n".join((*lines, current))


def text_field(name: str, text: str) -> bytes:
    """An unstructured field from text that was already checked for control characters."""
    return render_field(Field(name, text if text.isascii() and "=?" not in text else encoded_words(text)))


def parameter(name: str, value: str) -> str:
    """A MIME parameter: quoted when ASCII, RFC 2231 with an ASCII fallback when not."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "_" for c in value)
    if plain == value:
        return f'; {name}="{plain}"'
    return f"; {name}*=utf-8''{quote(value, safe='')}"


def text_part(text: str, subtype: str) -> bytes:
    """A text part with its head, in the smallest encoding that is safe: 7bit, quoted-printable or base64."""
    body = unify_lines(text.encode("utf-8", "replace"))
    if not body.endswith(b"\r\n"):
        body += b"\r\n"
    encoding, encoded = encode_body(body)
    charset = "us-ascii" if encoding == "7bit" else "utf-8"
    head = f"Content-Type: text/{subtype}; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + encoded


def encode_body(body: bytes) -> tuple[str, bytes]:
    """(transfer encoding, encoded octets) of a text body with CRLF line ends."""
    if is_seven_bit(body):
        return "7bit", body
    eight = sum(1 for octet in body if octet > 126)
    if eight * 3 > len(body) or b"\0" in body:
        return "base64", base64_lines(body)
    lines = [_quoted_printable(line) for line in body.removesuffix(b"\r\n").split(b"\r\n")]
    return "quoted-printable", b"\r\n".join(lines) + b"\r\n"


def _quoted_printable(line: bytes) -> bytes:
    encoded = quopri.encodestring(line, quotetabs=False).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return b"=46" + encoded[1:] if encoded.startswith(b"From ") else encoded


def is_seven_bit(body: bytes) -> bool:
    """Whether a body may travel as it is: ASCII, no NUL, no bare CR or LF, no line over the limit."""
    if not body.isascii() or b"\0" in body:
        return False
    if body.count(b"\r\n") != body.count(b"\n") or body.count(b"\r\n") != body.count(b"\r"):
        return False
    return all(len(line) <= LINE_OCTETS for line in body.split(b"\r\n"))


def base64_lines(octets: bytes) -> bytes:
    """base64 in lines of 76 characters with CRLF."""
    encoded = base64.b64encode(octets)
    return b"\r\n".join(encoded[at : at + 76] for at in range(0, len(encoded), 76)) + b"\r\n"


def multipart(subtype: str, boundary: str, parts: list[bytes]) -> bytes:
    """A multipart entity with its head."""
    head = f'Content-Type: multipart/{subtype}; boundary="{boundary}"\r\n\r\n'.encode()
    marker = f"--{boundary}".encode()
    inside = b"".join(marker + b"\r\n" + part.removesuffix(b"\r\n") + b"\r\n" for part in parts)
    return head + inside + marker + b"--\r\n"


def normalise_entity(fields: list[Field], body: bytes, depth: int = 0) -> tuple[list[Field], bytes]:
    """A submitted entity made 7-bit with lines within limits, where that changes nothing that it says.

    Text and data are re-encoded, multiparts are walked. Signed and encrypted parts stay octet for octet (the server
    must then take 8BITMIME); nested messages cannot be encoded (RFC 2045 §6.4), their over-long lines are broken.
    """
    kind = _value(fields, "content-type").lower()
    if is_seven_bit(body) or kind.startswith(("multipart/signed", "multipart/encrypted")):
        return fields, body
    if kind.startswith("multipart/"):
        boundary = _BOUNDARY.search(_value(fields, "content-type"))
        if boundary and depth < NESTING:
            name = re.sub(r"\\(.)", r"\1", boundary.group(1)) if boundary.group(1) is not None else boundary.group(2)
            return _without_encoding(fields), _normalise_parts(body, name, depth)
        return fields, break_lines(body)
    if kind.startswith("message/") or _value(fields, "content-transfer-encoding").lower() in (
        "base64",
        "quoted-printable",
    ):
        return fields, break_lines(body)
    encoding, encoded = encode_body(body) if not kind or kind.startswith("text/") else ("base64", base64_lines(body))
    fields = [*_without_encoding(fields), Field("Content-Transfer-Encoding", encoding)]
    if not kind:
        charset = "utf-8" if _is_utf8(body) else "iso-8859-1"
        fields.append(Field("Content-Type", f"text/plain; charset={charset}"))
    return fields, encoded


def _normalise_parts(body: bytes, boundary: str, depth: int) -> bytes:
    marker = b"--" + boundary.encode("utf-8", "replace")
    out: list[bytes] = []
    part: list[bytes] | None = None
    lines = body.split(b"\r\n")
    for number, line in enumerate(lines):
        bare = line.rstrip(b" \t")
        if bare in (marker, marker + b"--"):
            if part is not None:
                out.append(_normalise_part(b"\r\n".join(part), depth))
            out.append(bare)
            part = []
            if bare != marker:
                rest = break_lines(b"\r\n".join(lines[number + 1 :]))
                return b"\r\n".join((*out, rest))
        elif part is None:
            out.append(break_lines(line))
        else:
            part.append(line)
    if part is not None:
        out.append(_normalise_part(b"\r\n".join(part), depth))
    return b"\r\n".join(out)


def _normalise_part(part: bytes, depth: int) -> bytes:
    if is_seven_bit(part):
        return part
    fields, body = split_head(part)
    fields, body = normalise_entity(fields, body, depth + 1)
    return b"".join(map(render_field, fields)) + b"\r\n" + body.removesuffix(b"\r\n")


def break_lines(body: bytes) -> bytes:
    """Over-long lines broken by CRLF and a blank, as Postfix does it (`smtp_line_length_limit`)."""
    if all(len(line) <= LINE_OCTETS for line in body.split(b"\r\n")):
        return body
    step = LINE_OCTETS - 1
    broken = (
        b"\r\n ".join(line[at : at + step] for at in range(0, max(len(line), 1), step)) for line in body.split(b"\r\n")
    )
    return b"\r\n".join(broken)


def _value(fields: list[Field], key: str) -> str:
    return next((field.value for field in fields if field.key == key), "")


def _without_encoding(fields: list[Field]) -> list[Field]:
    return [field for field in fields if field.key != "content-transfer-encoding"]


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
