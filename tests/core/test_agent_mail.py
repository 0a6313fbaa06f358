"""The gate of the mail: when it closes, how it opens again, what is said about it."""

from __future__ import annotations

import itertools

import pytest

from notifyd.core.commands import HoldMail, Probe, Refresh, ReleaseMail
from notifyd.core.event_definitions import DEFINITIONS
from notifyd.core.events import MailOutcome, ProbeFinished, RefreshRequested, WanUp
from notifyd.core.machine import State
from notifyd.core.problem import Problem
from notifyd.core.problems import network_problem, smtp_problem
from notifyd.core.settings import Auth, Change, Security, Settings
from tests.core.world import BUSY, INVALID_CLIENT, SENDER, SETTINGS, World, grant

BAD_TOKEN = smtp_problem(535, "5.7.3", "Authentication unsuccessful", "auth", 0.0)
AUTH_OFF = smtp_problem(535, "5.7.139", "SmtpClientAuthentication is disabled for the Tenant.", "auth", 0.0)
SEND_AS = smtp_problem(554, "5.2.252", "SendAsDenied; a not allowed to send as b", "message", 0.0)
BUSY_SERVER = smtp_problem(451, "4.7.500", "Server busy", "mail", 0.0)
NO_MAILBOX = smtp_problem(550, "5.1.1", "User unknown", "rcpt", 0.0)


def refused(world: World, problem: Problem, *, breaker: bool = False) -> None:
    world.tell(MailOutcome(False, problem, breaker))


def test_mail_is_held_from_the_first_moment_and_released_once() -> None:
    """The mailer is told at once that nothing may go, and again only when that changes."""
    world = World()
    world.apply()
    assert [type(command) for command in world.holds()] == [HoldMail]
    world.sign_in()
    assert [type(command) for command in world.holds()] == [HoldMail, HoldMail, ReleaseMail]
    world.forget()
    world.refresh_now(grant())
    assert not world.holds()


def test_an_ended_token_holds_mail_and_a_renewed_one_releases_it() -> None:
    """Held mail does not age; it flows with the next token."""
    world = World().valid(grant(3600))
    world.refresh_answer = BUSY
    world.pass_time(3601)
    assert [type(command) for command in world.holds()] == [HoldMail]
    world.forget()
    world.refresh_answer = grant(3600)
    world.pass_time(1800)
    assert world.holds() == [ReleaseMail()]


def test_a_refused_old_token_is_renewed_once_and_then_proved() -> None:
    """535 5.7.3 with a token of twenty minutes: hold, renew, check the login, release."""
    world = World().valid()
    world.boot += 1200
    refused(world, BAD_TOKEN)
    assert not world.status.can_send
    assert len(world.saw(Refresh)) == 1
    world.refreshed(grant())
    assert world.saw(Probe)
    assert not world.status.can_send
    world.probed()
    assert world.status.can_send


def test_a_refused_fresh_token_is_a_problem_of_mail_not_of_the_token() -> None:
    """Right after a renewal another renewal cures nothing: Valid, can_send false, no circle."""
    world = World().valid()
    world.boot += 1200
    refused(world, BAD_TOKEN)
    world.refreshed(grant())
    world.probed(BAD_TOKEN)
    world.forget()
    refused(world, BAD_TOKEN)
    world.pass_time(600)
    assert not world.saw(Refresh)
    assert world.state is State.VALID
    assert world.problem.code == "smtp.535-5.7.3"


def test_a_switched_off_login_costs_no_renewal_and_is_checked_again() -> None:
    """535 5.7.139 is no fault of the token; after the switch is turned the login check finds out by itself."""
    world = World().valid()
    world.boot += 1200
    refused(world, AUTH_OFF)
    assert not world.saw(Refresh)
    assert world.events("token.refused")
    world.forget()
    world.answers_probes = True
    world.pass_time(18 * 60)
    assert world.saw(Probe)
    assert world.status.can_send


def test_login_checks_grow_rarer_up_to_an_hour() -> None:
    """A login that stays refused is checked every 15 to 60 minutes, not every minute."""
    world = World().valid(grant(86400))
    world.answers_probes, world.probe_outcome = True, AUTH_OFF
    refused(world, AUTH_OFF)
    moments = []
    for _ in range(400):
        world.forget()
        world.pass_time(60)
        moments += [world.boot] * len(world.saw(Probe))
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert min(gaps) >= 12 * 60
    assert max(gaps) <= 73 * 60
    assert gaps[-1] > gaps[0]


