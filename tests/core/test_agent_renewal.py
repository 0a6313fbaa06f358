"""Renewals: when they happen, what a failure does and does not do, what is kept."""

from __future__ import annotations

import random

import pytest

from notifyd.core.commands import CancelSignins, CommitGrant, Refresh, WipeGrant
from notifyd.core.events import (
    Failure,
    FailureKind,
    GrantCommitFailed,
    GrantForgotten,
    RefreshFinished,
    RefreshRequested,
    SettingsCleared,
    Tick,
    WanDown,
    WanUp,
)
from notifyd.core.failure import FailureClass, failure_class
from notifyd.core.machine import State
from notifyd.core.problems import named
from notifyd.core.refresh import Renewal
from notifyd.core.settings import Auth, Change, Security
from tests.core.world import (
    BUSY,
    INVALID_CLIENT,
    INVALID_GRANT,
    SETTINGS,
    World,
    grant,
)

HOUR = 3600.0


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("lifetime", [600, 3600, 4500, 86400, 28 * 3600])
def test_a_token_is_renewed_at_a_jittered_time_well_before_it_ends(seed: int, lifetime: int) -> None:
    """Between half and two thirds of its life, and at least daily whatever the answer says."""
    world = World(seed).valid(grant(lifetime))
    waited = world.until_refresh()
    trusted = min(lifetime, 86400)
    assert 0.5 * trusted <= waited <= 0.65 * trusted
    assert world.state is State.VALID


def test_gateways_do_not_renew_together() -> None:
    """A hundred gateways that got their tokens in the same second spread their renewals over minutes."""
    moments = [World(seed).valid().until_refresh() for seed in range(100)]
    assert max(moments) - min(moments) > 300
    assert len(set(moments)) == 100


@pytest.mark.parametrize("seed", range(10))
def test_refresh_in_is_honoured(seed: int) -> None:
    """Microsoft may wish an earlier renewal; never a later one than our own."""
    assert 900 <= World(seed).valid(grant(refresh_in=900)).until_refresh() <= 990
    assert World(seed).valid(grant(refresh_in=3500)).until_refresh() <= 0.65 * 3600


def test_a_renewal_keeps_who_signed_in_and_when() -> None:
    """The age of the grant is that of the sign-in, not of the last renewal."""
    world = World().valid()
    world.refresh_now(grant(account="", object_id="", tenant_id="", claims={}))
    assert world.state is State.VALID
    assert world.status.account == "gateway@contoso.example"
    assert world.status.grant_age_s is not None
    assert world.status.grant_age_s >= 1800
    assert world.events("token.refreshed")[0].fields["by"] == "schedule"


def test_a_renewed_grant_is_used_only_after_it_is_stored() -> None:
    """Until the store has it, the old access token and its end are what is known."""
    world = World().valid()
    end = world.status.access_expires_at
    world.commit_works = False
    world.refresh_now(grant())
    assert world.status.access_expires_at == pytest.approx(end)
    assert world.saw(CommitGrant)


def test_a_renewal_that_cannot_be_stored_is_tried_again() -> None:
    """The grant before it stands; the problem names the store; the next try comes by itself."""
    world = World().valid()
    world.commit_works = False
    world.refresh_now(grant())
    world.tell(GrantCommitFailed(world.status.generation, named("store.write-failed", 0.0)))
    assert world.state is State.VALID
    assert world.problem.code == "store.write-failed"
    world.commit_works = True
    world.refresh_now(grant())
    assert world.status.problem is None


def test_transient_failures_keep_valid_until_the_token_really_ends() -> None:
    """503 after 503: Valid, then Expired in the very second in which the access token ends."""
    world = World().valid(grant(3600))
    end = world.boot + 3600
    while True:
        waited = world.until_refresh()
        if world.boot >= end:
            break
        assert waited > 0
        assert world.state is State.VALID
        assert world.status.can_send
        world.refreshed(BUSY)
        assert world.problem.transient
    assert world.events("token.expired")


