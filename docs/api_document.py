"""Makes `docs/api.md` from the OpenAPI document: `render()` gives its text, running this file writes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from notifyd.api import openapi
from notifyd.api.table import TABLE

PATH = Path(__file__).with_name("api.md")

_HEAD = """\
# HTTP API

Made from the table of operations (`firmware/notifyd/api/table.py`) by `make docs`; a test fails when the two differ.
The same table makes the router and the OpenAPI 3.1 document at `GET /api/v1/openapi.json`.

{description}

| | on `admin.sock` | under `https://<LAN address>/` |
|---|---|---|
| who | whoever may open the socket (mode 0660, group `notify-admin`) | session cookie or Basic login |
| changes | as above | same origin only (Fetch Metadata, `Origin`) |
| bounds | 64 connections, head 16 KiB in 10 s, body 64 KiB in 10 s (mail: 35 MiB in 120 s) | the same |

    curl --unix-socket /run/notifyd/admin.sock http://localhost/api/v1/status
    curl --cacert device.pem --user admin https://192.168.1.1/metrics

Besides what is listed with each call, an answer can be one of these, all problem documents:

| answer | |
|---|---|
{common}

`callback.sock` is no part of this: it takes one call, `POST /callback`, from the CGI (see docs/architecture.md).
"""

_COMMON = {status: answer.description for status, answer in openapi.COMMON.items()}


def render() -> str:
    """The whole document."""
    document = openapi.document(TABLE)
    common = "\n".join(f"| {status} | {description} |" for status, description in _COMMON.items())
    parts = [_HEAD.format(description=document["info"]["description"], common=common)]
    for tag in document["tags"]:
        entries = "\n".join(_entries(document, tag["name"]))
        if entries:
            parts.append(f"## {tag['description']}\n\n{entries}")
    parts.append("## Shapes\n\n" + "\n".join(_shapes(document)))
    return "\n".join(parts)


def _entries(document: Mapping[str, Any], tag: str) -> Iterator[str]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"]:
                yield _entry(method.upper(), path, operation)


def _entry(method: str, path: str, operation: Mapping[str, Any]) -> str:
    lines = [f"### `{method} {path}`", "", f"{operation['summary']}."]
    if operation.get("security") == []:
        lines.append("No login needed.")
    lines.append("")
    for parameter in operation.get("parameters", ()):
        kind = {"query": "query", "header": "header", "path": "path"}[parameter["in"]]
        meaning = parameter.get("description", "")
        lines.append(f"- {kind} `{parameter['name']}`: {_type(parameter['schema'])}{'; ' if meaning else ''}{meaning}")
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        lines.append(f"- body `{media}`: {_type(content['schema'])}")
    lines += ["", "| answer | |", "|---|---|"] if lines[-1] else ["| answer | |", "|---|---|"]
    for status, answer in operation["responses"].items():
        if answer["description"] in _COMMON.values():
            continue
        shapes = ", ".join(
            f"`{media}` {_type(content['schema'])}" for media, content in answer.get("content", {}).items()
        )
        lines.append(f"| {status} | {answer['description']} {_cell(shapes)} |")
    return "\n".join([*lines, ""])


def _shapes(document: Mapping[str, Any]) -> Iterator[str]:
    for name, schema in document["components"]["schemas"].items():
        lines = [f"### {name}", ""]
        if schema.get("description"):
            lines += [schema["description"], ""]
        lines += ["| member | type | |", "|---|---|---|"]
        for member, shape in schema["properties"].items():
            lines.append(f"| `{member}` | {_cell(_type(shape))} | {_cell(shape.get('description', ''))} |")
        yield "\n".join([*lines, ""])


def _type(schema: Mapping[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    names = schema.get("type", "any")
    words = " or ".join([names] if isinstance(names, str) else names)
    if "array" in words and "items" in schema:
        return f"array of {_type(schema['items'])}"
    if "object" in words and "properties" in schema and "title" not in schema:
        return "{" + ", ".join(f"`{name}`: {_type(shape)}" for name, shape in schema["properties"].items()) + "}"
    if "object" in words and "properties" in schema:
        return f"{schema['title']} {{" + ", ".join(f"`{name}`" for name in schema["properties"]) + "}"
    return words


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    PATH.write_text(render())
