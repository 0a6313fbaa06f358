"""What faults mean: every number, every reply, every network fault, in the administrator's words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyd.core.event_definitions import DEFINITIONS
from notifyd.core.events import Failure, FailureKind, OAuthError
from notifyd.core.problem import Actor, Source
from notifyd.core.problem_table import Row, entra, network, oauth, own, smtp
from notifyd.core.problems import (
    LONGEST_DETAIL,
    all_rows,
    clean,
    entra_problem,
    named,
    network_problem,
    oauth_problem,
    smtp_problem,
)

# The numbers of docs "AADSTS codes an administrator can meet", written down independently of the table.
NUMBERS = [int(word) for word in """
90002 900023 90038 900439 900382 900432 50049 50059 90019 50128 50194 700016 700011 70001 7000112 50011 500113
900971 70004 700005 90102 7000215 7000222 70002 7000218 700025 700024 700027 700030 50012 50048 70011 28002 28003
700023 700022 901002 65001 65004 90094 90095 90008 650056 650057 65005 65006 650052 650054 500011 500014 50001
50105 50020 16000 16003 51004 50034 90072 500208 50126 50053 50055 50144 50056 50057 50058 50072 50079 50074 50076
50078 500121 50158 50097 50129 53001 53000 530003 53003 530032 530035 53004 53011 50135 50131 500021 500022 500212
500213 50173 50132 50133 50089 70000 70008 700082 70043 700084 54005 501481 50147 501491 9002313 90014 900144 90013
90023 90100 90004 90015 90056 900561 70003 70005 70007 700054 50196 90055 90033 90006 90012 90024 90090 50033 50087
40010 80005 50088 90036 50000 50086 70012 80001 80002 80007 80014 80012 80013 50140 50199 16001 1002016 1000031
""".split()]  # fmt: skip


def describe(number: int) -> str:
    return (
        f"AADSTS{number}: Something went wrong.\r\nTrace ID: 255d1aef-8c98-452f-ac51-23d051240864\r\n"
        "Correlation ID: fb3d2015-bc17-4bb9-bb85-30c5cf1aaaa7\r\nTimestamp: 2026-11-25 02:02:12Z"
    )


def test_all_143_numbers_are_known() -> None:
    """No number of the facts is missing, none was invented."""
    assert len(NUMBERS) == len(set(NUMBERS)) == 143
    assert {number for row in entra.ROWS for number in entra.numbers(row)} == set(NUMBERS)


@pytest.mark.parametrize("number", NUMBERS)
def test_every_number_has_its_own_words(number: int) -> None:
    """From the token endpoint and from the redirect: title, remedy, Microsoft's text and both identifiers."""
    failure = Failure(400, "invalid_grant", description=describe(number), codes=(number,))
    for problem in (entra_problem(failure, 5.0), oauth_problem(OAuthError("invalid_grant", describe(number)), 5.0)):
        row = next(row for row in entra.ROWS if number in entra.numbers(row))
        assert problem.code == f"AADSTS{number}"
        assert (problem.title, problem.remedy) == (row.title, row.remedy)
        assert problem.detail == f"AADSTS{number}: Something went wrong."
        assert problem.trace_id == "255d1aef-8c98-452f-ac51-23d051240864"
        assert problem.correlation_id == "fb3d2015-bc17-4bb9-bb85-30c5cf1aaaa7"
        assert (problem.since, problem.source) == (5.0, Source.ENTRA)
        assert problem.transient == (row.actor is Actor.NOBODY)


@pytest.mark.parametrize("row", all_rows(), ids=lambda row: row.code)
def test_every_row_tells_what_to_do(row: Row) -> None:
    """A title without a full stop, a remedy with one, a defined event, and what notifyd does meanwhile."""
    assert row.title
    assert not row.title.endswith(".")
    assert row.remedy.endswith(".")
    assert row.does.endswith(".")
    assert row.event in DEFINITIONS
    assert row.code.split()
    assert "\n" not in row.title + row.remedy + row.does


def test_no_two_rows_share_a_code() -> None:
    """A code leads to one row of docs/problems.md."""
    codes = [code for row in all_rows() for code in row.code.split()]
    assert len(codes) == len(set(codes))


