"""Events on their way to real collectors: every transport, both daemons, and collectors that go away."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifyd.adapters import syslog as module
from notifyd.adapters.eventlog import EventLog
from notifyd.adapters.syslog import Forwarder
from notifyd.core.collectors import Collector, Transport
from notifyd.core.event_shape import draft
from notifyd.core.eventlog import Level, Record
from notifyd.core.rfc5424 import Origin, octet_counted, rfc5424
from tests.collectors.daemons import UNPACKED, Daemon, make

assert (UNPACKED / "usr/sbin/rsyslogd").exists(), "run `make setup`: the collectors are not unpacked"

ORIGIN = Origin(host="usg.example", process_id="4711")
BOOT = "c" * 32


@pytest.fixture(params=["rsyslog", "syslog-ng"])
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    daemon = make(request.param, tmp_path / request.param)
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    log = EventLog(tmp_path / "events.db", boot_id=BOOT)
    yield log
    log.close()


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0.05)
    monkeypatch.setattr(module, "MAX_RETRY_S", 0.2)


def collector(daemon: Daemon, transport: str, **changes: Any) -> Collector:
    ca_file = str(daemon.directory / "ca.pem")
    return Collector(Transport(transport), "127.0.0.1", daemon.port[transport], ca_file=ca_file, **changes)


@asynccontextmanager
async def forwarding(log: EventLog, target: Collector) -> AsyncIterator[Forwarder]:
    forwarder = Forwarder(log, target, ORIGIN)
    task = asyncio.create_task(forwarder.run())
    await asyncio.sleep(0)
    try:
        yield forwarder
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        await asyncio.sleep(0.01)


def numbers(daemon: Daemon) -> list[int]:
    """The numbers of the test's own mails that arrived, in order."""
    found = (re.search(r"Mail n(\d+) ", message["msg"]) for message in daemon.received)
    return [int(match[1]) for match in found if match]


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_a_collector_understands_every_part(daemon: Daemon, log: EventLog, transport: str) -> None:
    """Priority, time, host, name, structured data with awkward values and any text arrive as they were sent."""
    async with forwarding(log, collector(daemon, transport)):
        log.emit("token.retrieved", account='o"dd]na\\me@contoso.example', expires_at=1795572000, note="Grüße 日本")
        log.emit("clock.wrong", title="日本 clock")
        await until(lambda: len(daemon.received) == 2, "both messages")
    first, second = daemon.received
    assert first["pri"] == str(17 * 8 + 5)
    assert first["host"] == "usg.example"
    assert first["app"] == "notifyd"
    assert first["msgid"] == "token.retrieved"
    assert first["msg"].startswith('Microsoft 365 token retrieved for o"dd]na\\me@contoso.example (valid until')
    assert first["time"].startswith("20")
    if daemon.name == "rsyslog":
        assert '[meta sequenceId="1"]' in first["sd"]
        assert r'account="o\"dd\]na\\me@contoso.example"' in first["sd"]
        assert 'note="Grüße 日本"' in first["sd"]
    else:
        ours = first["_SDATA"]["notifyd@32473"]
        assert first["_SDATA"]["meta"]["sequenceId"] == "1"
        assert ours["account"] == 'o"dd]na\\me@contoso.example'
        assert ours["note"] == "Grüße 日本"
        assert ours["boot"] == BOOT
    assert second["msg"].removeprefix("\ufeff") == "The clock of the gateway is wrong: 日本 clock"


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_nothing_is_lost_while_a_collector_is_away(daemon: Daemon, log: EventLog, transport: str) -> None:
    """Killed and started again in the middle: all events arrive, each at least once, and the outage is told of once."""
    async with forwarding(log, collector(daemon, transport)) as forwarder:
        for number in range(100):
            log.emit("mail.sent", mail_id=f"n{number}", to="a@b.example")
        await until(lambda: len(numbers(daemon)) >= 100, "the first hundred")
        daemon.stop()
        for number in range(100, 400):
            log.emit("mail.sent", mail_id=f"n{number}", to="a@b.example")
        await until(lambda: forwarder.reachable is False, "the outage to be noticed")
        daemon.start()
        await until(lambda: set(numbers(daemon)) >= set(range(400)), "all events")
        await until(lambda: log.query(event="syslog.restored"), "the end of the outage")
    assert sorted(set(numbers(daemon))) == list(range(400))
    assert len(log.query(event="syslog.unreachable")) == 1
    assert log.query(event="syslog.restored")[0].fields["dropped"] == 0


async def test_the_oldest_are_dropped_and_counted_beyond_the_backlog(daemon: Daemon, log: EventLog) -> None:
    """A collector that was away too long gets the newest events and is told how many it missed."""
    daemon.stop()
    async with forwarding(log, collector(daemon, "tcp", backlog=50)) as forwarder:
        for number in range(500):
            log.emit("mail.sent", mail_id=f"n{number}", to="a@b.example")
        await until(lambda: forwarder.reachable is False, "the outage to be noticed")
        daemon.start()
        await until(lambda: 499 in numbers(daemon), "the newest")
        await until(lambda: log.query(event="syslog.restored"), "the end of the outage")
    arrived = numbers(daemon)
    assert arrived == list(range(arrived[0], 500))
    assert log.query(event="syslog.restored")[0].fields["dropped"] == forwarder.dropped
    assert forwarder.dropped + len(arrived) in range(500, 502)


