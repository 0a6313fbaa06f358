"""Sign-ins: from Get New Token to Valid, and every way in which that does not come about."""

from __future__ import annotations

import pytest

from notifyd.core.commands import Answer, CancelSignins, CommitGrant, Probe, Redeem, SaveSnapshot
from notifyd.core.events import (
    Failure,
    FailureKind,
    GrantCommitFailed,
    GrantCommitted,
    OAuthError,
    RedeemFinished,
    SigninAnswered,
    SigninStarted,
    Tick,
)
from notifyd.core.machine import State
from notifyd.core.problems import named, network_problem, smtp_problem
from tests.core.world import CLIENT, INVALID_GRANT, SENDER, TENANT, World, claims, grant

REFUSED = smtp_problem(535, "5.7.139", "SmtpClientAuthentication is disabled for the Mailbox.", "auth", 0.0)


def test_the_whole_path_leads_to_valid_and_the_page_is_answered_last() -> None:
    """Applied, Pending, then Valid only once the grant is stored and the mail server was asked."""
    world = World()
    world.apply()
    assert world.state is State.APPLIED
    world.start_signin()
    assert world.state is State.PENDING
    world.code_arrives()
    assert world.saw(Redeem)
    world.redeemed(grant())
    assert world.stored is not None
    assert world.state is State.PENDING
    assert world.saw(Probe)
    assert not world.answers()
    world.probed()
    assert world.state is State.VALID
    assert world.answers() == [Answer("state-1", True, None)]
    assert world.status.can_send
    assert world.status.account == SENDER
    assert [record.event for record in world.events()] == [
        "settings.applied", "signin.started", "token.retrieved", "token.accepted"
    ]  # fmt: skip


def test_what_is_stored_is_saved_before_anyone_is_told() -> None:
    """In every answer of the agent the snapshot stands before events, answers and requests."""
    world = World()
    world.apply()
    for event in (SigninStarted("s", 1), SigninAnswered("s", True), RedeemFinished("s", 1, grant())):
        commands = world.tell(event)
        kinds = [type(command) for command in commands]
        if SaveSnapshot in kinds:
            assert kinds.index(SaveSnapshot) == 0


def test_authorize_before_apply_is_refused() -> None:
    """Get New Token without settings changes nothing and names the reason."""
    world = World()
    world.start_signin()
    assert world.state is State.UNCONFIGURED
    assert world.answers()[0].problem == named("settings.not-applied", world.now.wall)
    assert world.saw(CancelSignins)


def test_authorize_without_a_secret_is_refused() -> None:
    """A sign-in that could not be redeemed is not begun."""
    world = World()
    world.apply(secret=False)
    world.start_signin()
    assert world.state is State.APPLIED
    assert world.answers()[0].problem == named("settings.secret-missing", world.now.wall)


def test_an_error_on_the_redirect_ends_the_sign_in() -> None:
    """Declined consent falls back to Applied with Microsoft's meaning in the administrator's words."""
    world = World()
    world.apply()
    world.start_signin()
    error = OAuthError("access_denied", "AADSTS65004: User declined to consent.")
    world.tell(SigninAnswered("state-1", False, error))
    assert world.state is State.APPLIED
    answer = world.answers()[-1]
    assert not answer.ok
    assert answer.problem is not None
    assert answer.problem.code == "AADSTS65004"
    assert "accept" in answer.problem.remedy
    assert world.events("signin.failed")


def test_an_answer_with_neither_code_nor_error_fails_the_sign_in() -> None:
    """Nothing to redeem is named as such."""
    world = World()
    world.apply()
    world.start_signin()
    world.tell(SigninAnswered("state-1", False))
    assert world.problem.code == "signin.no-code"


def test_get_new_token_while_valid_keeps_mail_flowing() -> None:
    """Pending with a usable grant may send; a failed sign-in falls back to Valid; the problem is not shown over it."""
    world = World().valid()
    world.start_signin("second")
    assert world.state is State.PENDING
    assert world.status.can_send
    world.code_arrives("second")
    world.redeemed(INVALID_GRANT, "second")
    assert world.state is State.VALID
    assert world.status.can_send
    assert world.status.problem is None
    assert not world.holds()


