"""The mailer against the simulated Exchange: what is accepted goes out once, in order, within the limits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from notifyd.adapters.queue import QueueFull, QueueLimits
from notifyd.core.governor import OTHER_SERVER
from notifyd.core.outbox import MailState, Priority, RecipientState
from notifyd.core.problems import named
from notifyd.core.secret import Secret
from notifyd.mailer import Account
from qemu.m365 import ThreadedSimulator
from tests.support.mail import MovableClock, mail, running_desk

SENT, FAILED, HELD, DEFERRED = MailState.SENT, MailState.FAILED, MailState.HELD, MailState.DEFERRED


async def test_accepted_mail_is_sent_and_its_outcome_has_the_servers_reply(
    tmp_path: Path, account: Account, exchange: ThreadedSimulator
) -> None:
    """The main road: accepted, sent, arrived, told."""
    async with running_desk(tmp_path, account) as desk:
        composed = mail(7)
        accepted = await desk.submit(composed)
        record = await desk.becomes(accepted.id, SENT)
        assert record.recipients[0].state is RecipientState.DELIVERED
        assert record.reply.startswith("250 2.")
        assert desk.told("mail.sent")[0]["mail_id"] == accepted.id
        assert [outcome.ok for outcome in desk.outcomes] == [True]
        assert desk.queue.body(accepted.id) is None
    (arrived,) = exchange.world.mail.arrived
    assert arrived.parsed()["Message-ID"] == composed.message_id
    assert arrived.mail_from == "gateway@contoso.example"


async def test_one_connection_serves_many_mails(tmp_path: Path, account: Account, exchange: ThreadedSimulator) -> None:
    """Mail for the same mailbox goes through the session that is open."""
    async with running_desk(tmp_path, account) as desk:
        ids = [(await desk.submit(mail(number))).id for number in range(20)]
        for mail_id in ids:
            await desk.becomes(mail_id, SENT)
    assert exchange.world.log.counts["smtp.login"] == 1


async def test_a_session_does_not_outlive_the_grant_that_opened_it(
    tmp_path: Path, account: Account, exchange: ThreadedSimulator
) -> None:
    """A hold by the agent ends sessions that only wait: the next mail logs in anew."""
    async with running_desk(tmp_path, account) as desk:
        first = await desk.submit(mail(1))
        await desk.becomes(first.id, SENT)
        desk.mailer.hold(named("token.none", 0.0))
        desk.mailer.release()
        second = await desk.submit(mail(2))
        await desk.becomes(second.id, SENT)
    assert exchange.world.log.counts["smtp.login"] == 2


async def test_alerts_go_before_reports_before_bulk(
    tmp_path: Path, account: Account, exchange: ThreadedSimulator
) -> None:
    """What was held flows in the order of its priority."""
    async with running_desk(tmp_path, account) as desk:
        desk.mailer.pause()
        order = [Priority.BULK, Priority.REPORT, Priority.ALERT, Priority.BULK, Priority.ALERT]
        ids = [(await desk.submit(mail(n), priority=priority)).id for n, priority in enumerate(order)]
        assert desk.record(ids[0]).state is HELD
        desk.mailer.resume()
        for mail_id in ids:
            await desk.becomes(mail_id, SENT)
    subjects = [str(arrived.parsed()["Subject"]) for arrived in exchange.world.mail.arrived]
    assert subjects == ["Mail 2", "Mail 4", "Mail 1", "Mail 0", "Mail 3"]


async def test_a_refused_recipient_does_not_stop_the_others(
    tmp_path: Path, account: Account, exchange: ThreadedSimulator
) -> None:
    """Each recipient has its own outcome; the mail as a whole is then reported as failed."""
    exchange.order("smtp", "reply", stage="rcpt", address="b@example.org", text="550 5.1.1 User unknown")
    async with running_desk(tmp_path, account) as desk:
        accepted = await desk.submit(mail(1, to=("a@example.org", "b@example.org", "c@example.org")))
        record = await desk.becomes(accepted.id, FAILED)
        states = {r.address: r.state.value for r in record.recipients}
        assert states == {"a@example.org": "delivered", "b@example.org": "refused", "c@example.org": "delivered"}
        assert desk.told("mail.recipient_refused")[0]["to"] == "b@example.org"
        assert desk.told("mail.failed")
    assert exchange.world.mail.arrived[0].recipients == ["a@example.org", "c@example.org"]


async def test_a_temporary_refusal_is_tried_again_after_a_minute(
    tmp_path: Path, account: Account, exchange: ThreadedSimulator
) -> None:
    """4yz for one mail defers that mail, with the reply in the record and the event."""
    exchange.order("smtp", "reply", stage="mail", text="450 4.2.0 Mailbox busy")
    async with running_desk(tmp_path, account) as desk:
        accepted = await desk.submit(mail(1))
        record = await desk.becomes(accepted.id, DEFERRED)
        assert record.problem is not None
        assert record.next_attempt_at is not None
        assert 45 < record.next_attempt_at - desk.clock.now().wall < 75
        assert "4.2.0" in desk.told("mail.deferred")[0]["detail"]
        desk.later(80)
        assert (await desk.becomes(accepted.id, SENT)).attempts == 2


async def test_a_permanent_refusal_of_a_mail_fails_it_and_only_it(
    tmp_path: Path, account: Account, exchange: ThreadedSimulator
) -> None:
    """5yz behind DATA that is about the message ends that message, with the reply told."""
    exchange.order("smtp", "reply", stage="message", text="554 5.6.0 Corrupt message content")
    async with running_desk(tmp_path, account) as desk:
        bad, good = await desk.submit(mail(1)), await desk.submit(mail(2))
        assert (await desk.becomes(bad.id, FAILED)).attempts == 1
        await desk.becomes(good.id, SENT)
        assert "5.6.0" in desk.told("mail.failed")[0]["detail"]


async def test_a_rejected_token_is_told_once_and_mail_waits_for_the_next_token(
    tmp_path: Path, account: Account, exchange: ThreadedSimulator
) -> None:
    """535 5.7.3: one report to the agent, no second login until it releases mail."""
    bad = replace(account, secret=Secret("not.a.token"))
    async with running_desk(tmp_path, bad) as desk:
        accepted = await desk.submit()
        await desk.until(lambda: desk.outcomes, "the outcome")
        assert [(o.ok, o.breaker) for o in desk.outcomes] == [(False, False)]
        assert desk.outcomes[0].problem is not None
        assert desk.outcomes[0].problem.code == "smtp.535-5.7.3"
        assert desk.record(accepted.id).state is HELD
        desk.later(3_600)
        desk.account = account
        assert exchange.world.log.counts["smtp.login"] == 1
        desk.mailer.release()
        await desk.becomes(accepted.id, SENT)
        assert desk.outcomes[-1].ok


async def test_a_permanent_exchange_error_opens_a_breaker_that_time_and_restart_do_not_close(
    tmp_path: Path, account: Account, exchange: ThreadedSimulator
) -> None:
    """554 5.2.252: nothing more is sent, the mail is kept, and only a change or an administrator goes on."""
    exchange.order("smtp", "reply", stage="message", text="554 5.2.252 SendAsDenied; not allowed to send as")
    clock = MovableClock()
    async with running_desk(tmp_path, account, clock=clock) as desk:
        ids = [(await desk.submit(mail(n))).id for n in range(3)]
        await desk.until(lambda: desk.told("mail.breaker_opened"), "the breaker")
        assert desk.outcomes[-1].breaker
        assert {desk.record(mail_id).state for mail_id in ids} == {HELD}
        desk.mailer.release()
        desk.later(86_400)
        assert not desk.mailer.gate().open
    clock.advance(86_400)
    async with running_desk(tmp_path, account, clock=clock) as desk:
        assert {desk.record(mail_id).state for mail_id in ids} == {HELD}
        assert not exchange.world.mail.arrived
        desk.mailer.settings_changed()
        for mail_id in ids:
            await desk.becomes(mail_id, SENT)
        assert desk.told("mail.breaker_closed")


async def test_a_test_mail_closes_the_breaker_for_a_trial(
    tmp_path: Path, account: Account, exchange: ThreadedSimulator
) -> None:
    """Send test mail is the administrator's way of saying: try now."""
    exchange.order("smtp", "reply", stage="message", text="554 5.2.252 SendAsDenied")
    async with running_desk(tmp_path, account) as desk:
        first = await desk.submit()
        await desk.until(lambda: not desk.mailer.gate().open, "the breaker")
        await desk.submit(mail(2), kind="test", priority=Priority.ALERT)
        await desk.becomes(first.id, SENT)