def test_expired_begins_exactly_at_the_end_of_the_token() -> None:
    """One second before the end Valid, at the end Expired, by the boot clock and without an event in between."""
    world = World().valid(grant(3600))
    world.until_refresh()
    world.refreshed(BUSY)
    started = world.boot
    due = world.agent._grant.expires_boot if world.agent._grant else 0.0
    world.boot = due - 0.001
    assert world.state is State.VALID
    world.boot = due
    assert world.state is State.EXPIRED
    assert not world.status.can_send
    assert due > started
    world.tell(Tick())
    assert world.events("token.expired")
    assert world.holds()


def test_the_life_of_a_token_is_counted_from_the_request() -> None:
    """An answer that took fifty seconds does not lengthen the token's life."""
    world = World().valid(grant(3600))
    world.until_refresh()
    asked = world.now
    world.boot += 50
    world.refreshed(grant(3600))
    assert world.status.access_expires_at == pytest.approx(asked.wall + 3600)


@pytest.mark.parametrize("failure", [
    BUSY, INVALID_GRANT, INVALID_CLIENT, Failure(400, "invalid_scope"), Failure(404, "invalid_request"),
    Failure(429, retry_after_s=5), Failure(kind=FailureKind.DNS), Failure(kind=FailureKind.TIMEOUT),
    Failure(kind=FailureKind.TLS), Failure(kind=FailureKind.TLS_TIME), Failure(kind=FailureKind.MALFORMED),
    Failure(kind=FailureKind.WORKER), Failure(kind=FailureKind.STORE, error="unreadable"),
    Failure(400, "something_new"), Failure(200), Failure(),
])  # fmt: skip
def test_no_failure_ever_destroys_a_grant(failure: Failure) -> None:
    """Whatever Microsoft or the network says, for two days: the grant is held, and the next success makes it Valid."""
    world = World().valid()
    world.forget()
    kept = world.done
    end = world.boot + 2 * 86400
    while world.boot < end:
        world.until_refresh()
        world.refreshed(failure)
        kept += world.saw(WipeGrant)
    assert not kept
    assert world.status.account
    assert world.state is State.EXPIRED
    assert world.problem.remedy
    world.refresh_now(grant())
    assert world.state is State.VALID
    assert world.status.problem is None


def test_only_one_refresh_is_under_way() -> None:
    """However many ask, and however long the answer takes, there is one request; a lost answer is given up at last."""
    world = World().valid()
    world.until_refresh()
    for _ in range(100):
        world.tell(RefreshRequested("admin", force=True))
        world.tell(WanUp())
        world.tell(Tick())
        world.boot += 1
    assert len(world.saw(Refresh)) == 1
    world.forget()
    world.pass_time(300)
    assert world.problem.code == "worker.failed"


def test_an_answer_that_was_given_up_is_not_adopted() -> None:
    """The late answer of a lost request belongs to no flight any more."""
    world = World().valid()
    world.until_refresh()
    flight = world.saw(Refresh)[0]
    world.boot += 301
    world.tell(Tick())
    world.forget()
    assert isinstance(flight, Refresh)
    world.tell(RefreshFinished(flight.generation, grant()))
    assert not world.saw(CommitGrant)


@pytest.mark.parametrize("failure", [BUSY, Failure(kind=FailureKind.TIMEOUT), Failure(kind=FailureKind.DNS)])
def test_back_off_begins_at_a_minute_grows_and_stays_under_half_an_hour(failure: Failure) -> None:
    """With an ended token: at least 60 s, growing, never more than 24 min + 20 %; 8 min when no name resolves."""
    world = World().valid(grant(3600))
    world.boot += 5000
    world.tell(Tick())
    waits = []
    world.refreshed(failure)
    for _ in range(12):
        waits.append(world.until_refresh())
        world.refreshed(failure)
    assert min(waits) >= 60
    longest = 480 * 1.2 if failure.kind is FailureKind.DNS else 1440 * 1.2
    assert max(waits) <= longest
    assert max(waits) >= longest / 2
    assert waits[0] <= 90