def test_a_sign_in_that_never_comes_back_times_out_after_ten_minutes() -> None:
    """Faults shown on Microsoft's page never reach the gateway: the deadline ends the wait and hints at that page."""
    world = World()
    world.apply()
    world.start_signin()
    world.pass_time(599)
    assert world.state is State.PENDING
    world.pass_time(2)
    assert world.state is State.APPLIED
    assert world.problem.code == "signin.timed-out"
    assert world.events("signin.timed_out")
    assert world.saw(CancelSignins)


def test_a_timeout_falls_back_to_expired_when_the_token_ended_meanwhile() -> None:
    """What the held grant deserves is judged when the sign-in ends, not when it began."""
    world = World().valid(grant(expires_in=700))
    world.pass_time(200)
    world.start_signin("second")
    world.until_refresh()
    world.refreshed(Failure(kind=FailureKind.DNS))
    world.boot += 601
    world.tell(Tick())
    assert world.state is State.EXPIRED


@pytest.mark.parametrize("forged", ["", "state-2", "state-1 ", "STATE-1"])
def test_a_foreign_state_changes_nothing(forged: str) -> None:
    """A made-up `state` causes no request and no change, only a refusal."""
    world = World()
    world.apply()
    world.start_signin()
    before = world.agent._snapshot(world.now)
    world.forget()
    world.code_arrives(forged)
    assert not world.saw(Redeem)
    assert world.agent._snapshot(world.now) == before
    assert world.state is State.PENDING
    assert world.answers()[0].problem == named("signin.unknown-state", world.now.wall)


def test_a_state_is_good_once() -> None:
    """Replayed while the code is being redeemed it waits for the same outcome; replayed after that it is refused."""
    world = World()
    world.apply()
    world.start_signin()
    world.code_arrives()
    world.forget()
    world.code_arrives()
    assert world.done == []
    world.redeemed(grant())
    world.probed()
    world.forget()
    world.code_arrives()
    assert not world.saw(Redeem)
    assert [answer.ok for answer in world.answers()] == [False]
    assert world.state is State.VALID


def test_a_late_state_is_refused() -> None:
    """A code that comes after the deadline finds no sign-in any more."""
    world = World()
    world.apply()
    world.start_signin()
    world.boot += 601
    world.forget()
    world.tell(Tick())
    world.code_arrives()
    assert not world.saw(Redeem)


def test_two_tabs_the_first_success_wins() -> None:
    """Any outstanding sign-in may complete; its success ends the others, whose late results change nothing."""
    world = World()
    world.apply()
    world.start_signin("a")
    world.start_signin("b")
    world.code_arrives("a")
    world.code_arrives("b")
    world.redeemed(grant(), "b")
    assert world.saw(CancelSignins) == [CancelSignins(("a",), "superseded")]
    assert not next(answer for answer in world.answers() if answer.signin_id == "a").ok
    world.probed()
    assert world.state is State.VALID
    stored = world.stored
    world.redeemed(grant(sealed=b"late"), "a")
    assert world.stored is stored


def test_one_failed_tab_of_two_leaves_the_other_open() -> None:
    """Pending lasts as long as one sign-in is outstanding."""
    world = World()
    world.apply()
    world.start_signin("a")
    world.start_signin("b")
    world.tell(SigninAnswered("a", False, OAuthError("access_denied")))
    assert world.state is State.PENDING
    world.code_arrives("b")
    world.redeemed(grant(), "b")
    world.probed()
    assert world.state is State.VALID


