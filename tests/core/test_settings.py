"""What an administrator enters: what is accepted as meant, what is refused, and in which words."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyd.core.clouds import Cloud, InvalidCloud, parse_clouds
from notifyd.core.secret import Secret
from notifyd.core.settings import (
    FIELDS,
    Auth,
    Change,
    InvalidSettings,
    ParsedSettings,
    Security,
    Settings,
    change_between,
    parse_settings,
)
from tests.core.world import CLIENT, SENDER, SETTINGS, TENANT

CLOUDS = {
    "public": Cloud("public", "Public", "https://login.example", "https://o.example/SMTP.Send", "smtp.o.example", 587),
    "china": Cloud("china", "China", "https://login.example.cn", "https://o.example.cn/SMTP.Send", "smtp.cn", 2587),
}
BODY: dict[str, object] = {
    "server": "smtp.office365.com", "port": 587, "security": "starttls", "auth": "oauth2", "cloud": "public",
    "sender": SENDER, "client_id": CLIENT, "tenant_id": TENANT, "client_secret": "abc~8Q.value",
}  # fmt: skip


def parse(current: Settings | None = None, **changes: object) -> ParsedSettings:
    return parse_settings({**BODY, **changes}, current, CLOUDS)


def refusals(current: Settings | None = None, **changes: object) -> dict[str, str]:
    with pytest.raises(InvalidSettings) as caught:
        parse(current, **changes)
    return {error.pointer: error.detail for error in caught.value.errors}


def test_a_full_body_becomes_settings() -> None:
    """Every field lands where it belongs; the secret is apart, the first Apply is a new identity."""
    parsed = parse(secret_expires_on="2027-05-31")
    assert parsed.settings == replace(SETTINGS, secret_expires_on=date(2027, 5, 31))
    assert parsed.client_secret == Secret("abc~8Q.value")
    assert parsed.password is None
    assert parsed.change is Change.IDENTITY


BLANKS = ["  {}  ", "\u00a0{}\u00a0", "\u200b{}\u200b", "\ufeff{}", "\t{}\r\n", "\u2060{}\u202c", "\u3000{}\u2009"]


@pytest.mark.parametrize("blanks", BLANKS)
@pytest.mark.parametrize(
    "field", ["server", "sender", "client_id", "tenant_id", "client_secret", "cloud", "auth", "security", "port"]
)
def test_pasted_blanks_of_every_kind_are_trimmed(field: str, blanks: str) -> None:
    """No-break, zero-width, direction and ordinary blanks around a value come from web pages and mean nothing."""
    assert parse(**{field: blanks.format(BODY[field])}) == parse()


@pytest.mark.parametrize(
    ("text", "auth"),
    [("none", Auth.NONE), ("Password", Auth.PASSWORD), ("OAUTH2", Auth.OAUTH2), ("oauth", Auth.OAUTH2),
     ("XOAuth2", Auth.OAUTH2), ("msoauth2", Auth.OAUTH2), ("Microsoft  OAuth 2.0", Auth.OAUTH2)],
)  # fmt: skip
def test_methods_are_known_by_the_names_other_products_give_them(text: str, auth: Auth) -> None:
    """Case and inner blanks do not matter."""
    assert parse(auth=text, password="p").settings.auth is auth


@pytest.mark.parametrize(
    ("text", "security"), [("SSL", Security.TLS), ("tls", Security.TLS), ("StartTLS", Security.STARTTLS)]
)
def test_ssl_means_tls(text: str, security: Security) -> None:
    """Old name, same thing."""
    assert parse(security=text).settings.security is security


REFUSED = [
    ("client_id", "not-a-guid", "Application (client) ID"),
    ("client_id", "", "Application (client) ID"),
    ("client_id", CLIENT + "0", "Application (client) ID"),
    ("client_id", 7, "text"),
    ("tenant_id", "common", "single-tenant"),
    ("tenant_id", "Organizations", "single-tenant"),
    ("tenant_id", "consumers", "single-tenant"),
    ("tenant_id", "contoso", "tenant"),
    ("tenant_id", "", "tenant"),
    ("tenant_id", "a/../b.com", "tenant"),
    ("sender", "gateway", "one e-mail address"),
    ("sender", "", "one e-mail address"),
    ("sender", "a@b.example, c@d.example", "one e-mail address"),
    ("sender", "Gateway <a@b.example>", "one e-mail address"),
    ("sender", "a@b", "one e-mail address"),
    ("sender", "a..b@c.example", "one e-mail address"),
    ("sender", "x" * 65 + "@c.example", "one e-mail address"),
    ("sender", "a@b.example\r\nBcc: x@y.example", "one line"),
    ("server", "smtp office365", "DNS name"),
    ("server", "-bad.example", "DNS name"),
    ("server", "1.2.3", "DNS name"),
    ("server", "x" * 64 + ".example", "DNS name"),
    ("server", "smtp.example/path", "DNS name"),
    ("server", ["smtp"], "text"),
    ("port", 0, "1 to 65535"),
    ("port", 65536, "1 to 65535"),
    ("port", True, "1 to 65535"),
    ("port", "abc", "1 to 65535"),
    ("port", 587.0, "1 to 65535"),
    ("port", "9" * 400, "1 to 65535"),
    ("port", "²", "1 to 65535"),
    ("security", "none", "never sent in clear"),
    ("security", "wep", "one of none, starttls, tls"),
    ("security", None.__class__, "one of"),
    ("auth", "kerberos", "one of none, oauth2, password"),
    ("cloud", "mars", "china, public"),
    ("client_secret", "11111111-2222-4333-8444-555555555555", "Secret ID"),
    ("client_secret", "a\nb", "one line"),
    ("client_secret", "x" * 1025, "one line"),
    ("client_secret", "pässword", "no client secret has"),
    ("client_secret", 5, "text"),
    ("secret_expires_on", "31.5.2027", "2027-05-31"),
    ("secret_expires_on", 20270531, "2027-05-31"),
    ("secret_expires_on", "2027-02-30", "2027-05-31"),
    ("colour", "blue", "not a setting"),
    ("client_secrets", "x", "not a setting"),
]


@pytest.mark.parametrize(("field", "value", "words"), REFUSED)
def test_impossible_values_are_refused_by_field(field: str, value: object, words: str) -> None:
    """The pointer names the field, the words say what to enter; nothing else is blamed."""
    found = refusals(**{field: value})
    assert list(found) == [f"/{field}"]
    assert words in found[f"/{field}"]


def test_all_refusals_come_at_once() -> None:
    """The administrator corrects the page once, not once for every field."""
    assert set(refusals(port=0, sender="x", client_id="y", cloud="z")) == {"/port", "/sender", "/client_id", "/cloud"}


def test_a_pointer_escapes_what_json_pointer_must() -> None:
    """RFC 6901: ~ and / in a name."""
    assert list(refusals(**{"a/b~c": 1})) == ["/a~1b~0c"]


@pytest.mark.parametrize("server", ["smtp.office365.com", "mail", "192.0.2.7", "2001:db8::1", "[2001:db8::1]", "a.b."])
def test_names_and_addresses_are_servers(server: str) -> None:
    """A relay of one's own may be an address; the dot at the end of a full name is dropped."""
    assert parse(server=server).settings.server == server.rstrip(".")


