"""One simulated Microsoft 365 for the folder; a notifyd of its own for each test that asks for one."""

from __future__ import annotations

import shutil
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
    """The simulator without orders, mail or log of another test; grants of other tests live on."""
    shared_microsoft.tidy()
    return shared_microsoft


@pytest.fixture
def stack(microsoft: Microsoft, tmp_path: Path) -> Iterator[Stack]:
    """notifyd as on a new device."""
    with running_stack(tmp_path, microsoft) as started:
        yield started


class Template:
    """The data of a gateway with a grant, made once and copied: a sign-in for each test would take minutes."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._epoch = -1
        self.made = 0

    def data(self, microsoft: Microsoft) -> Path:
        """A directory to copy; made anew when the simulator was reset and has forgotten its grants."""
        if self._epoch != microsoft.epoch:
            self._epoch = microsoft.epoch
            self.made += 1
            with running_stack(self._home / str(self.made), microsoft) as stack:
                stack.become_valid()
                stack.stop()
        return self._home / str(self.made) / "data"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return Template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def ready(microsoft: Microsoft, template: Template, tmp_path: Path) -> Iterator[Stack]:
    """notifyd on a device that was signed in before, just started: Valid, and nothing has happened since."""
    shutil.copytree(template.data(microsoft), tmp_path / "data")
    microsoft.tidy()
    with running_stack(tmp_path, microsoft) as started:
        yield started


@pytest.fixture(scope="module")
def applied(shared_microsoft: Microsoft, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One notifyd for a whole module, with the demo tenant's settings applied: for tests that leave no grant."""
    shared_microsoft.tidy()
    with running_stack(tmp_path_factory.mktemp("applied"), shared_microsoft) as started:
        started.apply()
        yield started


@pytest.fixture(scope="module")
def valid(shared_microsoft: Microsoft, template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One notifyd with a grant for a whole module: for tests that leave it working."""
    home = tmp_path_factory.mktemp("valid")
    shutil.copytree(template.data(shared_microsoft), home / "data")
    with running_stack(home, shared_microsoft) as started:
        yield started
