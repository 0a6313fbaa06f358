"""The API against its own description: the same table makes router, schemas, OpenAPI and docs/api.md."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import tarfile
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import validate

from notifyd.api import openapi, strictjson
from notifyd.api.routing import Access, Operation
from notifyd.api.table import TABLE
from notifyd.ctl.client import Reply
from tests.support.stack import OPERATOR, REPOSITORY, Stack

DOCUMENT = openapi.document(TABLE)


def operation_named(name: str) -> Operation:
    return next(operation for operation in TABLE if operation.name == name)


def checked(name: str, reply: Reply) -> Any:
    """The reply's document, after it was held against the schema that the description has for its status."""
    operation = operation_named(name)
    described = DOCUMENT["paths"][operation.path][operation.method.lower()]["responses"]
    assert str(reply.status) in described, f"{name} answers {reply.status}, which is not described: {reply.document}"
    content = described[str(reply.status)].get("content", {})
    media = reply.headers.get("content-type", "").partition(";")[0]
    if not content:
        assert not reply.document
        return None
    assert media in content, f"{name} answers {media}"
    if "json" in media:
        schema = {**content[media]["schema"], "components": DOCUMENT["components"]}
        jsonschema.validate(reply.document, schema, jsonschema.Draft202012Validator)
    return reply.document


def test_the_description_is_valid_openapi() -> None:
    """OpenAPI 3.1, checked by a validator that is not ours."""
    validate(DOCUMENT)
    assert DOCUMENT["openapi"] == "3.1.0"


def test_every_route_is_described_and_nothing_else() -> None:
    """Router and document come from one table; this holds them together if that ever changes."""
    described = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert described == {(operation.method, operation.path) for operation in TABLE}
    assert len({operation.name for operation in TABLE}) == len(TABLE)


def test_every_call_of_the_design_is_there() -> None:
    """The contract of the design, by name."""
    wanted = """
        GET /api/v1/status, GET /api/v1/settings, PUT /api/v1/settings, POST /api/v1/token/authorize,
        POST /api/v1/token/refresh, DELETE /api/v1/token, GET /api/v1/redirect-uris, POST /api/v1/mail,
        POST /api/v1/mail/test, GET /api/v1/mail, GET /api/v1/mail/{id}, DELETE /api/v1/mail/{id},
        POST /api/v1/report/send, GET /api/v1/report/settings, PUT /api/v1/report/settings,
        GET /api/v1/report/preview, GET /api/v1/events, POST /api/v1/diagnose, GET /api/v1/support-bundle,
        GET /metrics, GET /api/v1/openapi.json
    """
    have = {f"{operation.method} {operation.path}" for operation in TABLE}
    assert {" ".join(line.split()) for line in wanted.split(",")} <= have


def test_no_schema_promises_what_nobody_checks() -> None:
    """Every word of every request schema is one that the strict reader acts upon."""
    for operation in TABLE:
        for schema in filter(None, (operation.body, *operation.query.values())):
            assert strictjson.known_words(schema) == set(), operation.name


def test_only_the_login_itself_is_open_to_anyone() -> None:
    """Through the web server everything else needs a session."""
    assert {operation.name for operation in TABLE if operation.access is Access.ANYONE} == {
        "logIn",
        "getSession",
        "logOut",
    }