def test_while_the_token_lives_the_first_retry_takes_half_of_what_is_left() -> None:
    """There is no hurry, and a fleet that fails together must not come back together."""
    world = World().valid(grant(3600))
    end = world.boot + 3600
    world.until_refresh()
    left = end - world.boot
    world.refreshed(BUSY)
    assert 0.4 * left <= world.until_refresh() <= 0.6 * left


@pytest.mark.parametrize(("named_s", "least", "most"), [(5, 60, 72), (300, 300, 360), (1e9, 3600, 4320)])
def test_retry_after_is_obeyed(named_s: float, least: float, most: float) -> None:
    """Never before the time named, never a minute too early, never later than an hour however absurd the number."""
    world = World().valid()
    world.refresh_now(Failure(429, retry_after_s=named_s))
    world.tell(WanUp())
    assert least <= world.until_refresh() <= most


def test_a_refused_grant_is_tried_three_more_times_before_the_alarm() -> None:
    """invalid_grant may be throttling: told at once, tried over 10 to 15 minutes, then alarmed, then every 6 h."""
    world = World().valid(grant(3600))
    world.refresh_now(INVALID_GRANT)
    assert world.events("token.refresh_failed")
    assert world.problem.code == "AADSTS50173"
    begun = world.boot
    for _ in range(3):
        assert not world.events("token.signin_needed")
        world.refresh_now(INVALID_GRANT)
    assert 600 <= world.boot - begun <= 900
    assert world.events("token.signin_needed")
    assert 6 * HOUR <= world.until_refresh() <= 7.3 * HOUR


def test_throttling_dressed_as_invalid_grant_heals_by_itself() -> None:
    """AADSTS50196 once: no alarm, no sign-in, the next try succeeds."""
    world = World().valid()
    world.refresh_now(Failure(400, "invalid_grant", codes=(50196,)))
    assert world.problem.code == "AADSTS50196"
    assert world.problem.transient
    world.refresh_now(grant())
    assert world.state is State.VALID
    assert not world.events("token.signin_needed")


def test_a_refused_client_is_tried_once_an_hour() -> None:
    """An expired secret is told at once and does not cost a request a minute."""
    world = World().valid(grant(86400))
    world.refresh_now(INVALID_CLIENT)
    assert world.problem.code == "AADSTS7000222"
    for _ in range(5):
        assert HOUR <= world.until_refresh() <= 1.2 * HOUR
        world.refreshed(INVALID_CLIENT)


def test_a_new_secret_is_tried_at_once_and_keeps_the_grant() -> None:
    """Secrets rotate without a sign-in."""
    world = World().valid(grant(3600))
    world.refresh_now(INVALID_CLIENT)
    world.forget()
    world.apply(change=Change.SECRET)
    assert world.saw(Refresh)
    assert not world.saw(WipeGrant)
    world.refreshed(grant())
    assert world.state is State.VALID
    assert world.status.problem is None


def test_a_failure_with_the_old_secret_says_nothing_about_the_new_one() -> None:
    """Applied while a refresh is under way: its failure is dropped and the question asked again."""
    world = World().valid()
    world.until_refresh()
    world.apply(change=Change.SECRET)
    world.refreshed(INVALID_CLIENT)
    assert world.status.problem is None
    assert len(world.saw(Refresh)) == 2


def test_a_success_with_the_old_secret_is_kept() -> None:
    """The refresh token in it belongs to the same identity: throwing it away could lose the grant."""
    world = World().valid()
    world.until_refresh()
    world.apply(change=Change.SECRET)
    world.refreshed(grant(sealed=b"rotated"))
    assert world.stored is not None
    assert world.stored.sealed == b"rotated"


def test_a_changed_identity_wipes_the_grant_and_drops_late_answers() -> None:
    """Tenant, client ID, sender or cloud: Applied, erased, and no answer of before counts."""
    world = World().valid()
    world.until_refresh()
    world.apply()
    assert world.stored is None
    assert world.state is State.APPLIED
    world.refreshed(grant())
    assert world.stored is None
    assert world.state is State.APPLIED


