"""Makes `docs/events.md` from the table of events: `render()` gives its text, running this file writes it."""

from __future__ import annotations

import itertools
from pathlib import Path

from notifyd.core.event_definitions import ALL
from notifyd.core.eventlog import Definition, Level, Record, must_be_durable_at_once, render_message

PATH = Path(__file__).with_name("events.md")

_HEAD = """\
# Events

Made from `firmware/notifyd/core/event_definitions.py` by `make docs`; a test fails when the two differ.

Each event is one record: `id`, `time` (RFC 3339, UTC), `boot_id`, `level`, `category`, `event`, `message`, `fields`.
Names are stable, messages are not: match on `event`. A field that does not apply is left out; fields beyond those
listed may come. Values are one line, at most 1,000 characters, and never a secret, a code, a token or the text of a
mail.

Levels are those of syslog: {levels}. The level given is the usual one; the case decides.

**Durable** events (every error, and all of `token`, `settings` and `auth`) are on the disk before the work goes on.
Others are written within 10 seconds (notice, warning) or 5 minutes (info), so that flash lasts; the journal and the
collectors have them at once. The ring keeps 100,000 records, 48 MiB or 400 days, whichever comes first.

| where | how |
|---|---|
| page | Log & Report > Log/Events > System |
| `GET /api/v1/events` | `?after=&before=&limit=&level=&category=&text=&since=&until=`, or a live stream (SSE) |
| `notifyctl events -f` | the same on the command line |
| journal | `journalctl -t notifyd NOTIFYD_EVENT=token.retrieved`; fields as `NOTIFYD_FIELD_…` |
| syslog | RFC 5424 or the family's own layout, over UDP, TCP or TLS: `[syslog]` in `notifyd.toml` |
"""


def render() -> str:
    """The whole document."""
    levels = ", ".join(f"{level.value} ({level.severity})" for level in Level)
    parts = [_HEAD.format(levels=levels)]
    for category, definitions in itertools.groupby(ALL, key=lambda definition: definition.category):
        parts.append(f"## {category.value}\n\n" + "\n".join(map(_entry, definitions)))
    return "\n".join(parts)


def _entry(definition: Definition) -> str:
    lines = [f"### `{definition.name}`", ""]
    durable = ", durable" if must_be_durable_at_once(example(definition)) else ""
    lines.append(f"{definition.level.value}{durable} · “{render_message(definition.message, definition.example)}”")
    if definition.action:
        lines += ["", f"**What to do:** {definition.action}"]
    if definition.fields:
        lines += ["", "| field | |", "|---|---|"]
        lines += [f"| `{name}` | {meaning} |" for name, meaning in definition.fields.items()]
    return "\n".join([*lines, ""])


def example(definition: Definition) -> Record:
    """The record of a definition's example."""
    message = render_message(definition.message, definition.example)
    return Record(1, 0.0, "", definition.level, definition.category.value, definition.name, message, definition.example)


if __name__ == "__main__":
    PATH.write_text(render())