def test_absent_fields_keep_their_value() -> None:
    """A partial Apply changes what it names and nothing else; absent secrets keep the stored ones."""
    current = replace(SETTINGS, port=2525, secret_expires_on=date(2027, 1, 1), server="relay.example")
    parsed = parse_settings({"server": "smtp.office365.com"}, current, CLOUDS)
    assert parsed.settings == replace(current, server="smtp.office365.com")
    assert parsed.client_secret is None
    assert parsed.change is Change.COSMETIC


def test_a_fresh_page_takes_the_clouds_defaults() -> None:
    """Server and port come from the cloud when they are left out."""
    body = {key: value for key, value in BODY.items() if key not in ("server", "port", "security", "auth")}
    settings = parse_settings({**body, "cloud": "china"}, None, CLOUDS).settings
    assert (settings.server, settings.port) == ("smtp.cn", 2587)
    assert (settings.security, settings.auth) == (Security.STARTTLS, Auth.OAUTH2)


def test_what_reading_gave_can_be_written_back() -> None:
    """The {"set": true} of a secret means: keep it."""
    parsed = parse(SETTINGS, client_secret={"set": True}, password={"set": False})
    assert parsed.client_secret is None
    assert parsed.change is Change.NONE


@pytest.mark.parametrize("value", ["", "  ", None, {"set": True}])
def test_a_new_identity_needs_its_own_secret(value: object) -> None:
    """The stored secret belongs to another app or tenant."""
    found = refusals(SETTINGS, client_secret=value, tenant_id="contoso.example")
    assert list(found) == ["/client_secret"]
    assert "Value" in found["/client_secret"]


def test_a_password_method_needs_a_password_once() -> None:
    """And keeps it afterwards."""
    assert "/password" in refusals(auth="password")
    first = parse(auth="password", password="p")
    assert first.password == Secret("p")
    assert parse(first.settings, auth="password", client_secret=None).change is Change.NONE