@pytest.mark.parametrize("field", ["tenant_id", "client_id", "sender", "cloud"])
def test_a_changed_identity_is_seen_even_when_nobody_says_so(field: str) -> None:
    """A crash between storing the settings and telling the agent heals at the next start."""
    world = World().valid()
    changed = {**{f: getattr(SETTINGS, f) for f in ("tenant_id", "client_id", "sender", "cloud")}, field: "other"}
    world.apply(type(SETTINGS)(SETTINGS.server, 587, SETTINGS.security, SETTINGS.auth, **changed), Change.NONE)
    assert world.state is State.APPLIED
    assert world.stored is None


def test_the_same_settings_again_change_nothing() -> None:
    """What the store holds is told at every start; it is no Apply."""
    world = World().valid()
    world.apply(change=Change.NONE)
    assert world.done == []
    assert world.state is State.VALID


def test_settings_found_at_the_first_start_without_a_snapshot_erase_nothing() -> None:
    """A lost snapshot must not cost what the slots may still hold."""
    world = World()
    world.apply(change=Change.NONE)
    assert world.state is State.APPLIED
    assert not world.saw(WipeGrant)


def test_another_method_or_cleared_settings_lead_to_unconfigured() -> None:
    """A credential that nobody uses is erased."""
    world = World().valid()
    plain = type(SETTINGS)("mail.example", 25, Security.NONE, Auth.NONE, "public", SETTINGS.sender)
    world.apply(plain, Change.IDENTITY)
    assert world.state is State.UNCONFIGURED
    assert world.stored is None
    assert world.status.can_send
    world.tell(SettingsCleared())
    assert world.state is State.UNCONFIGURED
    assert not world.status.can_send
    assert World().valid().status.can_send
    other = World().valid()
    other.tell(SettingsCleared())
    assert other.stored is None


def test_a_forgotten_grant_is_erased() -> None:
    """DELETE /api/v1/token leads to Applied from wherever it is asked, outstanding sign-ins included."""
    world = World().valid()
    world.start_signin("second")
    world.tell(GrantForgotten())
    assert world.state is State.APPLIED
    assert world.stored is None
    assert world.status.pending == 0
    assert world.events("token.forgotten")


def test_the_administrator_may_ask_at_any_time() -> None:
    """Refresh Token Status renews when it is asked to or when something is wrong, not otherwise."""
    world = World().valid()
    world.tell(RefreshRequested("admin"))
    assert not world.saw(Refresh)
    world.tell(RefreshRequested("admin", force=True))
    assert world.saw(Refresh)
    world.refreshed(BUSY)
    world.forget()
    world.tell(RefreshRequested("admin"))
    assert world.saw(Refresh)


def test_asking_in_unconfigured_or_applied_does_nothing() -> None:
    """There is nothing to renew."""
    world = World()
    world.tell(RefreshRequested("admin", force=True))
    world.apply()
    world.tell(RefreshRequested("admin", force=True))
    assert not world.saw(Refresh)


def test_the_administrators_impatience_does_not_bring_the_alarm_forward() -> None:
    """Five presses within a minute are not three tries over ten minutes."""
    world = World().valid()
    world.refresh_now(INVALID_GRANT)
    for _ in range(5):
        world.tell(RefreshRequested("admin", force=True))
        world.refreshed(INVALID_GRANT)
    assert not world.events("token.signin_needed")


def test_when_the_wan_comes_back_it_is_tried_at_once() -> None:
    """Within seconds, not at the end of the back-off; a healthy token is left alone."""
    world = World().valid()
    world.tell(WanUp())
    assert not world.saw(Refresh)
    world.refresh_now(Failure(kind=FailureKind.DNS))
    world.tell(WanDown())
    world.boot += 60
    world.tell(WanUp())
    assert world.until_refresh() <= 6


def test_the_wan_does_not_hasten_what_microsoft_refused() -> None:
    """A flapping line is no reason to repeat an invalid_grant."""
    world = World().valid(grant(86400))
    world.refresh_now(INVALID_CLIENT)
    world.tell(WanUp())
    assert world.until_refresh() >= HOUR


