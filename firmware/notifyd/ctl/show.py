"""What notifyctl prints for people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


def wall(seconds: float | None) -> str:
    """A wall-clock time in the local zone, `-` when unknown."""
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def clean(text: object) -> str:
    """Text from elsewhere, safe for a terminal."""
    return "".join(character if character.isprintable() else "?" for character in str(text))


def problem_lines(problem: Mapping[str, Any] | None) -> list[str]:
    """A problem as indented lines."""
    if not problem:
        return []
    lines = [f"Problem        {clean(problem['title'])} [{clean(problem['code'])}]"]
    if problem.get("detail"):
        lines.append(f"  said         {clean(problem['detail'])}")
    if problem.get("remedy"):
        lines.append(f"  remedy       {clean(problem['remedy'])}")
    return lines


def status(document: Mapping[str, Any]) -> str:
    queue = document["queue"]
    lines = [
        f"Token status   {document['state']}",
        f"Mail           {'can be sent' if document['can_send'] else 'cannot be sent'}",
        f"Account        {clean(document['account'] or '-')}",
        f"Valid until    {wall(document['access_expires_at'])}",
        f"Renewal due    {wall(document['refresh_due_at'])}",
        f"Secret ends    {document['secret_expires_on'] or '-'}",
        f"Open sign-ins  {document['pending']}",
        f"Queue          {queue['ready']} ready, {queue['held']} held, {queue['sent_today']} sent today",
    ]
    return "\n".join(lines + problem_lines(document["problem"]))


def mail(document: Mapping[str, Any]) -> str:
    recipients = ", ".join(clean(address) for address in document["to"])
    lines = [
        f"{document['id']}  {document['state']:<8} {document['kind']:<7} to {recipients}: {clean(document['subject'])}"
    ]
    outcome = document.get("outcome") or {}
    if outcome.get("reply"):
        lines.append(f"    server said {clean(outcome['reply'])}")
    waiting = document.get("waiting_for")
    if waiting:
        lines.append(f"    waiting for: {clean(waiting.get('title', ''))} {clean(waiting.get('remedy', ''))}".rstrip())
    if document.get("next_attempt_at"):
        lines.append(f"    next try {wall(document['next_attempt_at'])}")
    return "\n".join(lines)


def queue(document: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{number} {state}" for state, number in document["counts"].items())
    return "\n".join([mail(message) for message in document["messages"]] + [counts or "empty"])


def event(document: Mapping[str, Any]) -> str:
    return f"{document['time']}  {document['level']:<8} {document['event']:<22} {clean(document['message'])}"


def begun(document: Mapping[str, Any]) -> str:
    until = wall(document["expires_at"])
    return f"Open this address in a browser, before {until}:\n{document['authorize_url']}"


def diagnosis(document: Mapping[str, Any]) -> str:
    marks = {"ok": "ok      ", "warning": "warning ", "failed": "FAILED  ", "skipped": "skipped "}
    lines = []
    for step in document["steps"]:
        lines.append(f"{marks[step['verdict']]}{step['step']}: {clean(step['evidence'])}")
        if step["remedy"] and step["verdict"] in ("failed", "warning"):
            lines.append(f"          {clean(step['remedy'])}")
    return "\n".join(lines)


def refusal(status_code: int, document: Any) -> str:
    """A problem document for standard error."""
    if not isinstance(document, dict):
        return f"notifyd answers {status_code}"
    lines = [clean(document.get("detail") or document.get("title") or f"notifyd answers {status_code}")]
    lines += [f"  {clean(error['pointer'])}: {clean(error['detail'])}" for error in document.get("errors", ())]
    lines += ["  " + line for line in problem_lines(document.get("problem"))]
    return "\n".join(lines)