def test_a_remedy_for_a_person_names_a_place() -> None:
    """Whoever must act reads the field, button, portal page, or device part to go to."""
    places = re.compile(
        r"field|Get New Token|Apply|Entra|Microsoft|Exchange|portal|System|Conditional Access|firmware|proxy|password|"
        r"token status|TLS|recipient|sender|reply|report|storage|subscription|Active Directory|firewall",
        re.IGNORECASE,
    )
    assert not [row.code for row in all_rows() if row.actor is not Actor.NOBODY and not places.search(row.remedy)]


def test_an_unknown_number_reads_as_its_class_and_keeps_microsofts_text() -> None:
    """New numbers come every year."""
    problem = entra_problem(Failure(400, "invalid_grant", codes=(99999999,), description=describe(99999999)), 0.0)
    assert problem.code == "AADSTS99999999"
    assert problem.title == next(row.title for row in oauth.ERRORS if row.code == "oauth.invalid_grant")
    assert problem.detail == "AADSTS99999999: Something went wrong."
    assert problem.trace_id


@pytest.mark.parametrize(
    ("failure", "code", "title_of"),
    [
        (Failure(400, "brand_new"), "oauth.brand_new", "oauth.config"),
        (Failure(401, "brand_new"), "oauth.brand_new", "oauth.client"),
        (Failure(400, "x", "basic_action"), "oauth.x", "oauth.sign-in"),
        (Failure(502), "http.502", "oauth.transient"),
        (Failure(400, "Ev\u202eil<script>\r\n"), "oauth.evilscript", "oauth.config"),
        (Failure(), "http.0", "oauth.transient"),
    ],
)
def test_an_unknown_error_reads_as_its_class(failure: Failure, code: str, title_of: str) -> None:
    """And its name, cleaned, is the code."""
    problem = entra_problem(failure, 0.0)
    assert problem.code == code
    assert problem.title == next(row.title for row in oauth.ERRORS if row.code == title_of)


@pytest.mark.parametrize("row", oauth.ERRORS, ids=lambda row: row.code)
def test_every_oauth_error_has_its_own_words(row: Row) -> None:
    """Used when Microsoft gives no number."""
    problem = entra_problem(Failure(400, row.code.removeprefix("oauth.")), 0.0)
    if "-" not in row.code and row.code not in ("oauth.transient", "oauth.client", "oauth.config"):
        assert problem.title == row.title
        assert problem.code == row.code


def test_the_first_known_number_counts() -> None:
    """Microsoft sometimes gives several."""
    problem = entra_problem(Failure(400, "invalid_client", codes=(1, 7000222)), 0.0)
    assert problem.code == "AADSTS7000222"


def test_a_permanent_number_in_a_transient_answer_is_transient() -> None:
    """Status 503 decides, whatever the text says."""
    problem = entra_problem(Failure(503, "invalid_grant", codes=(50173,)), 0.0)
    assert problem.transient
    assert problem.actor is Actor.NOBODY


@pytest.mark.parametrize(
    ("kind", "error", "code", "source"),
    [
        (FailureKind.NETWORK, "", "network.network", Source.NETWORK),
        (FailureKind.DNS, "", "network.dns", Source.NETWORK),
        (FailureKind.TIMEOUT, "", "network.timeout", Source.NETWORK),
        (FailureKind.MALFORMED, "", "network.malformed", Source.NETWORK),
        (FailureKind.TLS, "", "tls.tls", Source.TLS),
        (FailureKind.TLS_TIME, "", "clock.wrong", Source.CLOCK),
        (FailureKind.WORKER, "", "worker.failed", Source.STORE),
        (FailureKind.STORE, "unreadable", "store.unreadable", Source.STORE),
        (FailureKind.STORE, "no_secret", "store.no-secret", Source.STORE),
        (FailureKind.STORE, "what?", "store.unreadable", Source.STORE),
    ],
)
def test_a_request_without_an_answer_is_named(kind: FailureKind, error: str, code: str, source: Source) -> None:
    """Network, TLS, clock, worker and store faults are told apart."""
    problem = entra_problem(Failure(kind=kind, error=error, description="why"), 3.0)
    assert (problem.code, problem.source, problem.since) == (code, source, 3.0)


