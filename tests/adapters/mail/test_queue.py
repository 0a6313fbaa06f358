"""The queue on disk: accepted is durable, bounded, and never twice for one key."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from notifyd.adapters.queue import Accepted, Busy, KeyReused, MailQueue, QueueFull, QueueLimits, Submission
from notifyd.core.delivery import Result
from notifyd.core.outbox import Fate, MailState, Priority, Recipient, RecipientState
from tests.support.mail import MovableClock, mail, open_queue

CHANCE = random.Random(1)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


def accept(queue: MailQueue, number: int = 0, **options: Any) -> Accepted:
    return queue.accept(Submission(mail(number), **options))


def deliver(queue: MailQueue, state: RecipientState = RecipientState.DELIVERED) -> str:
    waiting = queue.peek()
    assert waiting is not None
    job = queue.take(waiting.seq, waiting.pending)
    settled = {address: Recipient(address, state, "250 ok") for address in job.recipients}
    record, fate = queue.finish(job, Result(settled, "250 ok"), CHANCE)
    assert fate in (Fate.SENT, Fate.FAILED)
    return record.id


def test_what_was_being_sent_at_a_crash_is_ready_again_with_the_same_bytes(tmp_path: Path, clock: MovableClock) -> None:
    """A new process finds it, with its attempt counted and against the server's limits."""
    with open_queue(tmp_path, clock) as queue:
        accepted = accept(queue, 1)
        waiting = queue.peek()
        assert waiting is not None
        raw = queue.take(waiting.seq, 1).raw
        assert queue.peek() is None
    with open_queue(tmp_path, clock) as queue:
        record = queue.record(accepted.id)
        assert record is not None
        assert (record.state, record.attempts) == (MailState.READY, 1)
        assert queue.body(accepted.id) == raw
        assert len(queue.attempts()) == 1
        assert queue.counts()["ready"] == 1


def test_a_key_is_accepted_once_also_after_a_restart_and_after_sending(tmp_path: Path, clock: MovableClock) -> None:
    """The answer that got lost is asked for again: the same id, no second mail; another content is refused."""
    same = mail(1)
    with open_queue(tmp_path, clock) as queue:
        first = queue.accept(Submission(same, idempotency_key="k"))
    with open_queue(tmp_path, clock) as queue:
        assert queue.accept(Submission(same, idempotency_key="k")) == Accepted(first.id, duplicate=True)
        deliver(queue)
        assert queue.accept(Submission(same, idempotency_key="k")).duplicate
        with pytest.raises(KeyReused):
            queue.accept(Submission(mail(2, text="other"), idempotency_key="k"))
        assert queue.waiting() == 0


@pytest.mark.parametrize("limits", [QueueLimits(max_mails=3), QueueLimits(max_bytes=3 * len(mail().raw) + 10)])
def test_the_bounds_refuse_the_new_and_keep_the_old(tmp_path: Path, clock: MovableClock, limits: QueueLimits) -> None:
    """By number and by size; a batch is refused one by one; room comes back with each mail sent."""
    with open_queue(tmp_path, clock, limits) as queue:
        answers = queue.accept_all([Submission(mail(n)) for n in range(5)])
        assert [type(answer) for answer in answers] == [Accepted] * 3 + [QueueFull] * 2
        assert queue.fullness() > 0.98
        deliver(queue)
        accept(queue, 9)
        with pytest.raises(QueueFull):
            accept(queue, 10)


def test_records_of_finished_mail_are_bounded_and_their_bodies_go_at_once(tmp_path: Path, clock: MovableClock) -> None:
    """The newest outcomes stay; the file does not keep what was sent."""
    with open_queue(tmp_path, clock, QueueLimits(keep_finished=10)) as queue:
        ids = []
        for number in range(30):
            accept(queue, number)
            ids.append(deliver(queue))
        assert queue.counts()["sent"] == 10
        assert [record.id for record in queue.records(MailState.SENT)] == ids[:-11:-1]
        assert queue.counts()["bytes"] == 0
        assert queue.counts()["sent_today"] == 30
    with sqlite3.connect(tmp_path / "notifyd.db") as database:
        assert database.execute("SELECT count(*) FROM mail_body").fetchone() == (0,)
    database.close()


def test_order_is_priority_then_age(tmp_path: Path, clock: MovableClock) -> None:
    """Alerts first; within a priority the oldest."""
    with open_queue(tmp_path, clock) as queue:
        ids = {}
        for number, priority in enumerate([Priority.BULK, Priority.REPORT, Priority.ALERT, Priority.ALERT]):
            ids[accept(queue, number, priority=priority).id] = number
            clock.advance(1)
        assert [ids[deliver(queue)] for _ in range(4)] == [2, 3, 1, 0]