def test_a_flapping_line_costs_a_handful_of_requests() -> None:
    """500 flaps in an hour, each try failing: no more than ten requests."""
    world = World().valid()
    world.refresh_now(Failure(kind=FailureKind.NETWORK))
    requests = 1
    for _ in range(500):
        world.forget()
        world.tell(WanUp())
        world.pass_time(6.5)
        if world.saw(Refresh):
            requests += len(world.saw(Refresh))
            world.refreshed(Failure(kind=FailureKind.NETWORK))
    assert requests <= 10


@pytest.mark.parametrize("seed", range(4))
def test_never_more_than_twelve_requests_in_any_hour(seed: int) -> None:
    """Random wishes, flaps, restarts and clock jumps, every answer a failure: twelve requests an hour, sliding."""
    world, rng, moments = World(seed).valid(), random.Random(seed), []
    for _ in range(600):
        world.forget()
        match rng.randrange(6):
            case 0:
                world.tell(RefreshRequested("admin", force=True))
            case 1:
                world.tell(WanUp())
            case 2:
                world.restart(clean=rng.random() < 0.5)
                world.apply(change=Change.NONE)
            case 3:
                world.set_clock(rng.uniform(0, 4e9))
            case 4:
                world.tell(RefreshRequested("smtp-rejected", force=True))
            case _:
                world.pass_time(rng.expovariate(1 / 30))
        moments += [world.boot] * len(world.saw(Refresh))
        if world.agent._renewal.flight:
            world.refreshed(rng.choice([BUSY, INVALID_GRANT, INVALID_CLIENT, Failure(kind=FailureKind.DNS)]))
    worst = max(sum(1 for other in moments if 0 <= other - moment < HOUR) for moment in moments)
    assert 6 <= worst <= 12


def test_tokens_that_live_minutes_may_be_renewed_more_often() -> None:
    """Two requests for each life: an identity provider that gives one-minute tokens asks for it itself."""
    world = World().valid(grant(60))
    for _ in range(100):
        world.refresh_now(grant(60))
        assert world.state is State.VALID


def test_the_store_saying_that_the_grant_is_gone_is_believed() -> None:
    """Erased or damaged slots: Applied, named, and no endless refreshing of nothing."""
    world = World().valid()
    world.refresh_now(Failure(kind=FailureKind.STORE, error="no_grant"))
    assert world.state is State.APPLIED
    assert world.problem.code == "store.no-grant"
    assert world.status.account is None
    assert world.agent.next_wakeup(world.now) is None
    failed = world.events("token.store_failed")[0]
    assert failed.fields["code"] == "store.no-grant"
    assert world.events("token.forgotten")[0].fields["account"] == "gateway@contoso.example"
    assert not world.saw(WipeGrant)


def test_a_lost_grant_ends_what_was_begun_for_it() -> None:
    """Sign-ins under way are cancelled with the reason, and an answer of before no longer counts."""
    world = World().valid()
    world.until_refresh()
    world.start_signin("second")
    generation = world.status.generation
    world.refreshed(Failure(kind=FailureKind.STORE, error="no_grant"))
    assert world.status.pending == 0
    assert world.saw(CancelSignins) == [CancelSignins(("second",), "store")]
    assert world.status.generation == generation + 1


@pytest.mark.parametrize("result", [grant(expires_in=0), grant(expires_in=-5), grant(object_id="somebody-else")])
def test_an_answer_that_cannot_be_a_renewal_is_a_transient_failure(result: object) -> None:
    """No life, or another account's: kept out, tried again."""
    world = World().valid()
    world.refresh_now(result)  # type: ignore[arg-type]  # grants of the table above
    assert world.problem.code == "network.malformed"
    assert world.state is State.VALID


def test_the_same_problem_keeps_the_time_it_began() -> None:
    """`since` is when it was first seen, not when it was last seen."""
    world = World().valid(grant(86400))
    world.refresh_now(INVALID_CLIENT)
    since = world.problem.since
    world.refresh_now(INVALID_CLIENT)
    assert world.problem.since == since
    world.refresh_now(INVALID_GRANT)
    assert world.problem.since > since