def test_without_oauth_the_ids_may_be_empty() -> None:
    """A plain relay needs neither client nor tenant, and may speak in clear."""
    body = {"server": "relay", "port": 25, "security": "none", "auth": "none", "sender": SENDER}
    settings = parse_settings(body, None, CLOUDS).settings
    assert (settings.client_id, settings.tenant_id) == ("", "")


@pytest.mark.parametrize(
    ("field", "value", "change"),
    [
        ("tenant_id", "contoso.example", Change.IDENTITY),
        ("client_id", TENANT, Change.IDENTITY),
        ("sender", "other@contoso.example", Change.IDENTITY),
        ("cloud", "china", Change.IDENTITY),
        ("client_secret", "new", Change.SECRET),
        ("server", "smtp.other.example", Change.COSMETIC),
        ("port", 588, Change.COSMETIC),
        ("security", "tls", Change.COSMETIC),
        ("secret_expires_on", "2027-05-31", Change.COSMETIC),
        ("sender", SENDER.upper(), Change.COSMETIC),
        ("tenant_id", TENANT.upper(), Change.NONE),
    ],
)
def test_a_change_cuts_as_deep_as_it_must(field: str, value: str, change: Change) -> None:
    """Identity wipes the grant, a secret is proved, the rest is cosmetic; upper case alone is no other account."""
    body: dict[str, object] = {**BODY, "client_secret": None, field: value}
    if change is Change.IDENTITY:
        body["client_secret"] = "its own"
    assert parse_settings(body, SETTINGS, CLOUDS).change is change


def test_another_method_is_another_identity() -> None:
    """From OAuth to a password and back."""
    assert change_between(SETTINGS, replace(SETTINGS, auth=Auth.PASSWORD)) is Change.IDENTITY


VALUES = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text(max_size=3))


@given(st.dictionaries(st.sampled_from(sorted(FIELDS)) | st.text(max_size=8), VALUES))
def test_no_body_whatever_breaks_it(body: dict[str, object]) -> None:
    """Any JSON object is either settings that stay the same when written back, or refusals with a pointer each."""
    try:
        parsed = parse_settings(body, SETTINGS, CLOUDS)
    except InvalidSettings as error:
        refused = error.errors
    else:
        refused = []
        assert parse_settings(body, parsed.settings, CLOUDS).change in (Change.NONE, Change.SECRET)
    assert all(each.pointer.startswith("/") and each.detail for each in refused)


def test_a_refusal_does_not_repeat_the_secret() -> None:
    """What is refused for its form may still be the real one."""
    found = refusals(client_secret="s3cret-with-\x07-bell")
    assert "s3cret" not in str(found)


TABLE = {"authority": "https://l.example/", "scope": "https://o.example/SMTP.Send", "smtp_host": "s.example"}


def test_clouds_are_read_flat_or_nested_and_under_either_name_of_the_scope() -> None:
    """All spellings of one cloud give the same cloud."""
    flat = parse_clouds({"x": {**TABLE, "smtp_port": 25, "ca_file": "/ca.pem"}})
    nested = parse_clouds({"clouds": {"x": {**TABLE, "smtp_port": 25, "ca_file": "/ca.pem"}}})
    renamed = {("smtp_scope" if key == "scope" else key): value for key, value in TABLE.items()}
    other = parse_clouds({"x": {**renamed, "smtp_port": 25, "ca_file": "/ca.pem"}})
    assert flat == nested == other
    assert flat["x"] == Cloud("x", "x", "https://l.example", "https://o.example/SMTP.Send", "s.example", 25, "/ca.pem")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"authority": "http://l.example"}, "authority"),
        ({"authority": ""}, "authority"),
        ({"authority": "https://u:p@l.example"}, "authority"),
        ({"scope": "SMTP.Send"}, "full name"),
        ({"smtp_host": 5}, "smtp_host"),
        ({"smtp_port": "587"}, "smtp_port"),
        ({"smtp_port": 0}, "smtp_port"),
        ({"smpt_port": 25}, "smpt_port"),
    ],
)
def test_a_cloud_that_cannot_work_is_refused_by_key(change: dict[str, object], words: str) -> None:
    """A short scope would give a Graph token that Exchange refuses: better to say so here."""
    with pytest.raises(InvalidCloud, match=words):
        parse_clouds({"x": {**TABLE, **change}})


def test_a_cloud_must_be_a_table() -> None:
    """A stray key at the top of the file."""
    with pytest.raises(InvalidCloud, match="table"):
        parse_clouds({"x": 1})
