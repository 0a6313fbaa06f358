"""The meaning of every known fault, as data. One module per place where faults are seen; `problems.py` looks up."""

from __future__ import annotations

from dataclasses import dataclass

from notifyd.core.problem import Actor, Source

NOBODY, GATEWAY, TENANT = Actor.NOBODY, Actor.GATEWAY_ADMIN, Actor.TENANT_ADMIN


@dataclass(frozen=True, slots=True)
class Row:
    """One fault.

    code: stable name (docs/problems.md). title: the cause in the administrator's words. remedy: what to do, naming the
    field of the page System > Notification > Mail Server or the place in Microsoft's portals.
    actor: who must act; NOBODY means that it passes by itself. event: the record that tells of it.
    does: what notifyd does by itself meanwhile.
    """

    code: str
    title: str
    remedy: str
    actor: Actor
    source: Source
    event: str
    does: str

    @property
    def transient(self) -> bool:
        """True when it is expected to pass with nobody acting."""
        return self.actor is Actor.NOBODY
