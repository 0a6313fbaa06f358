"""Messages: what goes in comes out at the other end, and nothing that goes in becomes a header or a command."""

from __future__ import annotations

import base64
import email
import email.policy
import re
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifyd.core.addresses import Mailbox, check_address, format_mailbox, parse_mailboxes
from notifyd.core.message import (
    Attachment,
    Composed,
    Draft,
    InvalidMail,
    Stamp,
    adopt,
    compose,
    format_date,
    parse_request,
    readdress,
    test_draft,
)
from notifyd.core.mime import is_seven_bit, split_head

SENDER = "gateway@contoso.example"
STAMP = Stamp(1_795_500_000.0, "0123456789abcdef01234567")
NASTY = "\r\n\0\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
TO = (Mailbox("", "admin@contoso.example"),)


def read(raw: bytes) -> EmailMessage:
    return email.message_from_bytes(raw, policy=email.policy.default)


def content(raw: bytes, kind: str) -> str:
    part = read(raw).get_body((kind,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


def fit_for_the_wire(raw: bytes) -> None:
    """Lines end in CRLF only, none is over 998 octets, all is 7-bit, no NUL."""
    assert is_seven_bit(raw)


@pytest.mark.parametrize("char", list(NASTY))
@pytest.mark.parametrize("key", ["to", "cc", "bcc", "subject", "idempotency_key"])
def test_a_line_break_of_any_kind_in_a_field_is_refused(key: str, char: str) -> None:
    """CR, LF, NUL, the separators and NEL never reach a header, not even as a blank."""
    body: dict[str, Any] = {"to": ["a@example.org"], "subject": "s", "text": "t"}
    body[key] = (
        f"x{char}Bcc: evil@example.org" if key in ("subject", "idempotency_key") else [f"a@example.org{char}X: y"]
    )
    with pytest.raises(InvalidMail) as caught:
        parse_request(body)
    assert any(error.pointer.startswith(f"/{key}") for error in caught.value.errors)
    assert "evil" not in str(caught.value)


@pytest.mark.parametrize("char", list(NASTY))
@pytest.mark.parametrize("key", ["filename", "content_type", "content_id"])
def test_a_line_break_in_an_attachments_field_is_refused(key: str, char: str) -> None:
    """The fields of a part's head are checked like those of the message."""
    attachment = {"filename": "a.txt", "content_type": "text/plain", "content_base64": "", key: f"a{char}b"}
    with pytest.raises(InvalidMail) as caught:
        parse_request({"to": "a@example.org", "subject": "s", "attachments": [attachment]})
    assert caught.value.errors[0].pointer == f"/attachments/0/{key}"


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=300), st.text(max_size=2_000), st.text(max_size=60), st.text(max_size=60))
def test_whatever_is_accepted_comes_back_and_adds_no_header(subject: str, text: str, name: str, filename: str) -> None:
    """Any text: refused by field, or read back unchanged by the standard library from a clean 7-bit message."""
    body = {
        "to": [f'"{name.replace(chr(92), "").replace(chr(34), "")}" <a@example.org>'],
        "subject": subject,
        "text": text,
        "attachments": [{"filename": filename, "content_type": "text/plain", "content_base64": "aGk="}],
    }
    try:
        request = parse_request(body)
    except InvalidMail:
        return
    composed = compose(request.draft, SENDER, STAMP)
    fit_for_the_wire(composed.raw)
    fields, _ = split_head(composed.raw)
    assert [f.key for f in fields[:2]] == ["from", "to"]
    assert len(fields) == 8
    message = read(composed.raw)
    assert " ".join(str(message["Subject"]).split()) == " ".join(subject.split())
    wanted = re.sub(r"\r\n|\r|\n", "\n", text.encode("utf-8", "replace").decode())
    assert content(composed.raw, "plain").removesuffix("\n") == wanted.removesuffix("\n")
    assert composed.recipients == ("a@example.org",)


def test_html_inline_images_and_attachments_make_the_usual_tree() -> None:
    """mixed(alternative(plain, related(html, image)), file): what every reader shows right."""
    draft = Draft(
        TO,
        "Daily report",
        html="<p>Traffic: <b>42</b> &amp; more</p><img src='cid:chart'>",
        attachments=(
            Attachment("chart.png", "image/png", b"\x89PNG" * 100, inline=True, content_id="chart"),
            Attachment("tägliche Übersicht.csv", "text/csv", b"a,b\n"),
        ),
    )
    raw = compose(draft, SENDER, STAMP).raw
    fit_for_the_wire(raw)
    message = read(raw)
    assert message.get_content_type() == "multipart/mixed"
    assert [part.get_content_type() for part in message.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "multipart/related",
        "text/html",
        "image/png",
        "text/csv",
    ]
    assert content(raw, "plain").strip() == "Traffic: 42 & more"
    (attached,) = message.iter_attachments()
    assert attached.get_filename() == "tägliche Übersicht.csv"
    assert attached.get_content() == "a,b\n"


