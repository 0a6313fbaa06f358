"""The administrator's path in a real browser: from the login to mail that arrives."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from qemu.workstation import administrator
from qemu.workstation.gateway import ADMIN, Gateway
from tests.www.conftest import BARE_PASSWORD, OPERATOR, SENDER, Desk


def test_whole_path(desk: Desk, pictures: Path) -> None:
    """Apply, sign in, consent; the tab closes itself, the status follows, mail arrives, the log tells."""
    page = desk.page
    desk.apply()
    tab = administrator.start_sign_in(page)
    administrator.expect_status(page, "Pending")
    administrator.sign_in(tab, SENDER)
    administrator.accept_consent(tab)
    expect(tab.get_by_role("heading")).to_be_visible()
    administrator.wait_until_closed(tab)
    administrator.expect_status(page, "Valid")
    expect(page.locator("#token-facts")).to_contain_text(SENDER)
    expect(page.locator("#token-result")).to_have_text("A new token was stored.")

    administrator.send_test_mail(page, OPERATOR)
    expect(page.locator("#test-result")).to_contain_text("Sent.")
    assert [mail["to"] for mail in desk.microsoft("GET", "/mail")["messages"]] == [OPERATOR]

    page.get_by_text("Redirect URIs to register in Entra").click()
    page.screenshot(path=pictures / "page.png", full_page=True)

    page.get_by_role("link", name="System log").click()
    expect(page.locator("#log-rows tr[data-event='token.retrieved']").first).to_contain_text(
        f"token retrieved for {SENDER}"
    )


def test_refresh_token_status_renews(valid_desk: Desk) -> None:
    """Refresh Token Status asks again and says what it found."""
    valid_desk.page.get_by_role("button", name="Refresh Token Status").click()
    expect(valid_desk.page.locator("#token-result")).to_have_text("Checked: the token is valid.")


def test_before_apply_nothing_can_be_signed_in(bare_gateway: Gateway, page: Page) -> None:
    """Get New Token is off, says why, and the form suggests Microsoft 365."""
    administrator.log_in(page, bare_gateway.address, ADMIN, BARE_PASSWORD)
    button = page.get_by_role("button", name="Get New Token")
    expect(button).to_be_disabled()
    expect(button).to_have_accessible_description(re.compile("nothing is applied yet"))
    administrator.expect_status(page, "Unconfigured")
    expect(page.get_by_label("Mail Server", exact=True)).to_have_value("smtp.office365.com")
    expect(page.get_by_label("Port", exact=True)).to_have_value("587")


def test_labels_are_those_of_the_guide(desk: Desk) -> None:
    """Word for word, so that the vendor's guide can be followed."""
    page = desk.page
    page.get_by_label("Authentication Method").select_option(label="Microsoft OAuth 2.0")
    for label in (
        "Mail Server",
        "Port",
        "Encryption",
        "Sender Email Address",
        "Client ID",
        "Client Secret",
        "Tenant ID",
    ):
        expect(page.get_by_label(label, exact=True)).to_be_visible()
    for name in ("Apply", "Get New Token", "Refresh Token Status", "Send test mail"):
        expect(page.get_by_role("button", name=name, exact=True)).to_be_visible()
    expect(page.get_by_text("Token Status", exact=True)).to_be_visible()


def test_unsaved_edits_turn_the_sign_in_off(desk: Desk) -> None:
    """With the reason next to the button; discarding the edits turns it on again."""
    page = desk.page
    desk.apply()
    button = page.get_by_role("button", name="Get New Token")
    expect(button).to_be_enabled()
    page.get_by_label("Sender Email Address").fill("other@contoso.example")
    expect(button).to_be_disabled()
    expect(button).to_have_accessible_description(re.compile("unsaved edits"))
    page.get_by_role("button", name="Discard edits").click()
    expect(button).to_be_enabled()
    expect(page.get_by_label("Sender Email Address")).to_have_value(SENDER)


def test_pasted_blanks_are_removed_with_a_notice(desk: Desk) -> None:
    """A tab, a no-break space and a zero-width space come along from the portal; they do not stay."""
    page = desk.page
    client_id = desk.demo.m365["client_id"]
    field = page.get_by_label("Client ID")
    field.fill(f"\t\u00a0{client_id}\u200b ")
    field.blur()
    expect(field).to_have_value(client_id)
    expect(page.locator("#trim-notice")).to_have_text("Blanks around the pasted Client ID were removed.")


def test_refused_fields_are_marked_and_summed_up(desk: Desk) -> None:
    """The summary has the focus, each line leads to its field, each field says what is wrong."""
    page = desk.page
    desk.apply()
    page.get_by_label("Client ID").fill("1234")
    page.get_by_label("Port", exact=True).fill("99999")
    page.get_by_role("button", name="Apply").click()
    summary = page.locator("#settings-summary")
    expect(summary).to_be_focused()
    expect(summary).to_contain_text("fields need a change")
    expect(page.get_by_label("Client ID")).to_have_attribute("aria-invalid", "true")
    assert page.locator("#port-error").inner_text()
    summary.get_by_role("link", name=re.compile("^Client ID")).click()
    expect(page.get_by_label("Client ID")).to_be_focused()


