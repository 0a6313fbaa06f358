"""What a fault means: the lookup. The meanings themselves are data, in `problem_table/`.

Numbers and texts of Microsoft only choose the words here; what the agent does follows from `failure.failure_class`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from notifyd.core.events import Failure, FailureKind, OAuthError
from notifyd.core.failure import FailureClass, failure_class
from notifyd.core.problem import Actor, Problem, Source
from notifyd.core.problem_table import Row, entra, network, own, smtp
from notifyd.core.redact import redact_text

__all__ = [
    "FailureClass",
    "all_rows",
    "clean",
    "entra_problem",
    "failure_class",
    "named",
    "network_problem",
    "oauth_problem",
    "smtp_problem",
]

LONGEST_DETAIL = 600
"""Characters kept of a server's text: Microsoft's longest are about 400."""

_OWN: Mapping[str, Row] = {row.code: row for row in own.ROWS}
_NUMBERS: Mapping[int, Row] = {number: row for row in entra.ROWS for number in entra.numbers(row)}
_ERRORS: Mapping[str, Row] = {row.code.removeprefix("oauth."): row for row in entra.ERRORS}
_NETWORK: Mapping[str, Row] = {row.code: row for row in network.ROWS}
_ID_TOKEN: Mapping[str, str] = {
    "id_token_missing": "signin.no-account",
    "id_token_aud": "signin.wrong-audience",
    "id_token_iss": "signin.wrong-issuer",
    "id_token_tid": "signin.wrong-tenant",
    "id_token_exp": "signin.token-time",
    "id_token_nbf": "signin.token-time",
    "id_token_nonce": "signin.unknown-state",
    # MSAL looks at the nonce first and raises this.
    "msal_RuntimeError": "signin.unknown-state",
}
"""What the worker finds wrong with an id_token, as the row that says it: a captive portal is not the cause."""
_AADSTS = re.compile(r"AADSTS(\d{4,8})")
_TAIL = re.compile(r"\s*(Trace ID|Correlation ID|Timestamp):.*", re.DOTALL)


def all_rows() -> tuple[Row, ...]:
    """Every row of every table, in the order of docs/problems.md."""
    return (*own.ROWS, *entra.ROWS, *entra.ERRORS, *smtp.ROWS, *network.ROWS)


def clean(text: str, limit: int = LONGEST_DETAIL) -> str:
    """A server's text fit for a page or a log: one line, no control or direction characters, bounded."""
    shown = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in text)
    line = " ".join(shown.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _detail(text: str) -> str:
    """A server's text, which a careless or hostile one may have made of what we sent it."""
    return clean(redact_text(text))


def named(code: str, wall: float, detail: str = "") -> Problem:
    """A fault that notifyd found itself (`problem_table/own.py`). Raises KeyError for a code not in the table."""
    return _problem(_OWN[code], wall, detail)


def _problem(row: Row, wall: float, detail: str) -> Problem:
    return Problem(row.code, row.title, _detail(detail), row.remedy, row.transient, wall, row.source, row.actor)


def aadsts_numbers(description: str) -> tuple[int, ...]:
    """The AADSTS numbers named in Microsoft's text, in order."""
    return tuple(int(number) for number in _AADSTS.findall(description[: 4 * LONGEST_DETAIL]))


def entra_problem(failure: Failure, now_wall: float) -> Problem:
    """What a failed token request means, in the administrator's words."""
    if failure.kind is not FailureKind.HTTP:
        return _unanswered(failure, now_wall)
    return _answered(failure, failure_class(failure), now_wall)


def oauth_problem(error: OAuthError, now_wall: float) -> Problem:
    """What an error on Microsoft's redirect means."""
    failure = Failure(
        status=400,
        error=error.error,
        suberror=error.suberror or error.subcode,
        description=error.description,
        claims=error.claims,
    )
    return _answered(failure, failure_class(failure), now_wall)


def _unanswered(failure: Failure, wall: float) -> Problem:
    detail = failure.description or failure.error
    match failure.kind:
        case FailureKind.TLS_TIME:
            return named("clock.wrong", wall, detail)
        case FailureKind.STORE:
            code = f"store.{failure.error.replace('_', '-')}"
            return named(code if code in _OWN else "store.unreadable", wall, failure.description)
        case FailureKind.WORKER:
            return named("worker.failed", wall, detail)
        case FailureKind.MALFORMED if failure.error in _ID_TOKEN:
            return named(_ID_TOKEN[failure.error], wall, detail)
        case kind:
            return network_problem(kind.value, "", detail, wall)


def _answered(failure: Failure, kind: FailureClass, wall: float) -> Problem:
    numbers = failure.codes or aadsts_numbers(failure.description)
    number = next((number for number in numbers if number in _NUMBERS), None)
    error = failure.error if failure.error in _ERRORS else ""
    row = _NUMBERS[number] if number is not None else _ERRORS[error or kind.value]
    code = f"AADSTS{number if number is not None else numbers[0]}" if numbers else _error_code(failure)
    transient = kind is FailureClass.TRANSIENT or row.transient
    return Problem(
        code=code,
        title=row.title,
        detail=_detail(_TAIL.sub("", failure.description) or failure.error),
        remedy=row.remedy,
        transient=transient,
        since=wall,
        source=Source.ENTRA,
        actor=Actor.NOBODY if transient else row.actor,
        trace_id=_identifier(failure.trace_id) or _labelled("Trace ID", failure.description),
        correlation_id=_identifier(failure.correlation_id) or _labelled("Correlation ID", failure.description),
        claims=failure.claims,
    )


def _error_code(failure: Failure) -> str:
    word = re.sub(r"[^a-z0-9_.-]", "", failure.error.lower())[:40]
    return f"oauth.{word}" if word else f"http.{failure.status or 0}"


def _identifier(text: str) -> str:
    return re.sub(r"[^0-9A-Za-z-]", "", text)[:64]


def _labelled(label: str, description: str) -> str:
    found = re.search(rf"{label}: ?([0-9A-Fa-f-]{{8,64}})", description)
    return found[1] if found else ""


def smtp_problem(code: int, enhanced: str, text: str, stage: str, now_wall: float) -> Problem:
    """What a reply of the mail server means.

    code: the three digits. enhanced: the RFC 3463 code, empty when there was none. text: the reply's text.
    stage: connect, ehlo, starttls, auth, mail, rcpt, data or message.
    """
    row = smtp.find(code, enhanced, text, stage)
    name = row.code if row.code in smtp.SPECIFIC else smtp.reply_code(code, enhanced)
    detail = _detail(" ".join(part for part in (str(code), enhanced, text) if part))
    return Problem(name, row.title, detail, row.remedy, row.transient, now_wall, Source.SMTP, row.actor)


def network_problem(kind: str, host: str, detail: str, now_wall: float) -> Problem:
    """What a fault below HTTP or SMTP means. kind: a FailureKind's value, or `starttls-missing`, `refused`, `reset`."""
    if kind == FailureKind.TLS_TIME.value:
        return named("clock.wrong", now_wall, f"{host}: {detail}" if host else detail)
    row = _NETWORK.get(f"network.{kind}") or _NETWORK.get(f"tls.{kind}") or _NETWORK["network.network"]
    return _problem(row, now_wall, ": ".join(part for part in (host, detail) if part))
