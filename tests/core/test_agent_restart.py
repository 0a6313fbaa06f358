"""Restarts, reboots, power cuts and clocks: what is believed afterwards, and what is not."""

from __future__ import annotations

import dataclasses
import itertools
from datetime import UTC, date, datetime, timedelta

import pytest

from notifyd.core.commands import Emit, Probe, Redeem, Refresh, SaveSnapshot, WipeGrant
from notifyd.core.events import Failure, FailureKind, MailOutcome, RefreshRequested, Tick, WanUp
from notifyd.core.machine import State
from notifyd.core.problems import smtp_problem
from notifyd.core.settings import Change
from tests.core.world import BUSY, INVALID_CLIENT, INVALID_GRANT, SETTINGS, WALL, World, grant

CLOCK_WRONG = Failure(kind=FailureKind.TLS_TIME, description="certificate is not yet valid")
YEAR = 365.25 * 86400


def back(world: World) -> None:
    """What the service does after its start."""
    world.forget()
    world.apply(change=Change.NONE)


def test_a_restart_in_the_same_boot_is_still_valid_without_asking_microsoft() -> None:
    """kill -9 and start again: Valid at once, the renewal at the time it was planned for."""
    world = World().valid()
    due = world.status.refresh_due_at
    world.restart()
    assert world.state is State.VALID
    back(world)
    assert not world.saw(Refresh)
    assert world.status.can_send
    assert world.status.refresh_due_at == pytest.approx(due)
    assert world.events("token.restored")


@pytest.mark.parametrize("clean", [True, False])
def test_after_a_reboot_nothing_is_believed_until_it_is_renewed(clean: bool) -> None:
    """Nobody knows how long the power was off: Expired, then Valid with the first success."""
    world = World().valid()
    world.restart(clean=clean, power_off_s=60.0)
    assert world.state is State.EXPIRED
    back(world)
    assert not world.status.can_send
    waited = 0.0 if world.saw(Refresh) else world.until_refresh()
    assert waited <= (10 if clean else 22 * 60)
    world.refreshed(grant())
    assert world.state is State.VALID
    assert world.status.can_send


def test_power_cuts_spread_a_fleet_and_ordered_restarts_do_not_wait() -> None:
    """Two hundred gateways without power: spread over 22 minutes; restarted in order: within ten seconds."""
    waits = {True: [], False: []}  # type: dict[bool, list[float]]
    for seed, clean in itertools.product(range(200), (True, False)):
        world = World(seed).valid()
        world.restart(clean=clean, power_off_s=60.0)
        waits[clean].append(world.until_refresh())
    assert max(waits[True]) <= 10
    assert max(waits[False]) > 1000
    assert sorted(waits[False])[100] == pytest.approx(660, abs=150)


def test_a_waiting_mail_or_the_administrator_ends_the_spread() -> None:
    """Whoever has something to send does not wait for the fleet."""
    for by, most in (("mail-waiting", 6.0), ("admin", 0.1)):
        world = World(7).valid()
        world.restart(power_off_s=60.0)
        back(world)
        world.tell(RefreshRequested(by))
        waited = 0.0 if world.saw(Refresh) else world.until_refresh()
        assert waited <= most


def test_the_wan_coming_up_at_boot_does_not_end_the_spread() -> None:
    """After a power cut every gateway of a district sees its line come up in the same minute."""
    world = World(3).valid()
    world.restart(power_off_s=60.0)
    back(world)
    world.tell(WanUp())
    assert world.until_refresh() > 60


def test_a_clean_end_is_told_once() -> None:
    """A crash soon after an ordered start must not pass for another ordered end."""
    world = World().valid()
    world.restart(clean=True)
    back(world)
    assert world.snapshot is not None
    assert not world.snapshot.clean


def test_no_request_leaves_while_stopping() -> None:
    """A service that is about to end begins nothing."""
    world = World().valid()
    world.boot += 3000
    world.restart(clean=True)
    assert not world.saw(Refresh)


def test_half_finished_sign_ins_do_not_survive() -> None:
    """Their verifiers died with the process; the state is what the held grant deserves."""
    world = World()
    world.apply()
    world.start_signin()
    world.restart()
    assert world.state is State.APPLIED
    back(world)
    world.code_arrives()
    assert not world.saw(Redeem)


