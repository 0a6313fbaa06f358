"""Writes every document that is made from the code: each `*_document.py` beside this file makes one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent


def documents() -> list[ModuleType]:
    """The makers: each has `PATH` and `render()`."""
    sys.path.insert(0, str(HERE.parent / "firmware"))
    return [load(path) for path in sorted(HERE.glob("*_document.py"))]


def load(path: Path) -> ModuleType:
    """The module in this file, which is no part of any package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    for document in documents():
        document.PATH.write_text(document.render(), "utf-8")
        sys.stdout.write(f"{document.PATH.relative_to(HERE.parent)}\n")
