"""sendmail's command line: what mailing programs really pass."""

from __future__ import annotations

import pytest

from notifyd.sendmail import Usage, Wish, dressed, exit_status, parse, portions


def wish(*arguments: str, program: str = "sendmail") -> Wish:
    return parse(program, list(arguments))


@pytest.mark.parametrize(
    ("line", "recipients", "extract", "dot_ends", "name"),
    [
        ("-i -FCronDaemon -B8BITMIME -oem root", ["root"], False, False, "CronDaemon"),
        ("-t", [], True, True, ""),
        ("-ti", [], True, False, ""),
        ("-oi -t -f root@gw", [], True, False, ""),
        ("-froot a@b.c d@e.f", ["a@b.c", "d@e.f"], False, True, ""),
        ("-bm -r x -- -a@b.c", ["-a@b.c"], False, True, ""),
        ("-N never -R hdrs -V id -O IgnoreDots -v a@b.c", ["a@b.c"], False, False, ""),
        ("-G -i -L tag -X /log -h 3 -p proto:host a@b.c", ["a@b.c"], False, False, ""),
    ],
)
def test_the_usual_command_lines_are_understood(
    line: str, recipients: list[str], extract: bool, dot_ends: bool, name: str
) -> None:
    """cron, mail, smartd, mdadm, PHP and scripts: their options, attached or apart."""
    found = wish(*line.split())
    assert (found.recipients, found.extract, found.dot_ends, found.name) == (recipients, extract, dot_ends, name)


@pytest.mark.parametrize("line", ["-Z", "-f", "-t -F", "--help-me"])
def test_a_line_that_makes_no_sense_is_a_usage_error(line: str) -> None:
    """64 instead of a guess."""
    if line == "--help-me":
        assert wish("--", line).recipients == [line]
        return
    with pytest.raises(Usage):
        wish(*line.split())


def test_the_programs_other_names_are_other_modes() -> None:
    """mailq lists, newaliases has nothing to do."""
    assert (wish(program="mailq").mode, wish(program="newaliases").mode, wish("-bp").mode) == ("p", "i", "p")


def test_a_senders_name_and_more_recipients_become_header_fields() -> None:
    """-F only without a From; recipients beside -t as Bcc, which notifyd drops after reading."""
    named = dressed(wish("-F", 'The "UPS"', "-t", "x@example.org"), b"From a@b Thu\nTo: a@b.c\n\nhi\n")
    assert named.startswith(b'From: "The \\"UPS\\"" <uid')
    assert b"\nBcc: x@example.org\nTo: a@b.c\n\nhi\n" in named
    assert dressed(wish("-F", "x", "a@b.c"), b"from: y@z\n\nhi") == b"from: y@z\n\nhi"


@pytest.mark.parametrize("text", ["a\nBcc: evil@example.org", "a\rb", "a\0b", "a\x85b", "a\u2028b"])
def test_no_option_can_add_a_header(text: str) -> None:
    """Line breaks in -F or in an address are refused."""
    with pytest.raises(Usage):
        dressed(wish("-F", text, "-t"), b"\n")
    with pytest.raises(Usage):
        portions([text])


def test_many_recipients_go_in_several_requests() -> None:
    """A query string has its limits; nobody is forgotten."""
    many = [f"user{number:04}@contoso.example" for number in range(1_000)]
    parts = portions(many)
    assert ",".join(parts).split(",") == many
    assert all(len(part) < 4_000 for part in parts)


@pytest.mark.parametrize(
    ("status", "code"), [(422, 65), (400, 65), (403, 77), (413, 69), (507, 75), (503, 75), (500, 75), (429, 75)]
)
def test_answers_become_sysexits(status: int, code: int) -> None:
    """What is full or broken for now is EX_TEMPFAIL; what is wrong with the mail is EX_DATAERR."""
    assert exit_status(status) == code
