"""Mail in, RFC 5322 bytes out: from the API's JSON, or from a finished message that a program hands in."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from unicodedata import category

from notifyd.core.addresses import Mailbox, check_address, format_mailbox, format_mailboxes, parse_mailboxes
from notifyd.core.mime import (
    BadHeader,
    Field,
    base64_lines,
    is_seven_bit,
    multipart,
    normalise_entity,
    parameter,
    render_field,
    split_head,
    text_field,
    text_part,
    unify_lines,
)
from notifyd.core.outbox import Priority

MAX_RECIPIENTS = 1_000
MAX_SUBJECT = 900
MAX_ATTACHMENTS = 100
MAX_FILENAME = 200

CLOCK_FLOOR = 1_735_689_600.0
"""1 January 2025: a clock that shows less was never set, and its date is not written into a mail at acceptance."""

LAST_DATE = 253_402_300_799.0  # the end of the year 9999: a clock beyond it still gives a date

_KEYS = frozenset("to cc bcc subject text html attachments priority idempotency_key".split())
_ATTACHMENT_KEYS = frozenset("filename content_type content_base64 inline content_id".split())
_CONTENT_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}")
_TOKEN = re.compile(r"[A-Za-z0-9._@+-]{1,200}")
_DROPPED = frozenset(
    "bcc resent-bcc return-path content-length status x-status lines delivered-to errors-to apparently-to".split()
)
_UNROUTABLE = (".local", ".localdomain", ".lan", ".home", ".internal", ".invalid")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class FieldFault:
    """What is wrong with one field; pointer is an RFC 6901 JSON pointer such as `/to/0`."""

    pointer: str
    detail: str


class InvalidMail(ValueError):
    """A mail that cannot be accepted as it is (422); nothing in the texts echoes what was submitted."""

    def __init__(self, *errors: FieldFault) -> None:
        super().__init__("; ".join(f"{error.pointer}: {error.detail}" for error in errors))
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes along; inline ones are shown inside the HTML as `cid:<content_id>`."""

    filename: str
    content_type: str
    content: bytes
    inline: bool = False
    content_id: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """A mail as a caller describes it. All values are checked by `parse_request`; build one yourself only from
    constants and checked addresses."""

    to: tuple[Mailbox, ...]
    subject: str
    text: str = ""
    html: str = ""
    cc: tuple[Mailbox, ...] = ()
    bcc: tuple[Mailbox, ...] = ()
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class MailRequest:
    """The body of `POST /api/v1/mail`."""

    draft: Draft
    priority: Priority
    idempotency_key: str | None


@dataclass(frozen=True, slots=True)
class Stamp:
    """What makes a mail unique. wall: seconds since 1970, for its Date; unique: at least 64 random bits as text."""

    wall: float
    unique: str


@dataclass(frozen=True, slots=True)
class Composed:
    """A mail ready for the queue.

    raw: the message, CRLF line ends, without Bcc; the sender is put in when it is sent (`readdress`).
    recipients: envelope addresses, each once; fingerprint: equal for two submissions that say the same.
    utf8: an address needs SMTPUTF8; eight_bit: the body needs 8BITMIME.
    """

    sender: str
    recipients: tuple[str, ...]
    subject: str
    message_id: str
    raw: bytes
    fingerprint: str
    utf8: bool = False
    eight_bit: bool = False


def parse_request(body: Mapping[str, object]) -> MailRequest:
    """Check the JSON of `POST /api/v1/mail`; InvalidMail names every field that is wrong."""
    faults = [FieldFault(f"/{key}", "unknown field") for key in sorted(body.keys() - _KEYS)]
    to, cc, bcc = (_mailboxes(body.get(key), f"/{key}", faults) for key in ("to", "cc", "bcc"))
    if not (to or cc or bcc) and not faults:
        faults.append(FieldFault("/to", "at least one recipient is needed"))
    if len(to) + len(cc) + len(bcc) > MAX_RECIPIENTS:
        faults.append(FieldFault("/to", f"at most {MAX_RECIPIENTS} recipients"))
    subject = _line(body.get("subject", ""), "/subject", faults, MAX_SUBJECT)
    text, html = (_text(body.get(key, ""), f"/{key}", faults) for key in ("text", "html"))
    attachments = _attachments(body.get("attachments"), faults)
    priority = Priority.REPORT
    try:
        priority = Priority.named(str(body.get("priority", "report")))
    except ValueError as error:
        faults.append(FieldFault("/priority", str(error)))
    key = _line(body.get("idempotency_key") or "", "/idempotency_key", faults, 200)
    if faults:
        raise InvalidMail(*faults)
    return MailRequest(Draft(to, subject, text, html, cc, bcc, attachments), priority, key or None)