REPLIES = [
    (535, "5.7.3", "Authentication unsuccessful [SN2PR00CA0018.namprd00.prod.outlook.com]", "auth", "smtp.535-5.7.3"),
    (535, "5.7.139", "Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit "
        "https://aka",
     "auth", "smtp.535-5.7.139-tenant"),
    (535, "5.7.139", "Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.", "auth",
     "smtp.535-5.7.139-mailbox"),
    (535, "5.7.139", "user is locked by your organization's security defaults policy", "auth",
     "smtp.535-5.7.139-security-defaults"),
    (535, "5.7.139", "the request did not meet the criteria to be authenticated successfully", "auth",
         "smtp.535-5.7.139"),
    (535, "5.7.139", "Authentication unsuccessful, basic authentication is disabled.", "auth",
         "smtp.535-5.7.139-basic"),
    (535, "", "no", "auth", "smtp.535"),
    (550, "5.7.30", "Basic authentication is not supported for Client Submission", "auth", "smtp.550-5.7.30"),
    (530, "5.7.57", "Client not authenticated to send mail", "mail", "smtp.530-5.7.57"),
    (530, "5.7.0", "Must issue a STARTTLS command first", "mail", "smtp.530"),
    (504, "5.5.4", "Unrecognized authentication type", "auth", "smtp.504"),
    (454, "4.7.0", "Temporary authentication failure", "auth", "smtp.454-4.7.0"),
    (421, "4.3.2", "Service not active", "auth", "smtp.421-4.3.2"),
    (421, "4.4.2", "Connection dropped", "data", "smtp.421-4.4.2"),
    (421, "4.4.2", "message submission rate for this client has exceeded the configured limit", "mail",
         "smtp.421-4.4.2"),
    (421, "4.7.66", "TLS 1.0 and 1.1 are not supported. Please upgrade", "ehlo", "smtp.421-4.7.66"),
    (432, "4.3.2", "Concurrent connections limit exceeded", "mail", "smtp.432-4.3.2"),
    (421, "4.3.2", "STOREDRV.ClientSubmit; sender thread limit exceeded", "message", "smtp.421-4.3.2"),
    (451, "4.7.500", "Server busy. Please try again later (S77719)", "mail", "smtp.451-4.7.500"),
    (451, "4.7.650", "Access denied", "mail", "smtp.451-4.7.500"),
    (451, "4.7.699", "Access denied", "mail", "smtp.451-4.7.500"),
    (451, "4.7.851", "Access denied", "mail", "smtp.451-4.7.850"),
    (452, "4.5.3", "Too many recipients", "rcpt", "smtp.452-4.5.3"),
    (550, "5.7.705", "tenant has exceeded threshold", "mail", "smtp.550-5.7.705"),
    (550, "5.7.708", "traffic not accepted from this IP", "mail", "smtp.550-5.7.708"),
    (550, "5.7.750", "Client blocked from sending from unregistered domains", "mail", "smtp.550-5.7.750"),
    (554, "5.2.252", "SendAsDenied; a@x not allowed to send as b@x; "
        "STOREDRV.Submission.Exception:SendAsDeniedException",
     "message", "smtp.554-5.2.252"),
    (554, "5.2.0", "STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied", "message",
     "smtp.554-5.2.252"),
    (550, "5.7.60", "SMTP; Client does not have permissions to send as this sender", "mail", "smtp.550-5.7.60"),
    (554, "5.2.0", "STOREDRV.Submission.Exception:SubmissionQuotaExceededException", "message", "smtp.554-5.2.0-quota"),
    (554, "5.2.2", "mailbox full", "message", "smtp.554-5.2.2"),
    (554, "5.2.0", "STOREDRV.Submission.Exception:QuotaExceededException", "message", "smtp.554-5.2.2"),
    (554, "5.2.0", "STOREDRV; MessageSubmissionExceededException", "message", "smtp.552-5.3.4"),
    (552, "5.3.4", "Message size exceeds fixed maximum message size", "data", "smtp.552-5.3.4"),
    (552, "", "too big", "data", "smtp.552-5.3.4"),
    (550, "5.1.8", "Access denied, bad outbound sender", "mail", "smtp.550-5.1.8"),
    *((550, f"5.2.{n}", "Sender throttled due to continuous errors", "mail", f"smtp.550-5.2.{n}") for n in range(251,
         256)),
    (550, "5.1.1", "User unknown", "rcpt", "smtp.550-5.1.1"),
    (550, "5.1.10", "Recipient not found", "rcpt", "smtp.550-5.1.1"),
    (550, "5.4.1", "Recipient address rejected", "rcpt", "smtp.550-5.4.1"),
    (421, "", "closing", "mail", "smtp.421"),
    (450, "4.2.0", "try later", "mail", "smtp.450-4.2.0"),
    (451, "", "local error", "message", "smtp.451"),
    (538, "", "encryption required", "auth", "smtp.538"),
    (550, "5.7.1", "relaying denied", "rcpt", "smtp.550-5.7.1"),
    (554, "", "transaction failed", "message", "smtp.554"),
    (250, "", "surprising", "auth", "smtp.250"),
    (99, "", "", "connect", "smtp.99"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "enhanced", "text", "stage", "name"), REPLIES)