def test_bcc_gets_the_mail_and_stays_unseen() -> None:
    """Bcc is in the envelope only."""
    composed = compose(Draft(TO, "s", "t", bcc=(Mailbox("", "secret@example.org"),)), SENDER, STAMP)
    assert composed.recipients == ("admin@contoso.example", "secret@example.org")
    assert b"secret" not in composed.raw


def test_errors_name_every_field_by_pointer() -> None:
    """All faults at once, as RFC 6901 pointers."""
    with pytest.raises(InvalidMail) as caught:
        parse_request({"to": ["nobody", "a@b@c"], "subject": 5, "text": "\0", "priority": "now", "frm": 1})
    assert [e.pointer for e in caught.value.errors] == ["/frm", "/to/0", "/to/1", "/subject", "/text", "/priority"]


def test_two_submissions_that_say_the_same_have_the_same_fingerprint() -> None:
    """The idempotency key can tell a repetition from another mail."""
    draft = Draft(TO, "s", "t")
    one, two = compose(draft, SENDER, STAMP), compose(draft, SENDER, Stamp(1.0, "f" * 24))
    assert one.fingerprint == two.fingerprint
    assert one.message_id != two.message_id
    assert compose(Draft(TO, "s", "u"), SENDER, STAMP).fingerprint != one.fingerprint


def test_the_test_mail_needs_an_address() -> None:
    """`{to}` of the page is checked like any other recipient."""
    assert test_draft("Admin <a@example.org>", "fw").to == (Mailbox("Admin", "a@example.org"),)
    with pytest.raises(InvalidMail):
        test_draft("nobody", "fw")


def adopted(raw: bytes, recipients: list[str] | None = None, **options: str) -> Composed:
    return adopt(raw, recipients, SENDER, STAMP, **options)


def test_a_cron_mail_is_completed_and_goes_to_the_mailbox_of_the_gateway() -> None:
    """A bare local name means the address for local mail; Date, Message-ID and MIME-Version are added."""
    raw = b"From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@gw> run-parts\n\nout\n"
    composed = adopted(raw, ["root"], local_to="it@contoso.example")
    assert composed.recipients == ("it@contoso.example",)
    message = read(readdress(composed.raw, SENDER, STAMP.wall))
    assert message["From"] == "gateway@contoso.example"
    assert message["Message-ID"] == composed.message_id
    assert message["Date"]
    fit_for_the_wire(composed.raw)


def test_recipients_are_read_from_the_headers_and_bcc_is_dropped() -> None:
    """-t: To, Cc and Bcc, with names, groups, comments and quoted commas."""
    raw = (
        b'To: "Doe, Jane" <jane@example.org>, team: a@example.org, b@example.org;\n'
        b"Cc: c@example.org (a comment, with comma)\nBcc: hidden@example.org\nSubject: x\n\nbody\n"
    )
    composed = adopted(raw)
    assert composed.recipients == tuple(f"{n}@example.org" for n in ("jane", "a", "b", "c", "hidden"))
    assert b"hidden" not in composed.raw


@pytest.mark.parametrize("raw", [b"Subject: a\rBcc: evil@example.org\n\nx", b"Subject: a\0b\n\nx", b"X: y\r\r\n\nx"])
def test_a_head_that_could_be_read_in_two_ways_is_refused(raw: bytes) -> None:
    """A bare CR or a NUL in the head of a submitted message is an error, not a repair."""
    with pytest.raises(InvalidMail):
        adopted(raw, ["a@example.org"])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=3_000))
def test_any_bytes_become_a_clean_message_or_a_refusal(junk: bytes) -> None:
    """Whatever a program pipes in: an exception of the right kind, or a message that is fit for the wire."""
    for raw in (junk, b"Subject: x\n\n" + junk, b'Content-Type: multipart/mixed; boundary="b"\n\n--b\n\n' + junk):
        try:
            composed = adopted(raw, ["a@example.org"])
        except InvalidMail:
            continue
        out = readdress(composed.raw, SENDER, STAMP.wall)
        head, _, body = out.partition(b"\r\n\r\n")
        assert head.count(b"\nFrom: ") + head.startswith(b"From: ") == 1
        assert composed.recipients == ("a@example.org",)
        if not composed.eight_bit:
            assert is_seven_bit(body)
        assert head.isascii()
        assert all(len(line) <= 998 for line in out.split(b"\r\n"))
        assert b"\0" not in out


def test_eight_bit_and_long_lines_are_encoded_where_that_loses_nothing() -> None:
    """Text becomes quoted-printable or base64, also inside a multipart; reading gives the same text."""
    text = "Grüße aus dem Maschinenraum\n" + "x" * 2_000 + "\n"
    plain = adopted(b"Subject: x\n\n" + text.encode(), ["a@example.org"])
    fit_for_the_wire(plain.raw)
    assert content(plain.raw, "plain") == text
    nested = (
        b'Content-Type: multipart/mixed; boundary="q"\n\n--q\nContent-Type: text/plain; charset=utf-8\n'
        b"Content-Transfer-Encoding: 8bit\n\n" + text.encode() + b"\n--q--\n"
    )
    inside = adopted(nested, ["a@example.org"])
    fit_for_the_wire(inside.raw)
    assert content(inside.raw, "plain").strip() == text.strip()