def test_draft(to: str, gateway: str) -> Draft:
    """The test mail of the page; InvalidMail when `to` is not an address. gateway: the name it speaks for."""
    faults: list[FieldFault] = []
    boxes = _mailboxes(to, "/to", faults)
    if not boxes and not faults:
        faults.append(FieldFault("/to", "at least one recipient is needed"))
    if faults:
        raise InvalidMail(*faults)
    text = (
        f"This is a test mail from the gateway {gateway}.\n\n"
        "It was asked for on the page System > Notification > Mail Server.\n"
        "That you can read it shows that the gateway's notifications reach you.\n"
    )
    return Draft(boxes, f"Test mail from {gateway}", text)


test_draft.__test__ = False  # type: ignore[attr-defined]  # its name begins like a test's: pytest must not collect it


def compose(draft: Draft, sender: str, stamp: Stamp) -> Composed:
    """A message from a draft: plain text, text with HTML, inline images, attachments; always 7-bit."""
    domain = sender.rpartition("@")[2] or "notifyd.invalid"
    message_id = f"<{stamp.unique}@{domain}>"
    head = [
        render_field(Field("From", sender)) if sender else b"",
        *_address_fields(draft),
        text_field("Subject", draft.subject),
        *_date_field(stamp.wall),
        f"Message-ID: {message_id}\r\n".encode(),
        b"Auto-Submitted: auto-generated\r\n",  # RFC 3834: keeps out-of-office replies away
        b"MIME-Version: 1.0\r\n",
    ]
    recipients = _unique(box.address for box in (*draft.to, *draft.cc, *draft.bcc))
    raw = b"".join(head) + _entity(draft, stamp.unique)
    return Composed(
        sender,
        recipients,
        draft.subject,
        message_id,
        raw,
        _fingerprint_of(draft),
        utf8=not _ascii((*recipients, sender)),
    )


def adopt(
    raw: bytes, recipients: Sequence[str] | None, sender: str, stamp: Stamp, *, local_to: str = "", name: str = ""
) -> Composed:
    """A finished message (RFC 5322, as sendmail takes it) made fit to be queued.

    recipients: the envelope; None takes them from To, Cc and Bcc. Bcc never stays. A bare local name such as `root`
    means `local_to`, else the sender. name: display name of the sender when the message has none.
    Raises InvalidMail for a head that could be read in two ways, and for missing or impossible recipients.
    """
    try:
        fields, body = split_head(raw)
    except BadHeader as error:
        raise InvalidMail(FieldFault("/", str(error))) from None
    local = local_to or sender
    if recipients is None:
        recipients = [box.address for f in fields if f.key in ("to", "cc", "bcc") for box in parse_mailboxes(f.value)]
    envelope = _envelope(recipients, local)
    fields, body = normalise_entity(_kept(fields, sender, stamp, name), unify_lines(body.replace(b"\0", b"")))
    values = {field.key: field.value for field in fields}
    head = b"".join(map(render_field, fields))
    said = hashlib.sha256(raw + json.dumps(sorted(envelope)).encode()).hexdigest()
    return Composed(
        sender,
        envelope,
        values.get("subject", "")[:MAX_SUBJECT],
        values["message-id"],
        head + b"\r\n" + body,
        said,
        utf8=not _ascii(envelope) or not head.isascii(),
        eight_bit=not is_seven_bit(body),
    )


def readdress(raw: bytes, sender: str, wall: float) -> bytes:
    """A queued message with From set to the mailbox that sends it, at the time of sending.

    Exchange refuses any other address (5.2.252), and repeating that blocks the mailbox. The display name stays; the
    address that was there becomes Reply-To when it looks as if it could be reached.
    """
    fields, body = split_head(raw)
    old = next((box for f in fields if f.key == "from" for box in parse_mailboxes(f.value)), Mailbox("", ""))
    kept = [field for field in fields if field.key not in ("from", "sender")]
    new = [Field("From", format_mailbox(Mailbox(old.name, sender)))]
    if _reachable(old.address, sender) and not any(field.key == "reply-to" for field in kept):
        new.append(Field("Reply-To", old.address))
    dated = [] if any(field.key == "date" for field in kept) else [f"Date: {format_date(wall)}\r\n".encode()]
    return b"".join((*map(render_field, new), *dated, *map(render_field, kept), b"\r\n", body))


