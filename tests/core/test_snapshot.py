"""What survives a restart, as JSON and back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import pytest

from notifyd.core.instant import Instant
from notifyd.core.snapshot import VERSION, Snapshot, UnreadableSnapshot, from_json
from tests.core.world import INVALID_CLIENT, INVALID_GRANT, SETTINGS, World


def snapshots() -> list[Snapshot]:
    world = World()
    world.apply()
    applied = world.snapshot
    world.sign_in()
    valid = world.snapshot
    world.refresh_now(INVALID_CLIENT)
    failed = world.snapshot
    world.refresh_now(INVALID_GRANT)
    refused = world.snapshot
    found = [snapshot for snapshot in (applied, valid, failed, refused) if snapshot is not None]
    dated = replace(found[0], settings=replace(SETTINGS, secret_expires_on=date(2027, 5, 31)))
    return [Snapshot(Instant(1.0, 2.0), "boot"), dated, *found]


@pytest.mark.parametrize("snapshot", snapshots())
def test_a_snapshot_survives_json(snapshot: Snapshot) -> None:
    """Every field comes back equal, through text."""
    assert from_json(json.loads(json.dumps(snapshot.as_json()))) == snapshot


def test_a_snapshot_holds_no_secret() -> None:
    """Neither sealed bytes nor tokens are in it."""
    for snapshot in snapshots():
        text = json.dumps(snapshot.as_json())
        assert "sealed" not in text
        assert "access" not in text.replace("accessed", "")


@pytest.mark.parametrize("version", [VERSION + 1, 0, None, "1"])
def test_another_version_is_refused(version: object) -> None:
    """An older program does not guess what a newer one meant."""
    with pytest.raises(UnreadableSnapshot, match="version"):
        from_json({**Snapshot(Instant(1.0, 2.0), "boot").as_json(), "version": version})


def test_damage_is_refused_field_by_field() -> None:
    """Any value of a wrong kind is an error with a name, never a half-read snapshot."""
    good = json.loads(json.dumps(snapshots()[-1].as_json()))
    for field in ("saved", "settings", "grant", "attempts", "problem"):
        for bad in ("text", 7, ["x"], {"x": 1}):
            with pytest.raises(UnreadableSnapshot):
                from_json({**good, field: bad})
    del good["boot_id"]
    with pytest.raises(UnreadableSnapshot):
        from_json(good)