def test_a_second_success_while_the_first_is_being_stored_gives_way() -> None:
    """Two codes redeemed at the same moment: one grant is stored, the other tab is told that it was late."""
    world = World()
    world.commit_works = False
    world.apply()
    for name in "ab":
        world.start_signin(name)
        world.code_arrives(name)
    world.redeemed(grant(), "a")
    world.redeemed(grant(sealed=b"late"), "b")
    assert len(world.saw(CommitGrant)) == 1
    assert world.answers()[-1].problem == named("signin.superseded", world.now.wall)


def test_a_sign_in_begun_during_the_login_check_is_ended_by_the_success() -> None:
    """Valid is shown as soon as a grant is proved, whatever other tabs were opened meanwhile."""
    world = World()
    world.apply()
    world.start_signin("a")
    world.code_arrives("a")
    world.redeemed(grant(), "a")
    world.start_signin("b")
    world.probed()
    assert world.state is State.VALID
    assert world.status.pending == 0


def test_the_number_of_outstanding_sign_ins_is_bounded() -> None:
    """The seventeenth tab ends the oldest."""
    world = World()
    world.apply()
    for number in range(40):
        world.start_signin(f"tab-{number}")
    assert world.status.pending == 16
    assert world.saw(CancelSignins)[0] == CancelSignins(("tab-0",), "too-many")
    world.code_arrives("tab-0")
    assert not world.saw(Redeem)
    world.code_arrives("tab-39")
    assert world.saw(Redeem)


def test_a_grant_that_cannot_be_stored_is_not_claimed() -> None:
    """A failed commit fails the sign-in with the store's problem; what was held before stands."""
    world = World().valid()
    world.commit_works = False
    world.start_signin("second")
    world.code_arrives("second")
    world.redeemed(grant(), "second")
    problem = named("store.write-failed", world.now.wall, "disk I/O error")
    world.tell(GrantCommitFailed(world.status.generation, problem))
    assert world.state is State.VALID
    assert world.answers()[-1] == Answer("second", False, problem)
    assert world.events("token.store_failed")


def test_a_commit_of_a_cancelled_sign_in_is_dropped() -> None:
    """A commit answered after its sign-in was given up changes nothing."""
    world = World()
    world.apply()
    world.tell(GrantCommitted(99))
    assert world.state is State.APPLIED


def test_a_token_that_the_mail_server_refuses_is_valid_but_cannot_send() -> None:
    """The state speaks of the token, can_send of the mail; the page gets the truth with the problem."""
    world = World()
    world.apply()
    world.sign_in(outcome=REFUSED)
    assert world.state is State.VALID
    assert not world.status.can_send
    assert world.problem.code == "smtp.535-5.7.139-mailbox"
    answer = world.answers()[-1]
    assert answer.ok
    assert answer.problem == REFUSED


def test_a_mail_server_that_does_not_answer_does_not_keep_the_page_waiting() -> None:
    """The login check has its own deadline; the token is Valid all the same."""
    world = World()
    world.apply()
    world.start_signin()
    world.code_arrives()
    world.redeemed(grant())
    world.pass_time(46)
    assert world.state is State.VALID
    assert world.answers()[-1].ok
    assert world.problem.code == "network.timeout"


def test_mail_waits_for_the_login_check_of_a_new_grant() -> None:
    """Between storing and checking nothing is sent: who knows whose mailbox it is."""
    world = World()
    world.apply()
    world.start_signin()
    world.code_arrives()
    world.redeemed(grant())
    assert not world.status.can_send
    world.probed()
    assert world.status.can_send


def test_another_account_is_warned_of_and_accepted_when_the_mail_server_accepts_it() -> None:
    """Shared mailboxes and Send As are legitimate."""
    world = World()
    world.apply()
    world.sign_in(grant(account="admin@contoso.example", claims=claims(preferred_username="admin@contoso.example")))
    assert world.state is State.VALID
    assert world.status.can_send
    assert world.events("token.account_differs")[0].fields["sender"] == SENDER