async def test_a_collector_gets_only_what_it_wants(daemon: Daemon, log: EventLog) -> None:
    """By level and by category."""
    wanted = collector(daemon, "tcp", level=Level.ERROR, categories=frozenset({"mail"}))
    async with forwarding(log, wanted):
        log.emit("mail.sent", mail_id="1", to="x")
        log.emit("token.expired", account="x")
        log.emit("mail.failed", mail_id="2", to="x", title="t")
        await until(lambda: daemon.received, "the one")
    assert [message["msgid"] for message in daemon.received] == ["mail.failed"]


async def test_a_collector_that_cannot_prove_its_name_gets_nothing(
    daemon: Daemon, log: EventLog, tmp_path: Path
) -> None:
    """A certificate of another authority: no event leaves, and the reason is named."""
    other = make("rsyslog", tmp_path / "other")
    target = Collector(Transport.TLS, "127.0.0.1", daemon.port["tls"], ca_file=str(other.directory / "ca.pem"))
    async with forwarding(log, target) as forwarder:
        log.emit("mail.failed", mail_id="2", to="x", title="t")
        await until(lambda: forwarder.reachable is False, "the refusal")
    assert daemon.received == []
    assert "certificate verify failed" in str(log.query(event="syslog.unreachable")[0].fields["reason"])


async def test_the_layout_of_the_family_is_taken_by_rsyslog(log: EventLog, tmp_path: Path) -> None:
    """`src= dst= msg= note= user= devID= cat=` with newline framing, as collectors for these gateways expect it."""
    daemon = make("rsyslog", tmp_path / "rsyslog")
    daemon.start()
    try:
        async with forwarding(log, collector(daemon, "tcp", family_layout=True, newline_framing=True)):
            log.emit("auth.login_failed", user='ad"min', remote="192.168.1.33", reason="wrong")
            await until(lambda: daemon.received, "the message")
        raw = daemon.received[0]["raw"]
    finally:
        daemon.stop()
    assert re.fullmatch(
        r'<140>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4} usg\.example src="192\.168\.1\.33:0" dst="" '
        r"msg=\"Login failed for ad'min from 192\.168\.1\.33\" note=\"auth\.login_failed\" user=\"ad'min\" devID=\"\" "
        r'cat="User" action=""',
        raw,
    )


async def test_an_idle_forwarder_sleeps(log: EventLog) -> None:
    """Without news nothing is scheduled: no timer, no connection."""
    target = Collector(Transport.TCP, "127.0.0.1", 9)
    async with forwarding(log, target) as forwarder:
        await asyncio.sleep(0)
        assert forwarder.reachable is None
        assert not [handle for handle in asyncio.get_running_loop()._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]


text = st.text(st.characters(codec="utf-8"), max_size=60)
names = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True).filter(lambda name: name not in ("category", "boot"))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = make("syslog-ng", tmp_path_factory.mktemp("property") / "syslog-ng")
    daemon.start()
    yield daemon
    daemon.stop()


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    drafts=st.lists(
        st.tuples(
            st.sampled_from(Level), text, st.dictionaries(names, text | st.integers(-(2**40), 2**40), max_size=5)
        ),
        min_size=20,
        max_size=60,
    )
)
def test_a_real_parser_reads_back_whatever_is_encoded(running: Daemon, drafts: list[Any]) -> None:
    """Any event, encoded and framed, comes out of syslog-ng with the same priority, text and fields."""
    before = len(running.received)
    records = []
    for number, (level, message, fields) in enumerate(drafts, 1):
        made = draft("mail.sent", level, message, fields)
        records.append(Record(number, 1.8e9, BOOT, made.level, made.category, made.event, made.message, made.fields))
    asyncio.run(_send(running, [rfc5424(record, ORIGIN) for record in records]))
    deadline = time.monotonic() + 20
    while len(running.received) < before + len(records):
        assert time.monotonic() < deadline, "waited for syslog-ng"
        time.sleep(0.02)
    for record, got in zip(records, running.received[before:], strict=True):
        assert got["pri"] == str(ORIGIN.priority(record))
        assert got["msgid"] == record.event
        assert got.get("msg", "").removeprefix("\ufeff").strip() == record.message
        ours = got["_SDATA"]["notifyd@32473"]
        assert got["_SDATA"]["meta"]["sequenceId"] == str(record.id)
        shown = {name[:32]: str(value) for name, value in record.fields.items()}
        assert {name: value for name, value in ours.items() if name not in ("category", "boot")} == shown


async def _send(daemon: Daemon, messages: list[bytes]) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", daemon.port["tcp"])
    writer.write(b"".join(map(octet_counted, messages)))
    await writer.drain()
    writer.close()
    await writer.wait_closed()
