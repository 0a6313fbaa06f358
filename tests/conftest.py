"""What every test may use."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from hypothesis import settings

# A test machine under load is slow at times; what may take how long is asserted where it matters.
settings.register_profile("house", deadline=None)
settings.load_profile("house")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs an `async def test_…` in a loop of its own; a loop that is left dirty is an error of the test."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    asyncio.run(pyfuncitem.obj(**arguments))
    return True