def test_permanent_errors_open_a_breaker_for_hours() -> None:
    """Repeating them makes Exchange block the mailbox: at least three hours of silence, then a login check."""
    world = World().valid(grant(86400))
    refused(world, SEND_AS, breaker=True)
    assert not world.status.can_send
    assert world.events("mail.breaker_opened")
    world.forget()
    world.answers_probes = True
    world.pass_time(3 * 3600)
    assert not world.saw(Probe)
    world.pass_time(2 * 3600)
    assert world.saw(Probe)
    assert world.status.can_send
    assert world.events("mail.breaker_closed")


@pytest.mark.parametrize("ends_it", ["apply", "admin"])
def test_apply_or_the_administrators_wish_ends_the_breaker(ends_it: str) -> None:
    """Something was changed or is to be tried: the login is checked at once."""
    world = World().valid()
    refused(world, SEND_AS, breaker=True)
    world.forget()
    if ends_it == "apply":
        other = Settings("smtp.example", 587, SETTINGS.security, SETTINGS.auth, "public", SENDER,
                         SETTINGS.client_id, SETTINGS.tenant_id)  # fmt: skip
        world.apply(other, Change.COSMETIC)
    else:
        world.tell(RefreshRequested("admin"))
    assert world.saw(Probe)
    world.probed()
    assert world.status.can_send


@pytest.mark.parametrize("problem", [BUSY_SERVER, NO_MAILBOX])
def test_a_messages_own_fault_does_not_stop_the_others(problem: Problem) -> None:
    """Deferrals and unknown recipients are the queue's business."""
    world = World().valid()
    refused(world, problem)
    assert world.status.can_send
    assert not world.holds()


def test_an_accepted_message_opens_the_gate() -> None:
    """The best proof that the mail server lets us in."""
    world = World().valid()
    refused(world, AUTH_OFF)
    world.tell(MailOutcome(True))
    assert world.status.can_send


def test_the_wan_coming_back_hastens_the_login_check() -> None:
    """A mail server that could not be reached is asked again within seconds."""
    world = World()
    world.apply()
    world.sign_in(outcome=network_problem("timeout", "smtp", "", 0.0))
    world.forget()
    world.tell(WanUp())
    world.pass_time(6)
    assert world.saw(Probe)


def test_a_login_check_of_old_settings_says_nothing_about_new_ones() -> None:
    """A result of another generation is dropped, and the check is made anew."""
    world = World()
    world.apply()
    world.start_signin()
    world.code_arrives()
    world.redeemed(grant())
    old = world.status.generation
    other = Settings("smtp.example", 587, SETTINGS.security, SETTINGS.auth, "public", SENDER,
                     SETTINGS.client_id, SETTINGS.tenant_id)  # fmt: skip
    world.apply(other, Change.COSMETIC)
    assert len(world.saw(Probe)) == 2
    world.tell(ProbeFinished(old, AUTH_OFF))
    assert world.state is State.PENDING
    world.probed()
    assert world.state is State.VALID


def test_a_server_without_oauth_needs_no_token() -> None:
    """With a password, or none, mail flows from Apply on; its login failures close the gate all the same."""
    world = World()
    plain = Settings("mail.example", 587, Security.STARTTLS, Auth.PASSWORD, "public", SENDER)
    world.apply(plain)
    assert world.state is State.UNCONFIGURED
    assert world.status.can_send
    refused(world, smtp_problem(535, "", "no", "auth", 0.0))
    assert not world.status.can_send
    assert not world.saw(Refresh)
    world.answers_probes = True
    world.pass_time(20 * 60)
    assert world.saw(Probe)
    assert world.status.can_send


def test_what_needs_a_person_is_told_again_ever_more_rarely() -> None:
    """At once, after a day, after three more, then weekly; never again once it is cured."""
    world = World().valid(grant(86400))
    world.refresh_now(INVALID_CLIENT)
    told = []
    begun = world.boot
    world.refresh_answer = INVALID_CLIENT
    for _ in range(40 * 4):
        world.forget()
        world.pass_time(6 * 3600)
        told += [world.boot - begun for record in world.events() if "reminder" in record.fields]
    world.refresh_answer = None
    days = [int(moment / 86400) for moment in told]
    assert days == [1, 4, 11, 18, 25, 32, 39]
    world.refresh_now(grant())
    world.forget()
    world.apply(change=Change.NONE)
    assert not [record for record in world.events() if "reminder" in record.fields]


def test_every_event_of_the_agent_is_defined() -> None:
    """A record that docs/events.md does not know would be a defect."""
    world = World().valid(grant(3600))
    refused(world, AUTH_OFF)
    refused(world, SEND_AS, breaker=True)
    world.refresh_now(INVALID_CLIENT)
    world.refresh_now(grant())
    assert {record.event for record in world.events()} <= DEFINITIONS.keys()