def test_claims_asked_for_are_kept_for_the_next_sign_in() -> None:
    """A Conditional Access challenge travels unchanged."""
    world = World().valid()
    wanted = '{"access_token":{"polids":{"essential":true}}}'
    world.refresh_now(Failure(400, "interaction_required", codes=(50076,), claims=wanted))
    assert world.problem.claims == wanted
    assert "claims" not in world.problem.as_json()


CLASSES = [
    (Failure(500), FailureClass.TRANSIENT), (Failure(503, "invalid_grant"), FailureClass.TRANSIENT),
    (Failure(429, "invalid_client"), FailureClass.TRANSIENT), (Failure(408), FailureClass.TRANSIENT),
    (Failure(425), FailureClass.TRANSIENT), (Failure(400, "temporarily_unavailable"), FailureClass.TRANSIENT),
    (Failure(400, "server_error"), FailureClass.TRANSIENT), (Failure(400, "slow_down"), FailureClass.TRANSIENT),
    (Failure(400, "invalid_grant", retry_after_s=1), FailureClass.TRANSIENT), (Failure(200), FailureClass.TRANSIENT),
    (Failure(), FailureClass.TRANSIENT), (Failure(302), FailureClass.TRANSIENT),
    (Failure(400, "invalid_grant"), FailureClass.SIGNIN), (Failure(400, "interaction_required"), FailureClass.SIGNIN),
    (Failure(400, "login_required"), FailureClass.SIGNIN), (Failure(400, "consent_required"), FailureClass.SIGNIN),
    (Failure(400, "access_denied"), FailureClass.SIGNIN), (Failure(400, "x", "basic_action"), FailureClass.SIGNIN),
    (Failure(401, "invalid_client"), FailureClass.CLIENT), (Failure(400, "unauthorized_client"), FailureClass.CLIENT),
    (Failure(401), FailureClass.CLIENT), (Failure(400, "invalid_scope"), FailureClass.CONFIG),
    (Failure(404), FailureClass.CONFIG), (Failure(499), FailureClass.CONFIG), (Failure(400), FailureClass.CONFIG),
    (Failure(None, "never_heard_of"), FailureClass.CONFIG), (Failure(399, ""), FailureClass.TRANSIENT),
    *((Failure(400, "invalid_grant", kind=kind), FailureClass.TRANSIENT)
      for kind in FailureKind if kind is not FailureKind.HTTP),
]  # fmt: skip


@pytest.mark.parametrize(("failure", "kind"), CLASSES)
def test_the_class_follows_from_status_error_suberror_and_retry_after(failure: Failure, kind: FailureClass) -> None:
    """The table of answer classes."""
    assert failure_class(failure) is kind


@pytest.mark.parametrize("number", [(), (50196,), (7000222,), (123456789,)])
@pytest.mark.parametrize("failure", [failure for failure, _ in CLASSES if failure.kind is FailureKind.HTTP])
def test_numbers_never_change_the_class(failure: Failure, number: tuple[int, ...]) -> None:
    """AADSTS numbers choose words only."""
    numbered = Failure(failure.status, failure.error, failure.suberror, "AADSTS50196", number, failure.retry_after_s)
    assert failure_class(numbered) is failure_class(failure)


def test_a_request_is_counted_before_its_answer_comes() -> None:
    """A crash loop that never sees an answer is held to the budget: the attempt is in the snapshot."""
    world = World().valid()
    requests = 0
    for _ in range(100):
        world.forget()
        world.pass_time(36)
        requests += len(world.saw(Refresh))
        world.restart()
        world.apply(change=Change.NONE)
    assert requests <= 10


def test_the_budget_frees_itself_exactly_an_hour_later() -> None:
    """A sliding hour, not a counter that is reset."""
    renewal = Renewal(attempts=[0.0, 100.0, 200.0])
    assert renewal.free_at(300.0, 3) == 3601.0
    assert renewal.free_at(3601.0, 3) == 3601.0
    assert renewal.free_at(3650.0, 3) == 3650.0
    assert renewal.free_at(300.0, 4) == 300.0
