"""JSON read strictly, and checked against the same schemas that the OpenAPI document shows.

The checker knows the few JSON Schema words that our schemas use; a word it does not know is an error at import of the
table (`known_words`), so that no schema can promise what nobody checks.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from notifyd.api.wire import ApiProblem

MAX_DEPTH = 16
Schema = Mapping[str, Any]
FieldErrors = list[tuple[str, str]]

_CHECKED = {
    "type", "enum", "const", "properties", "required", "additionalProperties", "items", "minItems", "maxItems",
    "minLength", "maxLength", "minimum", "maximum", "pattern", "anyOf",
}  # fmt: skip
_WORDS = _CHECKED | {
    "title",
    "description",
    "format",
    "default",
    "examples",
    "writeOnly",
    "readOnly",
    "x-multiline",
    "$ref",
}
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_CONTROL_IN_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def parse(body: bytes) -> Any:
    """The value of a JSON text (RFC 8259); raises ApiProblem 400 for what two readers could take differently."""
    try:
        value = json.loads(
            body.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_float=_finite
        )
    except UnicodeDecodeError:
        raise _malformed("The body is not UTF-8.") from None
    except RecursionError:
        raise _malformed("The JSON is nested too deeply.") from None
    except json.JSONDecodeError as error:
        raise _malformed(f"The body is not JSON (line {error.lineno}, column {error.colno}).") from None
    except ValueError as error:
        raise _malformed(str(error) if isinstance(error, _Refused) else "A number is out of range.") from None
    if _depth(value) > MAX_DEPTH:
        raise _malformed("The JSON is nested too deeply.")
    return value


class _Refused(ValueError):
    """A refusal in our own words."""


def _malformed(detail: str) -> ApiProblem:
    return ApiProblem(400, "malformed", detail)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Refused("A key appears twice in one object.")
    return found


def _no_constant(name: str) -> NoReturn:
    raise _Refused("NaN and Infinity are not JSON numbers.")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Refused("A number is out of range.")
    return value


def _depth(value: Any) -> int:
    deepest, stack = 0, [(value, 1)]
    while stack:
        item, depth = stack.pop()
        deepest = max(deepest, depth)
        if isinstance(item, dict):
            stack.extend((child, depth + 1) for child in item.values())
        elif isinstance(item, list):
            stack.extend((child, depth + 1) for child in item)
    return deepest


def known_words(schema: Schema) -> set[str]:
    """The words of `schema` (and below) that `check` would silently ignore; empty for every schema of the API."""
    unknown = set(schema) - _WORDS
    below = [*schema.get("properties", {}).values(), *schema.get("anyOf", ())]
    below += [schema[word] for word in ("items", "additionalProperties") if isinstance(schema.get(word), dict)]
    for child in below:
        unknown |= known_words(child)
    return unknown


def check(value: Any, schema: Schema, pointer: str = "") -> FieldErrors:
    """Every place where `value` is not what `schema` says, as (RFC 6901 pointer, sentence)."""
    if "anyOf" in schema:
        tries = [check(value, option, pointer) for option in schema["anyOf"]]
        return [] if any(not errors for errors in tries) else min(tries, key=len)
    wrong_type = _check_type(value, schema)
    if wrong_type:
        return [(pointer, wrong_type)]
    if "enum" in schema and value not in schema["enum"]:
        return [(pointer, "must be one of " + ", ".join(str(option) for option in schema["enum"]))]
    if isinstance(value, str):
        return _check_string(value, schema, pointer)
    if isinstance(value, dict):
        return _check_object(value, schema, pointer)
    if isinstance(value, list):
        return _check_array(value, schema, pointer)
    return _check_number(value, schema, pointer)


def _check_type(value: Any, schema: Schema) -> str:
    names = schema.get("type")
    if names is None:
        return ""
    names = [names] if isinstance(names, str) else names
    if isinstance(value, bool) and "boolean" not in names:
        return f"must be {_article(names)}"
    if any(isinstance(value, _TYPES[name]) for name in names):
        return ""
    return f"must be {_article(names)}"


def _article(names: list[str]) -> str:
    return " or ".join(("an " if name[0] in "aeio" else "a ") + name if name != "null" else "null" for name in names)


def _check_string(value: str, schema: Schema, pointer: str) -> FieldErrors:
    if any("\ud800" <= character <= "\udfff" for character in value):
        return [(pointer, "holds half a surrogate pair")]
    if (_CONTROL_IN_TEXT if schema.get("x-multiline") else _CONTROL).search(value):
        return [(pointer, "must not hold control characters")]
    if len(value) < schema.get("minLength", 0):
        return [(pointer, "must not be empty" if not value else f"needs {schema['minLength']} characters or more")]
    if len(value) > schema.get("maxLength", len(value)):
        return [(pointer, f"may have at most {schema['maxLength']} characters")]
    if "pattern" in schema and not re.search(schema["pattern"], value):
        return [(pointer, "has the wrong form")]
    return []


def _check_object(value: dict[str, Any], schema: Schema, pointer: str) -> FieldErrors:
    properties: Mapping[str, Schema] = schema.get("properties", {})
    errors = [(f"{pointer}/{escape(key)}", "is missing") for key in schema.get("required", ()) if key not in value]
    for key, item in value.items():
        below = f"{pointer}/{escape(key)}"
        if key in properties:
            errors += check(item, properties[key], below)
        elif schema.get("additionalProperties") is False:
            errors.append((below, "is not known here"))
        elif isinstance(schema.get("additionalProperties"), dict):
            errors += check(item, schema["additionalProperties"], below)
    return errors


def _check_array(value: list[Any], schema: Schema, pointer: str) -> FieldErrors:
    if len(value) < schema.get("minItems", 0):
        return [(pointer, f"needs {schema['minItems']} or more")]
    if len(value) > schema.get("maxItems", len(value)):
        return [(pointer, f"may have at most {schema['maxItems']}")]
    errors: FieldErrors = []
    if "items" in schema:
        for index, item in enumerate(value):
            errors += check(item, schema["items"], f"{pointer}/{index}")
    return errors


def _check_number(value: Any, schema: Schema, pointer: str) -> FieldErrors:
    if isinstance(value, bool) or value is None:
        return []
    if value < schema.get("minimum", value):
        return [(pointer, f"must be {schema['minimum']} or more")]
    if value > schema.get("maximum", value):
        return [(pointer, f"must be {schema['maximum']} or less")]
    return []


def escape(key: str) -> str:
    """A key as part of a pointer (RFC 6901), bounded and cleaned: it comes from the peer."""
    clean = _CONTROL.sub("?", key.encode("utf-8", "replace").decode())
    return clean[:64].replace("~", "~0").replace("/", "~1")
