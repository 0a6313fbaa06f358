"""Exchange's limits: what the simulated server does beyond them, and that its books are true."""

from __future__ import annotations

import contextlib
import smtplib
import time

import pytest

from qemu.m365 import ThreadedSimulator
from tests.m365.smtp_client import GATEWAY, connection, log_in, message, session, token_for

DAY = 86400.0


def test_thirty_messages_a_minute_then_delay(sim: ThreadedSimulator) -> None:
    """The 31st message of a minute is taken, but its answer waits until the minute (simulated) has passed."""
    with session(sim.endpoints, token_for(sim, seconds=86400)) as client:
        for number in range(30):
            client.sendmail(GATEWAY, ["a@example.org"], message(str(number)))
        sim.world.clock.run_at(200)
        client.sendmail(GATEWAY, ["a@example.org"], message("one too many"))
    account, arrived = sim.world.mail.account(GATEWAY), sim.world.mail.arrived
    assert (account.messages, account.max_per_minute, account.delayed) == (31, 30, 1)
    assert arrived[30].time - arrived[0].time >= 60


def test_rate_can_be_refused_instead(sim: ThreadedSimulator) -> None:
    """With `refuse` the message over the rate gets a 4xx and is not stored."""
    sim.world.mail.limits.messages_per_minute = 2
    sim.world.mail.limits.over_rate = "refuse"
    with session(sim.endpoints, token_for(sim)) as client:
        for _ in range(2):
            client.sendmail(GATEWAY, ["a@example.org"], message())
        with pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail(GATEWAY, ["a@example.org"], message())
    assert refused.value.smtp_code == 421
    assert sim.world.mail.account(GATEWAY).refused_rate == 1
    assert len(sim.world.mail.arrived) == 2


def test_books_show_the_rate_a_client_really_had(sim: ThreadedSimulator) -> None:
    """With `ignore` nothing is held back, and the highest rate is counted."""
    sim.world.mail.limits.over_rate = "ignore"
    with session(sim.endpoints, token_for(sim)) as client:
        for _ in range(35):
            client.sendmail(GATEWAY, ["a@example.org"], message())
    assert sim.world.mail.account(GATEWAY).max_per_minute == 35


def test_recipients_of_a_rolling_day(sim: ThreadedSimulator) -> None:
    """Each recipient counts; beyond the day's number it is SubmissionQuotaExceeded until a day has gone."""
    sim.world.mail.limits.recipients_per_day = 5
    token = token_for(sim, seconds=10 * 86400)
    with session(sim.endpoints, token) as client:
        client.sendmail(GATEWAY, [f"{n}@example.org" for n in range(4)], message())
        with pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail(GATEWAY, ["a@example.org", "b@example.org"], message())
        assert b"SubmissionQuotaExceeded" in refused.value.smtp_error
        client.sendmail(GATEWAY, ["a@example.org"], message())
        sim.world.clock.advance(DAY + 1)
        client.sendmail(GATEWAY, ["a@example.org", "b@example.org"], message())
    assert sim.world.mail.account(GATEWAY).max_recipients_per_day == 5


def test_fourth_connection_of_a_mailbox_is_432(sim: ThreadedSimulator) -> None:
    """Three may be logged in at once; the fourth is told so, and may come when one has gone."""
    token = token_for(sim)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(session(sim.endpoints, token)) for _ in range(3)]
        fourth = stack.enter_context(connection(sim.endpoints))
        assert log_in(fourth, token)[0] == 432
        clients[0].quit()
        deadline = time.monotonic() + 5
        while sim.world.mail.account(GATEWAY).open_connections == 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert log_in(fourth, token)[0] == 235
    account = sim.world.mail.account(GATEWAY)
    assert (account.max_connections, account.refused_connections) == (3, 1)


def test_recipients_of_one_message(sim: ThreadedSimulator) -> None:
    """Beyond the number 4.5.3 is said, and the first ones are served."""
    sim.world.mail.limits.recipients_per_message = 2
    with session(sim.endpoints, token_for(sim)) as client:
        refused = client.sendmail(GATEWAY, [f"{n}@example.org" for n in range(3)], message())
    assert refused == {"2@example.org": (452, b"4.5.3 Too many recipients")}


def test_full_mailbox_takes_nothing(sim: ThreadedSimulator) -> None:
    """Sent Items count: a full mailbox is 554 5.2.2."""
    sim.world.directory.users[GATEWAY].mailbox_full = True
    with session(sim.endpoints, token_for(sim)) as client, pytest.raises(smtplib.SMTPDataError) as refused:
        client.sendmail(GATEWAY, ["a@example.org"], message())
    assert refused.value.smtp_error.startswith(b"5.2.2 ")