def test_every_reply_has_its_meaning(code: int, enhanced: str, text: str, stage: str, name: str) -> None:
    """Exchange's replies as captured in the field, and whatever other servers say by its first digit."""
    problem = smtp_problem(code, enhanced, text, stage, 2.0)
    assert problem.code == name
    assert problem.source is Source.SMTP
    assert problem.detail.startswith(str(code))
    assert problem.remedy
    if 400 <= code < 500 and name != "smtp.421-4.7.66":
        assert problem.transient
    if 500 <= code < 600 and "quota" not in name:
        assert not problem.transient


def test_every_smtp_row_is_reached_by_some_reply() -> None:
    """No row is dead: the narrow ones do not hide behind the wide ones."""
    reached = {smtp.find(code, enhanced, text, stage).code for code, enhanced, text, stage, _ in REPLIES}
    assert reached == {row.code for row in smtp.ROWS}


def test_old_tls_is_permanent_although_its_reply_is_4yz() -> None:
    """421 4.7.66 will not pass by itself."""
    assert not smtp_problem(421, "4.7.66", "TLS 1.0", "ehlo", 0.0).transient


def test_what_opens_the_breaker_and_what_refuses_the_login() -> None:
    """The sets the agent acts on, written down independently."""
    assert {
        "smtp.554-5.2.252", "smtp.550-5.7.60", "smtp.554-5.2.2", "smtp.550-5.1.8", "smtp.550-5.7.705",
        "smtp.550-5.7.708", "smtp.550-5.7.750", *(f"smtp.550-5.2.{number}" for number in range(251, 256)),
    } == smtp.BREAKERS  # fmt: skip
    assert {"smtp.535-5.7.3", "smtp.535"} == smtp.TOKEN_REFUSALS
    assert smtp.TOKEN_REFUSALS < smtp.LOGIN_REFUSALS
    assert not smtp.LOGIN_REFUSALS & smtp.BREAKERS


@pytest.mark.parametrize("row", network.ROWS, ids=lambda row: row.code)
def test_every_network_fault_is_found_by_its_name(row: Row) -> None:
    """With the host it happened at."""
    problem = network_problem(row.code.split(".", 1)[1], "smtp.example", "why", 1.0)
    assert (problem.code, problem.detail) == (row.code, "smtp.example: why")


def test_an_unknown_network_fault_is_a_network_fault() -> None:
    """And the clock is named when it is the clock."""
    assert network_problem("odd", "", "", 0.0).code == "network.network"
    assert network_problem("tls-time", "h", "x", 0.0).code == "clock.wrong"
    assert network_problem("tls-time", "h", "x", 0.0).detail == "h: x"


@pytest.mark.parametrize("row", own.ROWS, ids=lambda row: row.code)
def test_every_fault_of_our_own_is_named(row: Row) -> None:
    """By the code that the program uses."""
    assert named(row.code, 9.0).title == row.title


@given(st.text(), st.text(), st.integers(0, 999))
def test_a_servers_text_never_breaks_a_page_or_a_log(text: str, enhanced: str, code: int) -> None:
    """One bounded line without control or direction characters, from whichever side it came."""
    details = (
        clean(text),
        smtp_problem(code, enhanced, text, "mail", 0.0).detail,
        entra_problem(Failure(400, text, description=text), 0.0).detail,
        network_problem(text, enhanced, text, 0.0).detail,
    )
    for detail in details:
        assert len(detail) <= LONGEST_DETAIL
        assert detail.isprintable() or not detail
    assert re.fullmatch(r"(oauth|http|AADSTS)[A-Za-z0-9_.-]*", entra_problem(Failure(400, text), 0.0).code)


def test_identifiers_are_cleaned() -> None:
    """A trace ID with line breaks in it is an attempt to forge a log."""
    problem = entra_problem(Failure(400, trace_id="abc\r\nfake", correlation_id="x" * 999), 0.0)
    assert problem.trace_id == "abcfake"
    assert len(problem.correlation_id) == 64
