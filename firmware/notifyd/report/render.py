"""The report's forms: HTML for mail and preview, plain text, CSV, and the message for `POST /api/v1/mail`."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from notifyd.report.model import Chart, Report, Table
from notifyd.report.strings import Strings

TEMPLATES = Path(__file__).with_name("templates")
MAX_EVENT_LINES = 20_000  # some 3 MB: what a mailbox takes without a second thought
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def html(report: Report, language: str, *, embedded: bool = False) -> str:
    """The report as a mail's HTML; images by Content-ID, or as data URIs when it shall stand alone."""
    image: Callable[[Chart], str] = _data_uri if embedded else (lambda chart: f"cid:{content_id(chart)}")
    say = Strings(language)
    preheader = report.attention[0][1] if report.attention else say("all_well")
    template = _environment().get_template("report.html.j2")
    return template.render(report=report, say=say, language=language, image=image, preheader=preheader)


def text(report: Report, language: str) -> str:
    """The plain alternative; it tells the same and stands alone."""
    template = _environment().get_template("report.txt.j2")
    return template.render(report=report, say=Strings(language)).replace("\n\n\n", "\n\n")


def figures_csv(report: Report) -> str:
    """Every figure as `section, item, value, change`."""
    rows = [("section", "item", "value", "change")]
    for section in report.sections:
        rows += [(section.title, fact.label, fact.value, fact.change) for fact in section.facts]
        for table in section.tables:
            rows += [(section.title, f"{table.title}: {row[0]}", " / ".join(row[1:]), "") for row in table.rows]
    return _csv(rows)


def events_csv(events: Sequence[Mapping[str, Any]]) -> str:
    """The event log, oldest first."""
    names = ("id", "time", "level", "category", "event", "message")
    ordered = sorted(events, key=lambda event: int(event.get("id", 0)))[-MAX_EVENT_LINES:]
    return _csv([names, *(tuple(str(event.get(name, "")) for name in names) for event in ordered)])


def message(report: Report, language: str, recipients: Sequence[str], attachments: Mapping[str, str]) -> dict[str, Any]:
    """The body of `POST /api/v1/mail`. attachments: file name → CSV text."""
    charts = [chart for section in report.sections for chart in section.charts]
    inline = [
        _attachment(f"{chart.name}.png", "image/png", chart.png) | {"inline": True, "content_id": content_id(chart)}
        for chart in charts
    ]
    attached = [
        _attachment(name, "text/csv", b"\xef\xbb\xbf" + content.encode()) for name, content in attachments.items()
    ]
    return {
        "to": list(recipients),
        "subject": report.subject,
        "text": text(report, language),
        "html": html(report, language),
        "attachments": inline + attached,
        "priority": "report",
        "kind": "report",
    }


def content_id(chart: Chart) -> str:
    """Names the image inside the message (RFC 2392)."""
    return f"{chart.name}@report.notifyd"


def _data_uri(chart: Chart) -> str:
    return "data:image/png;base64," + base64.b64encode(chart.png).decode()


def _attachment(name: str, kind: str, content: bytes) -> dict[str, Any]:
    return {"filename": name, "content_type": kind, "content_base64": base64.b64encode(content).decode()}


def _csv(rows: Sequence[Sequence[str]]) -> str:
    """RFC 4180. A cell that a spreadsheet would compute is marked as text: log messages hold others' words."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerows([[f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in row] for row in rows])
    return out.getvalue()


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(("html.j2",)),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["left"] = lambda value, width: str(value).ljust(width)
    environment.filters["aligned"] = _aligned
    return environment


def _aligned(table: Table) -> list[str]:
    """The rows with their columns below each other."""
    rows = [table.columns, *table.rows]
    widths = [min(40, max(len(row[column]) for row in rows)) for column in range(len(table.columns))]
    return [
        "  ".join(
            cell.rjust(width) if column in table.numeric else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