def test_secrets_never_come_back(desk: Desk) -> None:
    """After Apply the field is empty and says that a secret is stored; no answer of the API holds it."""
    page = desk.page
    secret = desk.demo.m365["client_secret"]
    bodies: list[str] = []
    page.on("response", lambda response: bodies.append(response.text()) if "/settings" in response.url else None)
    desk.apply()
    expect(page.get_by_label("Client Secret", exact=True)).to_have_value("")
    expect(page.get_by_label("Client Secret", exact=True)).to_have_attribute("placeholder", re.compile("stored"))
    page.reload()
    expect(page.locator("#client_secret-state")).to_be_visible()
    assert bodies
    assert secret not in "".join(bodies)
    assert secret not in page.content()


def test_blocked_tab_is_offered_as_a_link(desk: Desk) -> None:
    """When the browser gives no tab, the page says so and offers the link; that tab works to the end."""
    page = desk.page
    desk.apply()
    page.evaluate("() => { const open = window.open; window.open = (...a) => (window.open = open, null); }")
    page.get_by_role("button", name="Get New Token").click()
    link = page.get_by_role("link", name="Open Microsoft’s sign-in")
    expect(page.locator("#signin-link")).to_contain_text("blocked")
    with page.context.expect_page() as opened:
        link.click()
    tab = opened.value
    administrator.sign_in(tab, SENDER)
    administrator.accept_consent(tab)
    administrator.expect_status(page, "Valid")
    administrator.wait_until_closed(tab)
    expect(page.locator("#signin-link")).to_be_hidden()


def test_tab_is_opened_within_the_click(desk: Desk) -> None:
    """Before anything is awaited, or pop-up blockers would bite: the tab is there before the API was asked."""
    page = desk.page
    desk.apply()
    page.evaluate(
        """() => {
            window.order = [];
            const { open, fetch } = window;
            window.open = (...given) => (window.order.push('tab'), open.apply(window, given));
            window.fetch = (...given) => (window.order.push(String(given[0])), fetch.apply(window, given));
        }"""
    )
    administrator.start_sign_in(page).close()
    order = page.evaluate("() => window.order.filter((each) => each === 'tab' || each.includes('authorize'))")
    assert order == ["tab", "/api/v1/token/authorize"]


def test_declined_consent_is_told_on_both_sides(desk: Desk) -> None:
    """The tab stays and names the code and the remedy; the page says it too and offers the next try."""
    page = desk.page
    desk.apply()
    tab = administrator.start_sign_in(page)
    administrator.sign_in(tab, SENDER)
    expect(tab.locator("#consentHeader")).to_be_visible()
    tab.locator("#idBtn_Cancel").click()
    expect(tab.get_by_text("AADSTS65004").first).to_be_visible()
    administrator.expect_status(page, "Applied")
    expect(page.locator("#problem")).to_contain_text("AADSTS65004")
    expect(tab.get_by_role("link", name="The gateway’s page")).to_be_visible()
    assert not tab.is_closed()
    expect(page.get_by_role("button", name="Get New Token")).to_be_enabled()


def test_problem_shows_remedy_and_microsofts_identifiers(valid_desk: Desk) -> None:
    """A revoked grant: what happened, what to do, the code, and the identifiers for a support case."""
    page = valid_desk.page
    valid_desk.microsoft("POST", f"/users/{SENDER}/revoke", {"code": 50173})
    page.get_by_role("button", name="Refresh Token Status").click()
    problem = page.locator("#problem")
    expect(problem).to_contain_text("AADSTS50173")
    expect(problem).to_contain_text("Trace ID")
    expect(problem).to_contain_text("Correlation ID")
    expect(page.locator("#token-result")).to_contain_text("there is a problem")
    expect(page.locator("#token-sentence")).not_to_contain_text("renews it by itself")


def test_redirect_uris_can_be_copied(desk: Desk) -> None:
    """The address by which the page was opened comes first; its button puts it on the clipboard."""
    page = desk.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_text("Redirect URIs to register in Entra").click()
    own = f"{desk.gateway.address}/cgi-bin/msoauth2.cgi"
    expect(page.locator("#redirect-list code").first).to_have_text(own)
    page.get_by_role("button", name=f"Copy {own}").click()
    expect(page.get_by_role("button", name=f"Copy {own}")).to_have_text("Copied")
    assert page.evaluate("() => navigator.clipboard.readText()") == own


def test_failed_test_mail_names_the_problem(valid_desk: Desk) -> None:
    """Exchange refuses: the page shows its words and the remedy, not just that it failed."""
    page = valid_desk.page
    valid_desk.microsoft("POST", "/orders", {"target": "smtp", "what": "mailbox-off", "times": None})
    page.get_by_label("Send to").fill(OPERATOR)
    page.get_by_role("button", name="Send test mail").click()
    expect(page.locator("#test-result")).to_contain_text("5.7.139", timeout=30_000)


def test_impossible_recipient_is_refused_in_the_form(desk: Desk) -> None:
    """Without asking the gateway."""
    page = desk.page
    page.get_by_label("Send to").fill("nobody")
    page.get_by_role("button", name="Send test mail").click()
    expect(page.get_by_label("Send to")).to_be_focused()
    expect(page.locator("#test-to-error")).to_have_text("Enter one e-mail address.")
