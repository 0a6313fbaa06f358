"""Which failures can be ordered of which part."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from qemu.m365.authority import TlsMaterial
from qemu.m365.misbehave import KINDS
from qemu.m365.smtp_replies import NAMED, STAGES

# Played whenever a client reaches the stage an order names, or the next stage of all when it names none.
SMTP_AT_STAGE = frozenset({"reply", "latency", "hang", "drop", "reset", "partial-reply"})
# Played at the one place where they make sense.
SMTP_SPECIAL = frozenset({"strip-starttls", "inject-after-starttls", "huge-banner", "challenge"})

CATALOGUE: Mapping[str, Collection[str]] = {
    "discovery": frozenset({*KINDS, "aadsts"}),
    "keys": frozenset(KINDS),
    "authorize": frozenset({*KINDS, "aadsts"}),
    "token": frozenset({*KINDS, "aadsts", "id-token", "access-token", "refresh-in"}),
    "smtp": SMTP_AT_STAGE | SMTP_SPECIAL,
    "tls": frozenset(TlsMaterial.KINDS),
}


def expand(body: Mapping[str, object]) -> Mapping[str, object]:
    """An order in its long form: for `smtp`, `what` may be a name of Exchange's replies."""
    if body.get("target") != "smtp" or body.get("what") not in NAMED:
        return body
    stage, text = NAMED[str(body["what"])]
    return {"stage": stage, "text": text, **body, "what": "reply"}


__all__ = ["CATALOGUE", "SMTP_AT_STAGE", "SMTP_SPECIAL", "STAGES", "expand"]