@pytest.mark.parametrize("state", ["Unconfigured", "Applied", "Valid", "Expired"])
def test_every_lasting_state_survives_a_restart(state: str) -> None:
    """The same state, the same problem, the same generation."""
    world = World()
    if state != "Unconfigured":
        world.apply()
    if state in ("Valid", "Expired"):
        world.sign_in()
    if state == "Expired":
        world.until_refresh()
        world.refreshed(INVALID_CLIENT)
        world.boot += 4000
        world.tell(Tick())
    before = world.status
    world.restart()
    assert world.state.value == state
    assert world.status.problem == before.problem
    assert world.status.generation == before.generation
    assert world.status.can_send == before.can_send


def test_a_closed_gate_survives_a_restart() -> None:
    """A breaker that a restart would forget would get the mailbox blocked."""
    world = World().valid()
    denied = smtp_problem(554, "5.2.252", "SendAsDenied", "message", 0.0)
    world.tell(MailOutcome(False, denied, breaker=True))
    world.restart()
    back(world)
    assert not world.status.can_send
    world.pass_time(3600)
    assert not world.saw(Probe)


def test_the_budget_of_requests_survives_a_reboot() -> None:
    """Two hundred reboots in an hour: at most ten requests of our own accord."""
    world, requests = World().valid(), 0
    for _ in range(200):
        world.restart(clean=True, power_off_s=0.0)
        back(world)
        world.pass_time(18)
        requests += len(world.saw(Refresh))
    assert requests <= 10


def test_a_refused_grant_is_not_asked_about_more_often_because_of_reboots() -> None:
    """The alarm stands, the next try keeps its distance."""
    world = World().valid(grant(86400))
    for _ in range(4):
        world.refresh_now(INVALID_GRANT)
    world.restart(clean=True, power_off_s=60.0)
    back(world)
    assert world.problem.code == "AADSTS50173"
    assert world.until_refresh() > 5 * 3600


def test_a_grant_found_in_its_slot_without_a_plan_is_renewed() -> None:
    """A crash right after storing the first grant: the snapshot of before knows no renewal, yet one must come."""
    world = World().valid()
    assert world.snapshot is not None
    world.snapshot = dataclasses.replace(world.snapshot, due_boot=None)
    world.restart()
    assert world.until_refresh() <= 10


def test_nothing_is_saved_when_nothing_has_changed() -> None:
    """Ticks and repeated news write nothing to the flash."""
    world = World().valid()
    world.forget()
    for _ in range(100):
        world.boot += 1
        world.tell(Tick())
    assert not world.saw(SaveSnapshot)


JUMPS = {
    "1970": lambda wall: 0.0,
    "ten years back": lambda wall: wall - 10 * YEAR,
    "a day back": lambda wall: wall - 86400,
    "an hour back": lambda wall: wall - 3600,
    "an hour ahead": lambda wall: wall + 3600,
    "eight days ahead": lambda wall: wall + 8 * 86400,
    "ten years ahead": lambda wall: wall + 10 * YEAR,
    "2038": lambda wall: datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC).timestamp(),
}


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("moment", ["boot", "valid", "back-off", "refresh", "sign-in"])
def test_clock_jumps_change_no_duration(jump: str, moment: str) -> None:
    """Forty cases: nothing refreshes early or late, no grant is dropped, no sign-in ends early or lives longer."""
    world, twin = World(5).valid(), World(5).valid()
    for each in (world, twin):
        if moment == "back-off":
            each.refresh_now(BUSY)
        elif moment == "refresh":
            each.until_refresh()
        elif moment == "sign-in":
            each.start_signin("second")
        elif moment == "boot":
            each.restart(clean=True, power_off_s=60.0)
    world.set_clock(JUMPS[jump](world.now.wall))
    for each in (world, twin):
        each.forget()
        back(each)
        each.pass_time(599)
    assert world.state is twin.state
    assert world.status.pending == twin.status.pending
    assert world.agent._renewal.due == pytest.approx(twin.agent._renewal.due)
    assert len(world.saw(Refresh)) == len(twin.saw(Refresh))
    assert not world.saw(WipeGrant)
    for each in (world, twin):
        each.pass_time(2)
    assert world.status.pending == twin.status.pending == 0