async def test_a_drop_behind_the_final_dot_waits_ten_minutes_and_repeats_with_the_same_message_id(
    tmp_path: Path, account: Account, exchange: ThreadedSimulator
) -> None:
    """The outcome is unknown: neither lost nor hammered, and a duplicate can be recognised."""
    exchange.order("smtp", "drop", stage="stored")
    composed = mail(1)
    async with running_desk(tmp_path, account) as desk:
        accepted = await desk.submit(composed)
        record = await desk.becomes(accepted.id, DEFERRED)
        assert record.next_attempt_at is not None
        assert record.next_attempt_at - desk.clock.now().wall > 590
        desk.later(400)
        assert desk.record(accepted.id).attempts == 1
        desk.later(300)
        await desk.becomes(accepted.id, SENT)
    ids = [arrived.parsed()["Message-ID"] for arrived in exchange.world.mail.arrived]
    assert ids == [composed.message_id] * 2  # the server had taken the first one, which nobody could know


async def test_an_unreachable_server_is_tried_again_and_at_once_when_the_wan_is_back(
    tmp_path: Path, account: Account, exchange: ThreadedSimulator
) -> None:
    """The server's outage delays, is told once, and ends in one summary."""
    away = replace(account, target=replace(account.target, port=1))
    async with running_desk(tmp_path, away) as desk:
        accepted = await desk.submit()
        await desk.until(lambda: desk.told("mail.held"), "the outage")
        view = desk.mailer.gate()
        assert view.open
        assert view.problem is not None
        assert view.problem["code"] == "network.refused"
        record = desk.record(accepted.id)
        assert record.problem == view.problem
        desk.later(120)
        desk.account = account
        desk.mailer.wan_up()
        await desk.becomes(accepted.id, SENT)
        await desk.until(lambda: desk.told("mail.recovered"), "the summary")
        assert len(desk.told("mail.held")) == 1
        assert desk.told("mail.recovered")[0]["sent"] == 1


