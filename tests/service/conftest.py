"""One simulated Microsoft 365 for the folder; a notifyd of its own for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stack import Microsoft, Stack, running_microsoft, running_stack


@pytest.fixture(scope="session")
def shared_microsoft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Microsoft]:
    with running_microsoft(tmp_path_factory.mktemp("m365")) as microsoft:
        yield microsoft


@pytest.fixture
def microsoft(shared_microsoft: Microsoft) -> Microsoft:
    """The simulator as after a fresh start."""
    shared_microsoft.reset()
    return shared_microsoft


@pytest.fixture
def stack(microsoft: Microsoft, tmp_path: Path) -> Iterator[Stack]:
    """notifyd as on a new device."""
    with running_stack(tmp_path, microsoft) as started:
        yield started
