"""notifyd as on a device, with a token; see tests/service/conftest.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service.conftest import shared_microsoft
from tests.support.stack import Microsoft, Stack, running_stack

__all__ = ["shared_microsoft"]


@pytest.fixture(scope="session")
def gateway(shared_microsoft: Microsoft, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One signed-in notifyd for the folder: these tests only send."""
    shared_microsoft.reset()
    with running_stack(tmp_path_factory.mktemp("gateway"), shared_microsoft) as stack:
        stack.become_valid()
        yield stack
