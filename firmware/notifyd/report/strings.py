"""The report's words by language: one JSON file each; what a language lacks is taken from English."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LANGUAGES = Path(__file__).with_name("languages")


class Strings:
    """Looks words up by a dotted key, `strings("mail.sent")`, and puts values into them by name."""

    def __init__(self, language: str = "en") -> None:
        self._words = _flat(_load("en")) | (_flat(_load(language)) if language != "en" else {})

    def __call__(self, key: str, **values: object) -> str:
        """The text of a key, its `…_one` form when `count` is 1; the key itself when no language has it."""
        if values.get("count") == 1 and f"{key}_one" in self._words:
            key = f"{key}_one"
        words = self._words.get(key, key)
        for name, value in values.items():
            words = words.replace(f"{{{name}}}", str(value))
        return words


def _load(language: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((LANGUAGES / f"{language}.json").read_text("utf-8"))
    return found


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    words: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            words |= _flat(value, f"{prefix}{key}.")
        else:
            words[prefix + key] = str(value)
    return words
