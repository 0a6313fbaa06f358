"""The simulated Exchange for the mailer's tests, as new before each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from notifyd.mailer import Account
from qemu.m365 import ThreadedSimulator, start_in_thread
from qemu.m365.authority import TlsMaterial
from tests.m365.smtp_client import token_for
from tests.support.mail import exchange_account


@pytest.fixture(scope="session")
def running_exchange() -> Iterator[ThreadedSimulator]:
    """The simulator of this folder."""
    with start_in_thread() as simulator:
        yield simulator


@pytest.fixture
def exchange(running_exchange: ThreadedSimulator) -> ThreadedSimulator:
    """The simulator as after a fresh start."""
    running_exchange.reset()
    return running_exchange


@pytest.fixture
def account(exchange: ThreadedSimulator) -> Account:
    """The gateway's mailbox with a fresh token."""
    ends = exchange.endpoints
    return exchange_account(*ends.smtp, ends.ca_file, token_for(exchange))


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsMaterial:
    """Certificates of a test authority, made once: keys are slow to make."""
    return TlsMaterial(tmp_path_factory.mktemp("tls"), ("localhost",))