def test_the_document_for_people_is_made_from_the_table() -> None:
    """docs/api.md is what `make docs` writes."""
    spec = importlib.util.spec_from_file_location("api_document", REPOSITORY / "docs" / "api_document.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PATH.read_text() == module.render()


PLAIN_READS = [
    operation.name
    for operation in TABLE
    if operation.method == "GET" and "{" not in operation.path and operation.name not in ("getSession",)
]


@pytest.mark.parametrize("name", PLAIN_READS)
def test_what_is_read_has_the_shape_that_is_described(name: str, valid: Stack) -> None:
    """Every GET, on a gateway that works."""
    checked(name, valid.call("GET", operation_named(name).path))


def test_reads_before_anything_is_applied(stack: Stack) -> None:
    """The same on a new device: nulls and defaults are described too."""
    for name in ("getStatus", "getSettings", "listMail", "getEvents", "getMetrics", "getRedirectUris"):
        checked(name, stack.call("GET", operation_named(name).path))
    settings = stack.get("/api/v1/settings")
    assert settings["applied"] is False
    assert settings["client_secret"] == {"set": False}


def test_what_is_changed_answers_as_described(valid: Stack) -> None:
    """Every call that changes something, with its good answer and its usual refusals."""
    current = valid.settings(client_secret=None)
    checked("applySettings", valid.call("PUT", "/api/v1/settings", current))
    checked("applySettings", valid.call("PUT", "/api/v1/settings", {**current, "port": 0}))
    checked("applySettings", valid.call("PUT", "/api/v1/settings", current, headers={"If-Match": '"old"'}))
    checked("beginSignin", valid.call("POST", "/api/v1/token/authorize", {"redirect_uri": "https://evil.example/"}))
    checked("refreshToken", valid.call("POST", "/api/v1/token/refresh", {}))
    checked("refreshToken", valid.call("POST", "/api/v1/token/refresh"))
    checked("holdMail", valid.call("POST", "/api/v1/mail/hold"))
    accepted = checked("sendTestMail", valid.call("POST", "/api/v1/mail/test", {"to": OPERATOR}))
    checked("sendTestMail", valid.call("POST", "/api/v1/mail/test", {"to": "nobody"}))
    checked("getMail", valid.call("GET", f"/api/v1/mail/{accepted['id']}"))
    checked("getMail", valid.call("GET", "/api/v1/mail/none"))
    checked("retryMail", valid.call("POST", f"/api/v1/mail/{accepted['id']}/retry"))
    checked("deleteMail", valid.call("DELETE", f"/api/v1/mail/{accepted['id']}"))
    checked("deleteMail", valid.call("DELETE", f"/api/v1/mail/{accepted['id']}"))
    checked("releaseMail", valid.call("POST", "/api/v1/mail/release"))
    mail = {"to": OPERATOR, "subject": "s", "text": "t"}
    sent = checked("acceptMail", valid.call("POST", "/api/v1/mail", mail))
    valid.wait_mail(sent["id"], "sent")
    checked("retryMail", valid.call("POST", f"/api/v1/mail/{sent['id']}/retry"))
    checked("acceptMail", valid.call("POST", "/api/v1/mail", {**mail, "subject": "a\r\nBcc: x@y.example"}))


def test_the_diagnosis_of_a_gateway_that_works_is_good(valid: Stack) -> None:
    """Each step of the design has a verdict, and the evidence names what was seen."""
    found = checked("diagnose", valid.call("POST", "/api/v1/diagnose"))
    verdicts = {step["step"]: step["verdict"] for step in found["steps"]}
    assert list(verdicts) == [
        "WAN", "Settings", "DNS", f"TCP {valid.microsoft.ends['smtp'][1]}", "STARTTLS and certificate",
        "Login host", "Clock", "App registration", "Token", "XOAUTH2", "Sender",
    ]  # fmt: skip
    assert set(verdicts.values()) == {"ok"}, found
    assert found["verdict"] == "ok"


def test_the_metrics_are_what_prometheus_reads(valid: Stack) -> None:
    """Parsed by Prometheus' own library; the state is one of five and exactly one is 1."""
    from prometheus_client.parser import text_string_to_metric_families

    text = valid.call("GET", "/metrics").document.decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    states = {sample.labels["state"]: sample.value for sample in families["notifyd_token_state"].samples}
    assert states == {"Unconfigured": 0, "Applied": 0, "Pending": 0, "Valid": 1, "Expired": 0}
    assert families["notifyd_can_send"].samples[0].value == 1
    assert all(family.documentation for family in families.values())


def test_the_support_bundle_holds_what_support_needs(valid: Stack) -> None:
    """A gzipped tar: status, settings without secrets, events, versions, queue metadata; and no mail body."""
    sent = valid.call("POST", "/api/v1/mail", {"to": OPERATOR, "subject": "s", "text": "the-body-of-this-mail"})
    valid.wait_mail(sent.document["id"], "sent")
    reply = valid.call("GET", "/api/v1/support-bundle")
    assert "attachment" in reply.headers["content-disposition"]
    with tarfile.open(fileobj=io.BytesIO(reply.document)) as archive:
        files = {member.name.split("/")[-1]: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]  # regular files only
    assert {"status.json", "settings.json", "events.jsonl", "versions.json", "queue.json"} <= set(files)
    assert json.loads(files["settings.json"])["client_secret"] == {"set": True}
    assert json.loads(files["status.json"])["state"] == "Valid"
    everything = b"".join(files.values())
    assert b"the-body-of-this-mail" not in everything
    assert valid.microsoft.client_secret.encode() not in everything
    assert not re.search(rb"eyJ[A-Za-z0-9_-]{10,}\.", everything)