def test_a_wrong_clock_is_named_and_cured_within_a_minute() -> None:
    """TLS faults caused by the clock are told as such; once NTP has set it, the renewal comes at once."""
    world = World(wall=100_000.0).valid()
    world.refresh_now(CLOCK_WRONG)
    assert world.problem.code == "clock.wrong"
    assert world.problem.transient
    assert world.events("clock.wrong")
    world.pass_time(45)
    world.set_clock(WALL)
    world.forget()
    begun = world.boot
    assert world.until_refresh() <= 60
    world.refreshed(grant())
    assert world.state is State.VALID
    assert world.boot - begun <= 60
    assert world.events("clock.right")


def test_the_clock_being_slewed_by_seconds_says_nothing() -> None:
    """NTP's small steps are no news."""
    world = World().valid()
    world.set_clock(world.now.wall + 30)
    world.tell(Tick())
    assert not world.events("clock.jumped")
    world.set_clock(world.now.wall - 7200)
    world.tell(Tick())
    assert world.events("clock.jumped")[0].fields["seconds"] == -7200


def test_suspend_counts_as_time() -> None:
    """The boot clock runs on in suspend: what ended meanwhile is Expired, and renewed at once."""
    world = World().valid(grant(3600))
    world.boot += 8 * 3600
    world.forget()
    world.tell(Tick())
    assert world.state is State.EXPIRED
    assert world.saw(Refresh)
    world.refreshed(grant())
    assert world.state is State.VALID


EXPIRY = date(2027, 3, 1)


def test_the_secrets_end_is_announced_at_60_30_14_7_and_1_days() -> None:
    """Once each, on the day, and once when it has ended."""
    world = World()
    world.set_clock(datetime(2026, 12, 25, tzinfo=UTC).timestamp())
    world.apply(dataclasses.replace(SETTINGS, secret_expires_on=EXPIRY))
    world.sign_in(grant(86400))
    world.refresh_answer = grant(86400)
    told: list[tuple[date, Emit]] = []
    while world.now.wall < datetime(2027, 3, 5, tzinfo=UTC).timestamp():
        world.forget()
        world.pass_time(3600)
        told += [(datetime.fromtimestamp(world.now.wall, UTC).date(), record) for record in world.events()
                 if record.event.startswith("secret.")]  # fmt: skip
    assert [(EXPIRY - day).days for day, _ in told] == [60, 30, 14, 7, 1, 0]
    assert [record.event for _, record in told] == ["secret.expiring"] * 5 + ["secret.expired"]
    assert world.problem.code == "secret.expired"
    assert world.state is State.VALID


def test_a_secret_that_ends_soon_is_shown_while_nothing_worse_is() -> None:
    """The banner; another problem takes precedence."""
    world = World()
    soon = datetime.fromtimestamp(WALL, UTC).date() + timedelta(days=20)
    world.apply(dataclasses.replace(SETTINGS, secret_expires_on=soon))
    world.sign_in()
    assert world.problem.code == "secret.expiring"
    assert "20 days" in world.problem.detail
    world.refresh_now(INVALID_CLIENT)
    assert world.problem.code == "AADSTS7000222"


def test_a_clock_of_1970_does_not_announce_anything() -> None:
    """Dates are judged only by a clock that can be right."""
    world = World(wall=5000.0)
    world.apply(dataclasses.replace(SETTINGS, secret_expires_on=EXPIRY))
    world.sign_in()
    assert world.status.problem is None
    assert not world.events("secret.expiring")


def test_a_new_end_date_is_announced_anew() -> None:
    """The next secret has its own five warnings."""
    world = World()
    soon = datetime.fromtimestamp(WALL, UTC).date() + timedelta(days=5)
    world.apply(dataclasses.replace(SETTINGS, secret_expires_on=soon))
    assert len(world.events("secret.expiring")) == 1
    world.apply(dataclasses.replace(SETTINGS, secret_expires_on=soon + timedelta(days=25)), Change.COSMETIC)
    assert len(world.events("secret.expiring")) == 2
