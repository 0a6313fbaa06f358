"""The grant's slots: what is whole is found, what is torn falls back, what is wiped is gone."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifyd.adapters.vault import HEADER, SLOT_SIZE, Vault
from notifyd.core.faults import StoreFailed

SLOTS = "grant.slots"


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """A fresh vault."""
    return Vault(tmp_path / SLOTS)


def _reopened(vault: Vault, path: Path) -> Vault:
    vault.close()
    return Vault(path / SLOTS)


def test_fresh_vault_is_empty_and_has_its_size_from_the_start(vault: Vault, tmp_path: Path) -> None:
    """Space is taken when there is some, so that a later full disk cannot cost a grant; only the owner may read."""
    assert vault.load() is None
    found = (tmp_path / SLOTS).stat()
    assert found.st_size == 2 * SLOT_SIZE
    assert found.st_blocks * 512 >= 2 * SLOT_SIZE
    assert found.st_mode & 0o777 == 0o600


def test_newest_commit_is_what_loads(vault: Vault, tmp_path: Path) -> None:
    """Across any number of commits and restarts."""
    for number in range(1, 8):
        vault.commit({"account": "a@b", "generation": number}, b"sealed %d" % number)
        vault = _reopened(vault, tmp_path)
        slot = vault.load()
        assert slot is not None
        assert (slot.meta["generation"], slot.sealed, slot.sequence) == (number, b"sealed %d" % number, number)


def test_commit_leaves_the_grant_before_untouched(vault: Vault, tmp_path: Path) -> None:
    """The two slots are written in turn."""
    vault.commit({}, b"one")
    before = (tmp_path / SLOTS).read_bytes()[:SLOT_SIZE]
    vault.commit({}, b"two")
    after = (tmp_path / SLOTS).read_bytes()
    assert after[:SLOT_SIZE] == before
    assert b"two" in after[SLOT_SIZE:]


def test_torn_commit_falls_back_at_every_byte(vault: Vault, tmp_path: Path) -> None:
    """However much of a slot reached the disk, what loads is the new grant when it is whole and else the old one."""
    vault.commit({"n": 1}, b"o" * 300)
    path = tmp_path / SLOTS
    old = path.read_bytes()
    vault.commit({"n": 2}, b"n" * 300)
    new = path.read_bytes()
    vault.close()
    end = SLOT_SIZE + HEADER.size + len('{"n":2}') + 300
    for cut in range(SLOT_SIZE, end + 1):
        path.write_bytes(new[:cut] + old[cut:])
        torn = Vault(path)
        slot = torn.load()
        torn.close()
        assert slot is not None
        assert slot.meta["n"] == (2 if cut == end else 1)


@settings(max_examples=200)
@given(st.data())
def test_damage_never_invents_a_grant(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any change of bytes in one slot leaves the other slot's grant, or the same grant."""
    path = tmp_path_factory.mktemp("vault") / SLOTS
    vault = Vault(path)
    vault.commit({"n": 1}, b"first")
    vault.commit({"n": 2}, b"second")
    raw = bytearray(path.read_bytes())
    where = SLOT_SIZE + data.draw(st.integers(0, HEADER.size + 12))
    raw[where : where + 4] = data.draw(st.binary(min_size=4, max_size=4))
    path.write_bytes(raw)
    slot = vault.load()
    vault.close()
    assert slot is not None
    assert (slot.meta["n"], slot.sealed) in ((1, b"first"), (2, b"second"))


def test_wipe_overwrites_both_grants(vault: Vault, tmp_path: Path) -> None:
    """Not a byte of either grant stays in the file."""
    vault.commit({"account": "a@b"}, b"CANARY-1" * 100)
    vault.commit({"account": "a@b"}, b"CANARY-2" * 100)
    vault.wipe()
    assert vault.load() is None
    assert (tmp_path / SLOTS).read_bytes() == bytes(2 * SLOT_SIZE)


def test_largest_grant_fits_and_a_larger_one_is_refused(vault: Vault) -> None:
    """Three tokens of 16 KiB fit; what does not fit changes nothing."""
    vault.commit({"n": 1}, b"x" * 60_000)
    with pytest.raises(StoreFailed, match="do not fit"):
        vault.commit({"n": 2}, b"x" * SLOT_SIZE)
    slot = vault.load()
    assert slot is not None
    assert slot.meta["n"] == 1


def test_second_process_is_refused(vault: Vault, tmp_path: Path) -> None:
    """Two services on one store would take turns in the same slot."""
    with pytest.raises(StoreFailed, match="cannot use"):
        Vault(tmp_path / SLOTS)
    assert vault.load() is None


def test_short_file_is_completed(tmp_path: Path) -> None:
    """A file of an interrupted first start (or a shorter one of an older program) is filled up."""
    (tmp_path / SLOTS).write_bytes(b"short")
    vault = Vault(tmp_path / SLOTS)
    assert vault.load() is None
    vault.commit({}, b"grant")
    assert vault.load() is not None


def test_missing_directory_is_a_store_failure(tmp_path: Path) -> None:
    """Foreign exceptions do not pass."""
    with pytest.raises(StoreFailed):
        Vault(tmp_path / "nowhere" / SLOTS)