def test_a_deferred_mail_falls_due_and_retry_makes_it_due_now(tmp_path: Path, clock: MovableClock) -> None:
    """Nothing is peeked before its time; retry asks for now."""
    with open_queue(tmp_path, clock) as queue:
        accepted = accept(queue)
        waiting = queue.peek()
        assert waiting is not None
        record, fate = queue.finish(queue.take(waiting.seq, 1), Result({}, "450 later", {"code": "x"}), CHANCE)
        assert (fate, record.state, record.problem) == (Fate.LATER, MailState.DEFERRED, {"code": "x"})
        assert queue.peek() is None
        due = queue.next_due()
        assert due is not None
        assert 40 < due - queue.clock().powered < 80
        assert queue.counts()["deferred"] == 1
        assert queue.retry(accepted.id) == 1
        assert queue.peek() is not None
        assert queue.counts()["ready"] == 1


def test_deleting_makes_room_and_a_mail_being_sent_cannot_be_deleted(tmp_path: Path, clock: MovableClock) -> None:
    """DELETE is for what waits or is over."""
    with open_queue(tmp_path, clock) as queue:
        first, second = accept(queue, 1), accept(queue, 2)
        waiting = queue.peek()
        assert waiting is not None
        queue.take(waiting.seq, 1)
        with pytest.raises(Busy):
            queue.delete(first.id)
        assert queue.delete(second.id) is not None
        assert queue.delete(second.id) is None
        assert queue.counts()["queued"] == 1


def test_ids_are_never_reused_not_even_after_a_deletion_and_a_restart(tmp_path: Path, clock: MovableClock) -> None:
    """An id that a caller holds never comes to name another mail."""
    with open_queue(tmp_path, clock) as queue:
        first = accept(queue, 1).id
        queue.delete(first)
    with open_queue(tmp_path, clock) as queue:
        assert accept(queue, 2).id != first


@pytest.mark.parametrize("mail_id", ["", "x", "0", "ffffffffffffffffffffffff", "../etc", "\0", "1" * 500, "é"])
def test_a_strange_id_names_nothing(tmp_path: Path, clock: MovableClock, mail_id: str) -> None:
    """Ids come from outside."""
    with open_queue(tmp_path, clock) as queue:
        accept(queue)
        assert queue.record(mail_id) is None
        assert queue.body(mail_id) is None
        assert queue.delete(mail_id) is None
        assert queue.retry(mail_id) == 0


def test_age_is_counted_in_powered_time_that_was_not_held(tmp_path: Path, clock: MovableClock) -> None:
    """A year without power and a month on hold do not age; five days of trying do."""
    with open_queue(tmp_path, clock) as queue:
        accept(queue)
        queue.set_held(True)
        clock.advance(30 * 86_400)
        queue.set_held(False)
        clock.advance(4.9 * 86_400)
        assert queue.expire({"code": "x"}) == []
    clock.advance(365 * 86_400)
    clock.reboot()
    with open_queue(tmp_path, clock) as queue:
        assert queue.expire({"code": "x"}) == []
        clock.advance(5 * 86_400)
        assert len(queue.expire({"code": "x"})) == 1


def test_expired_mail_is_failed_with_its_reason(tmp_path: Path, clock: MovableClock) -> None:
    """Given up visibly: state, problem, no body."""
    with open_queue(tmp_path, clock) as queue:
        accepted = accept(queue)
        clock.advance(5 * 86_400 + 1)
        (record,) = queue.expire({"code": "network.refused"})
        assert record.id == accepted.id
        stored = queue.record(accepted.id)
        assert stored is not None
        assert (stored.state, stored.problem) == (MailState.FAILED, {"code": "network.refused"})
        assert queue.body(accepted.id) is None
        assert queue.counts()["failed"] == 1


def test_a_restart_never_makes_ready_mail_wait(tmp_path: Path, clock: MovableClock) -> None:
    """Accepted late in one boot, nothing else saved since: due at once in the same boot and in the next."""
    with open_queue(tmp_path, clock):
        clock.advance(5_000)
    with open_queue(tmp_path, clock) as queue:
        accept(queue)
        clock.advance(1_000)
        accept(queue)
    with open_queue(tmp_path, clock) as queue:
        assert queue.peek() is not None
    clock.reboot()
    with open_queue(tmp_path, clock) as queue:
        assert queue.peek() is not None