def test_signed_parts_stay_octet_for_octet() -> None:
    """A signature would break: such a message asks for 8BITMIME instead."""
    body = b"--s\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n--s--\r\n"
    composed = adopted(b'Content-Type: multipart/signed; boundary="s"\r\n\r\n' + body, ["a@example.org"])
    assert composed.raw.endswith(body)
    assert composed.eight_bit


def test_raw_utf8_in_a_header_is_encoded_and_utf8_addresses_are_marked() -> None:
    """Header text leaves as ASCII; only a local part outside ASCII needs SMTPUTF8."""
    composed = adopted("Subject: Störung am Gerät\nTo: Jörg <j@example.org>\n\nx".encode())
    assert composed.raw.partition(b"\r\n\r\n")[0].isascii()
    assert read(composed.raw)["Subject"] == "Störung am Gerät"
    assert read(composed.raw)["To"].addresses[0].display_name == "Jörg"
    assert not composed.utf8
    assert adopted(b"x", ["jörg@example.org"]).utf8
    assert adopted(b"x", ["j@bücher.example"]).recipients == ("j@xn--bcher-kva.example",)


def test_from_is_the_mailbox_and_the_name_and_way_back_are_kept() -> None:
    """Exchange refuses any other From; the submitter's routable address becomes Reply-To."""
    raw = adopted(b'From: "UPS, rack 3" <ups@facility.example>\nTo: a@example.org\n\nx\n').raw
    message = read(readdress(raw, SENDER, STAMP.wall))
    assert message["From"] == '"UPS, rack 3" <gateway@contoso.example>'
    assert message["Reply-To"] == "ups@facility.example"
    local = adopted(b"From: Cron <root@gw.lan>\nTo: a@example.org\n\nx\n").raw
    assert read(readdress(local, SENDER, STAMP.wall))["Reply-To"] is None


def test_a_clock_that_was_never_set_writes_no_date_at_acceptance() -> None:
    """The date is put in at the time of sending, when the clock may be right."""
    composed = compose(Draft(TO, "s", "t"), SENDER, Stamp(86_400.0, "a" * 24))
    assert b"\nDate:" not in composed.raw
    sent = readdress(composed.raw, SENDER, 1_795_500_000.0)
    assert b"Date: Tue, 24 Nov 2026 06:00:00 +0000\r\n" in sent
    assert sent.count(b"\r\nDate:") == 1


def test_dates_are_in_range_whatever_the_clock_shows() -> None:
    """A clock beyond all years is no crash."""
    assert format_date(-5.0).startswith("Thu, 1 Jan 1970")
    assert format_date(1e18).endswith("23:59:59 +0000")


@pytest.mark.parametrize(
    "address",
    ["a@example.org", "a+b.c@xn--bcher-kva.example", '"john doe"@example.org', "jörg@example.org", "a@[192.168.1.1]"],
)
def test_good_addresses_pass(address: str) -> None:
    """Dot-atoms, quoted local parts, UTF-8 local parts, address literals."""
    assert check_address(address) == address


@pytest.mark.parametrize(
    "address",
    ["", "a", "a@", "@b", "a b@c.d", "a@b c", "a@-b.c", "<a@b.c>", "a..b@c.d", "a@b@c.d", "a@b.c>", "a\u2028@b.c",
     "x" * 65 + "@b.c", "a@" + "b" * 64 + ".c", "a@b.c\n", "a\x85b@c.d", '"a\nb"@c.d'],
)  # fmt: skip
def test_bad_addresses_are_refused(address: str) -> None:
    """Nothing that could end an SMTP path or a header passes."""
    with pytest.raises(ValueError, match=r"\w"):
        check_address(address)


@given(st.text(max_size=200))
def test_any_list_of_addresses_is_read_in_one_pass(text: str) -> None:
    """No exception, no address lost to the reader's own formatting."""
    for box in parse_mailboxes(text):
        try:
            address = check_address(box.address)
        except ValueError:
            continue
        assert [b.address for b in parse_mailboxes(format_mailbox(Mailbox(box.name, address)))] == [address]


def test_attachments_must_be_base64() -> None:
    """A broken attachment is refused by pointer instead of sent broken."""
    with pytest.raises(InvalidMail) as caught:
        parse_request({"to": "a@example.org", "subject": "", "attachments": [{"filename": "f", "content_base64": "*"}]})
    assert caught.value.errors[0].pointer == "/attachments/0/content_base64"
    good = base64.b64encode(bytes(range(256))).decode()
    request = parse_request({"to": "a@example.org", "subject": "", "attachments": [{"content_base64": good}]})
    assert request.draft.attachments[0].content == bytes(range(256))
