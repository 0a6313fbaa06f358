"""The table of events, and what becomes of anything that is emitted."""

from __future__ import annotations

import ast
import importlib.util
import re
from enum import StrEnum
from pathlib import Path
from string import Formatter
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyd.core.event_definitions import ALL, DEFINITIONS
from notifyd.core.event_shape import MAX_FIELD_CHARS, MAX_FIELDS, MAX_MESSAGE_CHARS, draft, usual_level
from notifyd.core.eventlog import (
    Category,
    Definition,
    Level,
    Record,
    must_be_durable_at_once,
    parse_level,
    render_message,
    rfc3339,
)
from notifyd.core.secret import Secret

ROOT = Path(__file__).resolve().parents[2]
FIRMWARE = ROOT / "firmware"

DESIGNED = {
    "token.retrieved", "token.refreshed", "token.refresh_failed", "token.expired", "settings.applied", "signin.started",
    "signin.failed", "mail.sent", "mail.deferred", "mail.failed", "report.sent", "auth.login_failed",
}  # fmt: skip


def load_document() -> ModuleType:
    spec = importlib.util.spec_from_file_location("events_document", ROOT / "docs" / "events_document.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_names_that_others_rely_on_exist() -> None:
    """The event names of the design are defined, each once."""
    assert set(DEFINITIONS) >= DESIGNED
    assert len(DEFINITIONS) == len(ALL)


@pytest.mark.parametrize("definition", ALL, ids=lambda definition: definition.name)
def test_a_definition_is_whole(definition: Definition) -> None:
    """Its template uses promised fields, its example has them all, and a warning or worse says what to do."""
    assert re.fullmatch(r"[a-z]+\.[a-z_]+", definition.name)
    assert definition.category in Category
    used = {name for _, name, _, _ in Formatter().parse(definition.message) if name is not None}
    assert used <= set(definition.fields)
    assert used <= set(definition.example)
    assert set(definition.example) <= set(definition.fields)
    assert "?" not in render_message(definition.message, definition.example)
    if definition.level.at_least(Level.WARNING):
        assert definition.action


@pytest.mark.parametrize("definition", ALL, ids=lambda definition: definition.name)
def test_an_example_passes_unchanged_through_redaction(definition: Definition) -> None:
    """What an event is meant to say is not mistaken for a secret."""
    assert draft(definition.name, definition.level, None, definition.example).fields == dict(definition.example)


def test_the_document_is_the_tables_own_text() -> None:
    """docs/events.md says what the code says; `make docs` brings it up to date."""
    document = load_document()
    assert document.PATH.read_text() == document.render()


def emitted_names() -> set[tuple[str, str]]:
    """Every literal event name that the product emits, with the place."""
    found = set()
    for path in FIRMWARE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0]
            literal = first.value if isinstance(first, ast.Constant) else None
            if called.lower().strip("_") in {"emit", "emit_problem", "event"} and isinstance(literal, str):
                found.add((literal, f"{path.relative_to(FIRMWARE)}:{node.lineno}"))
    return found


def test_every_event_the_product_emits_is_defined() -> None:
    """No place emits a name that docs/events.md does not know."""
    undefined = sorted(where for name, where in emitted_names() if name not in DEFINITIONS)
    assert not undefined


def test_every_defined_event_is_emitted_somewhere() -> None:
    """The document promises nothing that never happens."""
    others = [path for path in FIRMWARE.rglob("*.py") if path.name != "event_definitions.py"]
    source = "".join(path.read_text() for path in others)
    assert [name for name in DEFINITIONS if f'"{name}"' not in source] == []


def test_the_retrieval_line_reads_like_the_gateways_own() -> None:
    """The line that the administrator looks for after the first sign-in."""
    made = draft(
        "token.retrieved", Level.NOTICE, None, {"account": "gateway@contoso.example", "expires_at": 1795572000}
    )
    expected = "Microsoft 365 token retrieved for gateway@contoso.example (valid until 2026-11-25 02:00:00 UTC)"
    assert made.message == expected