def test_another_account_that_the_mail_server_refuses_is_named_as_the_cause() -> None:
    """A bare 535 would send the administrator looking in the wrong place."""
    world = World()
    world.apply()
    refused = smtp_problem(535, "5.7.3", "Authentication unsuccessful", "auth", 0.0)
    wrong = grant(account="admin@contoso.example", claims=claims(preferred_username="admin@contoso.example"))
    world.sign_in(wrong, refused)
    assert world.problem.code == "signin.other-account"
    assert "admin@contoso.example" in world.problem.detail


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (grant(claims=claims(aud="another")), "signin.wrong-audience"),
        (grant(claims=claims(iss="http://login.microsoftonline.com/x")), "signin.wrong-issuer"),
        (grant(claims=claims(iss="https://login.microsoftonline.com/other/v2.0")), "signin.wrong-issuer"),
        (grant(claims=claims(exp=1.0)), "signin.token-time"),
        (grant(claims=claims(nbf=9e9)), "signin.token-time"),
        (grant(claims=claims(tid="22222222-2222-4333-8444-555555555555",
                             iss="https://h/22222222-2222-4333-8444-555555555555/v2.0")), "signin.wrong-tenant"),
        (grant(claims=claims(tid="9188040d-6c67-4c5b-b112-36a304b66dad",
                             iss="https://h/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0")), "signin.personal-account"),
        (grant(claims=claims(idp="live.com")), "signin.guest-account"),
        (grant(claims=claims(acct=1)), "signin.guest-account"),
        (grant(account="x_y#EXT#@contoso.example"), "signin.guest-account"),
        (grant(account="", object_id="", claims={}), "signin.no-account"),
        (grant(has_refresh_token=False), "signin.no-refresh-token"),
        (grant(scopes=("https://graph.microsoft.com/User.Read",)), "signin.no-smtp-scope"),
    ],
)  # fmt: skip
def test_a_grant_that_cannot_serve_is_refused_by_name_and_never_stored(result: object, code: str) -> None:
    """What MSAL does not check is checked here, before anything is stored."""
    world = World()
    world.apply()
    world.start_signin()
    world.code_arrives()
    world.redeemed(result)  # type: ignore[arg-type]  # grants of the table above
    assert world.stored is None
    assert world.state is State.APPLIED
    assert world.problem.code == code


@pytest.mark.parametrize(
    "result",
    [
        grant(scopes=("SMTP.Send", "openid")),
        grant(scopes=("https://outlook.office365.us/smtp.send",)),
        grant(scopes=()),
        grant(claims={}),
        grant(claims=claims(aud=[CLIENT.upper()])),
        grant(claims=claims(email="Gateway@Contoso.Example", preferred_username="x@contoso.example"), account=""),
        grant(claims=claims(idp=f"https://sts.windows.net/{TENANT}/")),
    ],
)
def test_legitimate_variants_of_an_answer_are_accepted(result: object) -> None:
    """Short scope names, no scope list (RFC 6749 §5.1), several audiences, the name in another claim."""
    world = World()
    world.apply()
    world.sign_in(result)  # type: ignore[arg-type]  # grants of the table above
    assert world.state is State.VALID


def test_a_login_check_that_fails_for_the_network_is_tried_again_by_itself() -> None:
    """Valid, held, and released as soon as the mail server answers."""
    world = World()
    world.apply()
    world.sign_in(outcome=network_problem("refused", "smtp", "", 0.0))
    assert not world.status.can_send
    world.forget()
    world.pass_time(95)
    assert world.saw(Probe)
    world.probed()
    assert world.status.can_send


def test_the_code_of_a_sign_in_under_changed_settings_is_not_redeemed() -> None:
    """A new identity ends every outstanding sign-in."""
    world = World()
    world.apply()
    world.start_signin()
    world.apply()
    world.forget()
    world.code_arrives()
    assert not world.saw(Redeem)
    assert world.state is State.APPLIED


def test_an_authorize_address_made_for_old_settings_is_not_accepted() -> None:
    """Its generation lies before the present identity."""
    world = World()
    world.apply()
    old = world.status.generation
    world.apply()
    world.tell(SigninStarted("late", old))
    assert world.status.pending == 0
