"""The documents that are made from the code say what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["states_document", "problems_document"])
def test_the_document_is_up_to_date(name: str) -> None:
    """Run `make docs` when this fails."""
    document = load(DOCS / f"{name}.py")
    assert document.PATH.read_text("utf-8") == document.render()


def test_the_diagram_has_an_arrow_for_every_cell_that_moves() -> None:
    """Nothing of the table is left out of the picture."""
    document = load(DOCS / "states_document.py")
    diagram = document.diagram()
    for trigger, row in document.TABLE.items():
        for state, cell in row.items():
            for target in document._targets(cell):
                lines = [line for line in diagram.splitlines() if f"{state.value} --> {target.value}:" in line]
                assert state is target or any(trigger.value in line for line in lines)