@pytest.mark.parametrize(
    ("name", "level"),
    [("err", Level.ERROR), (" Warn ", Level.WARNING), ("emerg", Level.EMERGENCY), ("INFO", Level.INFO)],
)
def test_levels_are_known_by_their_usual_names(name: str, level: Level) -> None:
    """Syslog's abbreviations are understood."""
    assert parse_level(name) is level
    with pytest.raises(ValueError, match="loud"):
        parse_level("loud")


def test_an_unknown_level_is_a_warning_and_an_undefined_event_too() -> None:
    """Neither is hidden among the unimportant."""
    assert usual_level("mail.sent", "loud") is Level.WARNING
    assert usual_level("mail.unheard_of") is Level.WARNING
    assert usual_level("token.refresh_failed", "error") is Level.ERROR


def test_what_may_not_be_lost() -> None:
    """Errors of any kind, and everything about tokens, settings and logins."""

    def durable(event: str, level: Level) -> bool:
        category = event.partition(".")[0]
        return must_be_durable_at_once(Record(1, 0.0, "", level, category, event, "", {}))

    assert durable("token.refreshed", Level.INFO)
    assert durable("settings.applied", Level.NOTICE)
    assert durable("auth.login", Level.NOTICE)
    assert durable("mail.failed", Level.ERROR)
    assert not durable("mail.deferred", Level.WARNING)


@pytest.mark.parametrize(
    ("wall", "text"),
    [(0, "1970-01-01T00:00:00.000Z"), (-5, "1970-01-01T00:00:00.000Z"), (1e18, "9999-12-31T23:59:59.000Z")],
)
def test_any_clock_has_a_date(wall: float, text: str) -> None:
    """A clock that is wrong by ages cannot break the log."""
    assert rfc3339(wall) == text


class Colour(StrEnum):
    RED = "red"


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_fields_become_flat_values() -> None:
    """Numbers stay numbers, lists become text, nothing stays an object, None is left out."""
    given_fields = {
        "n": 3, "x": 1.5, "yes": True, "list": ["a", "b"], "none": None, "colour": Colour.RED, "hid": Secret("s"),
        "nan": float("nan"), "bad": Unprintable(), "raw": b"\xffab", "Name-With": "v",
    }  # fmt: skip
    shown = draft("mail.sent", Level.INFO, None, given_fields).fields
    assert shown["n"] == 3
    assert shown["x"] == 1.5
    assert shown["yes"] is True
    assert shown["list"] == "a, b"
    assert "none" not in shown
    assert shown["colour"] == "red"
    assert shown["hid"] == "[secret]"
    assert shown["nan"] == "nan"
    assert shown["bad"] == "unprintable Unprintable (RuntimeError)"
    assert shown["raw"] == "\ufffdab"
    assert shown["name_with"] == "v"


anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.text(), max_size=5),
    st.dictionaries(st.text(), st.text(), max_size=3),
)  # fmt: skip


@given(
    event=st.one_of(st.text(), st.sampled_from(sorted(DEFINITIONS))),
    level=st.sampled_from(Level),
    message=st.none() | st.text(),
    fields=st.dictionaries(st.text(), anything, max_size=40),
)
def test_anything_at_all_becomes_a_sound_record(
    event: str, level: Level, message: str | None, fields: dict[str, object]
) -> None:
    """Whatever is emitted: one line, bounded, a known category, JSON-able flat fields, and no exception."""
    made = draft(event, level, message, fields)
    assert made.category in {category.value for category in Category}
    assert len(made.message) <= MAX_MESSAGE_CHARS
    assert len(made.fields) <= MAX_FIELDS + 2
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", made.message)
    for name, value in made.fields.items():
        assert re.fullmatch(r"[a-z0-9_]{1,40}", name)
        assert isinstance(value, str | int | float | bool)
        if isinstance(value, str) and name != "exception":
            assert len(value) <= MAX_FIELD_CHARS + 20
            assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", value)