def format_date(wall: float) -> str:
    """An RFC 5322 date in UTC, whatever the locale."""
    t = datetime.fromtimestamp(min(max(wall, 0.0), LAST_DATE), UTC)
    return f"{_DAYS[t.weekday()]}, {t.day} {_MONTHS[t.month - 1]} {t.year} {t:%H:%M:%S} +0000"


def _date_field(wall: float) -> list[bytes]:
    return [f"Date: {format_date(wall)}\r\n".encode()] if wall >= CLOCK_FLOOR else []


def _address_fields(draft: Draft) -> list[bytes]:
    named = [("To", draft.to), ("Cc", draft.cc)]
    fields = [render_field(Field(name, format_mailboxes(boxes))) for name, boxes in named if boxes]
    return fields or [b"To: undisclosed-recipients:;\r\n"]


def _entity(draft: Draft, unique: str) -> bytes:
    inline = [a for a in draft.attachments if a.inline]
    attached = [a for a in draft.attachments if not a.inline]
    entity = text_part(draft.text or _text_of(draft.html), "plain")
    if draft.html:
        html = text_part(draft.html, "html")
        if inline:
            html = multipart("related", f"=_r{unique}", [html, *map(_attachment_part, inline)])
        entity = multipart("alternative", f"=_a{unique}", [entity, html])
    else:
        attached = [*inline, *attached]
    if attached:
        entity = multipart("mixed", f"=_m{unique}", [entity, *map(_attachment_part, attached)])
    return entity


def _attachment_part(attachment: Attachment) -> bytes:
    kind = attachment.content_type.lower()
    if kind.startswith(("multipart/", "message/")):  # those must not be base64 (RFC 2045 §6.4)
        kind = "application/octet-stream"
    disposition = "inline" if attachment.inline else "attachment"
    head = [f"Content-Type: {kind}", f"Content-Disposition: {disposition}{parameter('filename', attachment.filename)}"]
    if attachment.content_id:
        head.append(f"Content-ID: <{attachment.content_id}>")
    head.append("Content-Transfer-Encoding: base64")
    return "\r\n".join((*head, "", "")).encode() + base64_lines(attachment.content)