async def test_held_mail_does_not_age_and_unreachable_servers_do_not_stop_ageing(
    tmp_path: Path, account: Account
) -> None:
    """Ten days under HoldMail cost nothing; five days of a dead server end in a failed record and an event."""
    away = replace(account, target=replace(account.target, port=1))
    async with running_desk(tmp_path, away) as desk:
        desk.mailer.hold(named("token.none", 0.0))
        accepted = await desk.submit()
        desk.later(10 * 86_400)
        assert desk.record(accepted.id).state is HELD
        desk.mailer.release()
        await desk.until(lambda: desk.mailer.gate().problem, "the first strike")
        assert desk.record(accepted.id).state is MailState.READY
        for _ in range(3):
            desk.later(2 * 86_400)
            await desk.until(lambda: desk.mailer.gate().problem, "the next strike")
        await desk.becomes(accepted.id, FAILED)
        assert desk.told("mail.failed")[0]["code"] == "network.refused"


async def test_a_full_queue_refuses_loudly_once_and_keeps_what_it_has(tmp_path: Path, account: Account) -> None:
    """Refusal is an exception for each submitter and one event until room is made."""
    async with running_desk(tmp_path, account, limits=QueueLimits(max_mails=2)) as desk:
        desk.mailer.pause()
        ids = [(await desk.submit(mail(n))).id for n in range(2)]
        for number in range(3):
            with pytest.raises(QueueFull):
                await desk.submit(mail(10 + number))
        assert len(desk.told("mail.refused")) == 1
        assert len(desk.told("mail.queue_high")) == 1
        desk.mailer.resume()
        for mail_id in ids:
            await desk.becomes(mail_id, SENT)
        await desk.submit(mail(20))


async def test_too_many_connections_is_answered_with_a_pause_that_grows(
    tmp_path: Path, account: Account, exchange: ThreadedSimulator
) -> None:
    """432 4.3.2 while no other connection is ours: somebody else uses them, so wait; it is no failure of the mail."""
    exchange.order("smtp", "reply", stage="auth", times=2, text="432 4.3.2 Concurrent connections limit exceeded")
    async with running_desk(tmp_path, account) as desk:
        accepted = await desk.submit()
        await desk.until(lambda: desk.mailer.gate().problem, "the first pause")
        desk.later(61)
        await desk.until(lambda: exchange.world.log.counts["smtp.auth"] == 2, "the second login")
        await desk.until(lambda: desk.mailer.gate().problem, "the longer pause")
        desk.later(61)
        assert desk.mailer.gate().problem
        desk.later(60)
        record = await desk.becomes(accepted.id, SENT)
        assert record.attempts == 1


async def test_no_account_holds_mail_until_there_is_one(tmp_path: Path, account: Account) -> None:
    """Mail before the first sign-in is kept, not refused."""
    async with running_desk(tmp_path, None) as desk:
        accepted = await desk.submit()
        await desk.until(lambda: not desk.mailer.gate().open, "the hold")
        desk.account = account
        desk.mailer.settings_changed()
        await desk.becomes(accepted.id, SENT)


async def test_a_server_without_exchanges_limits_is_not_slowed_by_them_after_a_restart(
    tmp_path: Path, account: Account, exchange: ThreadedSimulator
) -> None:
    """Which limits count is known before the first mail after a start."""
    exchange.world.mail.limits.over_rate = "ignore"
    modest = replace(account, limits=OTHER_SERVER)
    for _ in range(2):
        async with running_desk(tmp_path, modest) as desk:
            for number in range(31):
                last = await desk.submit(mail(number))
            await desk.becomes(last.id, SENT)
