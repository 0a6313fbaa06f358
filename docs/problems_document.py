"""Makes `docs/problems.md` from the tables of problems: `render()` gives its text, running this file writes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from notifyd.core.problem import Actor
from notifyd.core.problem_table import Row, entra, network, oauth, own, smtp

PATH = Path(__file__).with_name("problems.md")

_HEAD = """\
# Problems

Made from `firmware/notifyd/core/problem_table/` by `make docs`; a test fails when the two differ.

What notifyd does follows from the HTTP status, `error`, `suberror` and `Retry-After` alone; Microsoft's numbers choose
the words. A number that is not listed reads and behaves as its class (last rows of *OAuth errors*), keeps Microsoft's
own text, and the trace and correlation IDs for a support case.

- **transient**: no answer, 408, 425, 429, 5xx, `temporarily_unavailable`, `server_error`, anything with `Retry-After`.
  notifyd backs off: 60 s or half of the token's remaining life, doubling to 24 min, ±20 %; at once when the WAN comes
  back. When not even a name resolves: 60 s doubling to 8 min.
- **sign-in**: `invalid_grant`, `interaction_required`, `login_required`, `consent_required`, `access_denied`. Three
  more tries over 10 to 15 minutes, then the alarm, then one try every 6 h. Claims asked for go into the next sign-in.
- **client**: `invalid_client`, `unauthorized_client`, any other 401. One try an hour, at once with a new secret.
- **config**: every other 4xx. One try an hour, at once after Apply.

The grant is kept in every class. *nobody* in the column *who acts* means that it passes by itself.
"""

_WHO = {
    Actor.NOBODY: "nobody",
    Actor.GATEWAY_ADMIN: "gateway administrator",
    Actor.TENANT_ADMIN: "tenant administrator",
}


def render() -> str:
    """The whole document."""
    sections: list[tuple[str, Sequence[Row]]] = [
        ("Found by notifyd itself", own.ROWS),
        ("Microsoft's AADSTS numbers", entra.ROWS),
        ("OAuth errors", oauth.ERRORS),
        ("The mail server's replies", smtp.ROWS),
        ("Network and TLS", network.ROWS),
    ]
    return _HEAD + "".join(_section(title, rows) for title, rows in sections)


def _section(title: str, rows: Sequence[Row]) -> str:
    head = f"\n## {title}\n\n| code | cause | who acts | remedy | meanwhile | event |\n|---|---|---|---|---|---|\n"
    return head + "".join(map(_line, rows))


def _line(row: Row) -> str:
    codes = " ".join(f"`{code}`" for code in row.code.split())
    return f"| {codes} | {row.title} | {_WHO[row.actor]} | {row.remedy} | {row.does} | `{row.event}` |\n"


if __name__ == "__main__":
    PATH.write_text(render(), "utf-8")