def _text_of(html: str) -> str:
    """A plain reading of HTML for readers that show none: tags go, the commonest entities come back."""
    text = re.sub(r"(?is)<(script|style)\b.*?</\1\s*>|<!--.*?-->", "", html)
    text = re.sub(r"(?i)<(?:br|/p|/div|/tr|/h[1-6]|/li)\b[^>]*>", "\n", text)
    text = re.sub(r"<[^<>]*>", "", text)
    for entity, char in (("&nbsp;", " "), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        text = text.replace(entity, char)
    return re.sub(r"\n\s*\n+", "\n\n", text).strip()


def _kept(fields: list[Field], sender: str, stamp: Stamp, name: str) -> list[Field]:
    kept = [field for field in fields if field.key not in _DROPPED]
    have = {field.key for field in kept}
    added = []
    if "from" not in have and sender:
        added.append(Field("From", format_mailbox(Mailbox(name, sender))))
    if not have & {"to", "cc"}:
        added.append(Field("To", "undisclosed-recipients:;"))
    if "message-id" not in have or not _message_id(kept):
        kept = [field for field in kept if field.key != "message-id"]
        added.append(Field("Message-ID", f"<{stamp.unique}@{sender.rpartition('@')[2] or 'notifyd.invalid'}>"))
    if "date" not in have and stamp.wall >= CLOCK_FLOOR:
        added.append(Field("Date", format_date(stamp.wall)))
    if "mime-version" not in have:
        added.append(Field("MIME-Version", "1.0"))
    return [*added, *kept]


def _message_id(fields: list[Field]) -> str:
    return next((field.value for field in fields if field.key == "message-id"), "")


def _envelope(recipients: Iterable[str], local_to: str) -> tuple[str, ...]:
    found: list[str] = []
    for number, text in enumerate(recipients):
        _, at, domain = text.strip().rpartition("@")
        is_local = (not at and domain) or domain.lower() in ("localhost", "localhost.localdomain")
        try:
            found.append(check_address(local_to if is_local and local_to else text.strip()))
        except ValueError as error:
            raise InvalidMail(FieldFault(f"/to/{number}", str(error))) from None
    if not found:
        raise InvalidMail(FieldFault("/to", "at least one recipient is needed"))
    if len(found) > MAX_RECIPIENTS:
        raise InvalidMail(FieldFault("/to", f"at most {MAX_RECIPIENTS} recipients"))
    return _unique(found)


def _reachable(address: str, sender: str) -> bool:
    domain = address.rpartition("@")[2].lower()
    try:
        check_address(address)
    except ValueError:
        return False
    return "." in domain and not domain.endswith(_UNROUTABLE) and address.lower() != sender.lower()


def _mailboxes(value: object, pointer: str, faults: list[FieldFault]) -> tuple[Mailbox, ...]:
    items = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(items, list):
        faults.append(FieldFault(pointer, "expected an address or a list of addresses"))
        return ()
    boxes: list[Mailbox] = []
    for number, item in enumerate(items):
        at = pointer if isinstance(value, str) else f"{pointer}/{number}"
        line = _line(item, at, faults, 10_000)
        for box in parse_mailboxes(line):
            try:
                boxes.append(Mailbox(box.name[:MAX_FILENAME], check_address(box.address)))
            except ValueError as error:
                faults.append(FieldFault(at, str(error)))
    return tuple(boxes)


def _line(value: object, pointer: str, faults: list[FieldFault], limit: int) -> str:
    """One line of text: any control or line-breaking character is refused, so it can never start a new header."""
    if not isinstance(value, str):
        faults.append(FieldFault(pointer, "expected text"))
    elif len(value) > limit:
        faults.append(FieldFault(pointer, f"at most {limit} characters"))
    elif not all(c.isprintable() or c == "\t" or category(c) == "Zs" for c in value):
        faults.append(FieldFault(pointer, "control characters and line breaks are not allowed"))
    else:
        return value.replace("\t", " ").strip()
    return ""


def _text(value: object, pointer: str, faults: list[FieldFault]) -> str:
    if not isinstance(value, str):
        faults.append(FieldFault(pointer, "expected text"))
    elif "\0" in value:
        faults.append(FieldFault(pointer, "NUL is not allowed"))
    else:
        return value
    return ""


def _attachments(value: object, faults: list[FieldFault]) -> tuple[Attachment, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MAX_ATTACHMENTS:
        faults.append(FieldFault("/attachments", f"expected a list of at most {MAX_ATTACHMENTS} attachments"))
        return ()
    return tuple(_attachment(item, f"/attachments/{number}", faults) for number, item in enumerate(value))


def _attachment(item: object, pointer: str, faults: list[FieldFault]) -> Attachment:
    if not isinstance(item, Mapping):
        faults.append(FieldFault(pointer, "expected an object"))
        return Attachment("", "", b"")
    faults.extend(FieldFault(f"{pointer}/{key}", "unknown field") for key in sorted(item.keys() - _ATTACHMENT_KEYS))
    filename = _line(item.get("filename", "attachment"), f"{pointer}/filename", faults, MAX_FILENAME)
    kind = _line(item.get("content_type", "application/octet-stream"), f"{pointer}/content_type", faults, 201)
    content_id = _line(item.get("content_id") or "", f"{pointer}/content_id", faults, 200).strip("<>")
    if kind and not _CONTENT_TYPE.fullmatch(kind):
        faults.append(FieldFault(f"{pointer}/content_type", "expected a type such as image/png"))
    if content_id and not _TOKEN.fullmatch(content_id):
        faults.append(FieldFault(f"{pointer}/content_id", "only letters, digits and . _ @ + - are allowed"))
    inline = item.get("inline", False)
    if not isinstance(inline, bool):
        faults.append(FieldFault(f"{pointer}/inline", "expected true or false"))
    try:
        content = base64.b64decode(str(item.get("content_base64", "")), validate=True)
    except ValueError:
        faults.append(FieldFault(f"{pointer}/content_base64", "not base64"))
        content = b""
    return Attachment(filename.replace("/", "_"), kind, content, inline is True, content_id)


def _fingerprint_of(draft: Draft) -> str:
    digest = hashlib.sha256(repr((draft.to, draft.cc, draft.bcc, draft.subject, draft.text, draft.html)).encode())
    for a in draft.attachments:
        digest.update(repr((a.filename, a.content_type, a.inline, a.content_id, len(a.content))).encode() + a.content)
    return digest.hexdigest()


def _unique(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(addresses))


def _ascii(texts: Iterable[str]) -> bool:
    return all(text.isascii() for text in texts)
