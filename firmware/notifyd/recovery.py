"""Puts together what a restart finds: the snapshot from the database and the grant from its slots.

They are two files, so a crash or a full disk can leave one of them older. The slot wins about the grant: it is written
first and cannot run out of room. A pure function over what was read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from notifyd.adapters.vault import Slot
from notifyd.core.events import Change
from notifyd.core.instant import Instant
from notifyd.core.settings import Auth, Settings
from notifyd.core.snapshot import HeldGrant, Snapshot

IDENTITY = ("auth", "cloud", "sender", "client_id", "tenant_id")


def reconcile(snapshot: Snapshot | None, slot: Slot | None, settings: Settings | None) -> Snapshot | None:
    """The snapshot to begin from. A grant without its slot is none; a slot newer than the snapshot is taken up."""
    if settings is None:
        return None  # what the snapshot knows of settings that are no longer stored is over (a crash while clearing)
    if snapshot is None or settings.auth is not Auth.OAUTH2:
        return snapshot
    if slot is None:
        return replace(snapshot, grant=None) if snapshot.grant is not None else snapshot
    if snapshot.grant is not None and snapshot.grant.obtained.wall == _obtained(slot).wall:
        return snapshot
    if slot_identity(slot) != identity(settings):
        # Whoever forgets a grant erases its slot first, so a slot of the same identity is never an outdated one.
        return replace(snapshot, grant=None)
    found = _held(slot, snapshot.grant)
    if slot.meta.get("boot_id") != snapshot.boot_id:
        # Its boot clock is not the one the snapshot's moments are on: nothing is known of what is left of its life.
        return replace(snapshot, grant=replace(found, expires_boot=0.0))
    if snapshot.grant is not None and not _newer(slot, snapshot.grant):
        return snapshot
    return replace(snapshot, grant=found)


def change_since(snapshot: Snapshot | None, settings: Settings) -> Change:
    """How the stored settings differ from those the snapshot was made under (a crash in the middle of Apply)."""
    if snapshot is None or snapshot.settings is None:
        return Change.IDENTITY
    if any(getattr(snapshot.settings, name) != getattr(settings, name) for name in IDENTITY):
        return Change.IDENTITY
    return Change.NONE if snapshot.settings == settings else Change.COSMETIC


def identity(settings: Settings) -> str:
    """What a grant belongs to."""
    return "/".join(str(getattr(settings, name)) for name in IDENTITY).lower()


def slot_identity(slot: Slot) -> str:
    """What the slot's grant belongs to."""
    return str(slot.meta.get("identity", ""))


def _newer(slot: Slot, grant: HeldGrant) -> bool:
    return _obtained(slot).boot > grant.obtained.boot


def _obtained(slot: Slot) -> Instant:
    moment: Any = slot.meta.get("obtained") or {}
    return Instant(float(moment.get("boot", 0.0)), float(moment.get("wall", 0.0)))


def _held(slot: Slot, known: HeldGrant | None) -> HeldGrant:
    meta, obtained = slot.meta, _obtained(slot)
    lifetime = float(meta.get("expires_in", 0.0))
    same = known is not None and known.object_id == meta.get("object_id")
    return HeldGrant(
        account=str(meta.get("account", "")),
        object_id=str(meta.get("object_id", "")),
        tenant_id=str(meta.get("tenant_id", "")),
        scopes=tuple(meta.get("scopes", ())),
        signed_in_wall=known.signed_in_wall if known is not None and same else obtained.wall,
        obtained=obtained,
        expires_boot=obtained.boot + lifetime,
        lifetime_s=lifetime,
    )
