"""The governor: never above Exchange's limits by anybody's watch, and close to them when there is work."""

from __future__ import annotations

import math
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from notifyd.core.governor import DAY_S, EXCHANGE, OTHER_SERVER, Complaint, Governor, Limits, Sent, Throttle


class Server:
    """Counts as Exchange may: at any moment between the start of a message and its last reply."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.minute: deque[float] = deque()
        self.day: deque[tuple[float, int]] = deque()
        self.day_total = 0

    def take(self, at: float, recipients: int) -> None:
        self.minute.append(at)
        while self.minute[0] <= at - 60.0:
            self.minute.popleft()
        self.day.append((at, recipients))
        self.day_total += recipients
        while self.day[0][0] <= at - DAY_S:
            self.day_total -= self.day.popleft()[1]
        assert len(self.minute) <= (self.limits.messages_per_minute or math.inf)
        assert self.day_total <= (self.limits.recipients_per_day or math.inf)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 700), st.floats(0, 1), st.booleans()), min_size=1, max_size=300)
)
def test_no_window_of_the_server_is_ever_exceeded_whenever_it_counts(
    mails: list[tuple[float, int, float, bool]],
) -> None:
    """Whatever the latencies, sizes and restarts: no 60 s hold more than 30 messages, no day too many recipients."""
    limits = Limits(messages_per_minute=30, recipients_per_day=2_000)
    governor, server, now, log = Governor(limits), Server(limits), 0.0, list[Sent]()
    for latency, recipients, counted_at, restart in mails:
        chunk = governor.chunk(min(recipients, 2_000), now)
        start = governor.next_start(chunk, now)
        assert start < math.inf
        ticket = governor.begin(chunk)
        server.take(start + latency * counted_at, chunk)
        now = start + latency
        governor.finish(ticket, now)
        log.append(Sent(now, chunk))
        if restart:
            governor = Governor(limits, log)


def test_a_busy_queue_uses_at_least_97_percent_of_the_minute() -> None:
    """With half a second per message the allowance of an hour is used up to 97 % and more."""
    governor, now, sent = Governor(EXCHANGE), 0.0, 0
    while True:
        start = governor.next_start(1, now)
        if start >= 3_600:
            break
        ticket = governor.begin(1)
        now = start + 0.5
        governor.finish(ticket, now)
        sent += 1
    assert 0.97 * 1_800 <= sent <= 1_800 + 30


def test_a_busy_queue_uses_at_least_97_percent_of_the_days_recipients() -> None:
    """Mails with 37 recipients each: the day's 10,000 are used up to 97 %, also in the second day."""
    governor, now, used = Governor(EXCHANGE), 0.0, [0, 0]
    while True:
        chunk = governor.chunk(37, now)
        start = governor.next_start(chunk, now)
        if start >= 2 * DAY_S:
            break
        ticket = governor.begin(chunk)
        now = start + 0.2
        governor.finish(ticket, now)
        used[int(start // DAY_S)] += chunk
    assert all(0.97 * 10_000 <= count <= 10_000 + 37 for count in used)


def test_what_is_in_flight_counts_until_its_end_is_known() -> None:
    """Thirty messages that hang leave no room for a thirty-first, however long they hang."""
    governor = Governor(EXCHANGE)
    for _ in range(30):
        assert governor.next_start(1, 0.0) == 0.0
        governor.begin(1)
    assert governor.next_start(1, 10_000.0) == math.inf


def test_an_attempt_that_did_not_start_gives_its_share_back() -> None:
    """A cancelled ticket leaves no trace."""
    governor = Governor(Limits(messages_per_minute=1))
    governor.cancel(governor.begin(1))
    assert governor.next_start(1, 5.0) == 5.0


def test_a_restart_does_not_forget_the_last_minute() -> None:
    """Thirty just sent: the next may start a minute after the first of them, also in a new process."""
    log = [Sent(float(second), 1) for second in range(30)]
    assert 60.0 <= Governor(EXCHANGE, log).next_start(1, 30.0) <= 60.1


def test_pauses_double_while_the_server_complains_and_end_with_a_success() -> None:
    """60 s, 120 s, … at most 15 minutes; a success forgets them."""
    governor, now, pauses = Governor(EXCHANGE), 0.0, []
    for _ in range(8):
        pauses.append(governor.complained(Complaint.RATE, now).until - now)
        now = governor.throttle.until
    assert pauses[:3] == [60.0, 120.0, 240.0]
    assert max(pauses) == 900.0
    assert governor.succeeded()
    assert governor.next_start(1, now) == now
    assert not governor.succeeded()


def test_the_quota_of_the_day_is_asked_for_again_in_hours() -> None:
    """Recipients used up by somebody else: an hour first, six at most."""
    governor = Governor(EXCHANGE)
    assert governor.complained(Complaint.QUOTA, 0.0).until == 3_600.0
    for _ in range(6):
        governor.complained(Complaint.QUOTA, governor.throttle.until)
    assert governor.throttle.until <= 6 * 6 * 3_600.0 + 7 * 3_600.0


def test_a_complaint_about_connections_gives_one_up_and_regains_it_after_calm() -> None:
    """Three become two without a pause while another is open; ten minutes later three again."""
    governor = Governor(EXCHANGE)
    assert governor.connections(0.0) == 3
    assert governor.complained(Complaint.CONNECTIONS, 1_000.0, others=2).until == 0.0
    assert governor.connections(1_000.0) == 2
    assert governor.connections(1_601.0) == 3


def test_a_throttle_survives_storing() -> None:
    """What is stored comes back, and nonsense falls back to the defaults."""
    throttle = Throttle(until=12.5, strikes=3, connections=1, complained=9.0)
    assert Throttle.from_json(throttle.as_json()) == throttle
    assert Throttle.from_json({}) == Throttle()


def test_a_server_without_limits_is_not_paced() -> None:
    """A password or relay server takes mail as fast as it answers."""
    governor = Governor(OTHER_SERVER)
    for second in range(500):
        assert governor.next_start(100, second / 10) == second / 10
        governor.finish(governor.begin(100), second / 10)
    assert governor.chunk(1_000, 0.0) == 100
