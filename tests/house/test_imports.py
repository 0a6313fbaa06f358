"""Dependencies point inward only: the architecture as a test."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

FIRMWARE = Path(__file__).resolve().parents[2] / "firmware"
PACKAGE = FIRMWARE / "notifyd"

# What the core may use of the standard library: values and arithmetic, nothing that reaches the world.
PURE_STDLIB = set(
    (
        "__future__ abc ast base64 bisect calendar collections contextlib copy dataclasses datetime "
        "email enum functools hashlib heapq hmac html ipaddress itertools json math operator quopri "
        "random re string textwrap types typing unicodedata urllib.parse zoneinfo"
    ).split()
)
PURE_LIBRARIES = {"transitions"}

# Too heavy to stay resident, or too near to secrets: only short-lived programs may import them.
NOT_RESIDENT = {"msal", "requests", "cryptography", "jinja2", "jwt"}
SHORT_LIVED = ("notifyd.adapters.entra_worker", "notifyd.adapters.sealing", "notifyd.adapters.certificate")
SHORT_LIVED += ("notifyd.webserver", "notifyd.report")


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(FIRMWARE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def imports_of(name: str, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(MODULES[name].read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            base = node.module or ""
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names}
    return found


def room(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


CORE = sorted(name for name in MODULES if name.startswith("notifyd.core"))
ADAPTERS = sorted(name for name in MODULES if name.startswith("notifyd.adapters."))


@pytest.mark.parametrize("name", CORE)
def test_the_core_imports_only_itself_and_pure_libraries(name: str) -> None:
    """A line of the core cannot reach a file, a socket, a clock or a library that does."""
    for imported in imports_of(name):
        if imported.startswith("notifyd"):
            assert imported.startswith("notifyd.core"), f"{name} imports {imported}"
        else:
            top = imported.split(".")[0]
            pure = imported in PURE_STDLIB or top in PURE_STDLIB | PURE_LIBRARIES
            assert pure, f"{name} imports {imported}"


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_knows_the_core_and_never_the_service_or_the_api(name: str) -> None:
    """Adapters are leaves: they see core types and other adapters of their own kind, nothing above them."""
    for imported in imports_of(name):
        if imported.startswith("notifyd."):
            assert room(imported) in {"core", "adapters"}, f"{name} imports {imported}"


@pytest.mark.parametrize("name", sorted(name for name in MODULES if not name.startswith(SHORT_LIVED)))
def test_heavy_libraries_stay_out_of_resident_modules(name: str) -> None:
    """MSAL, requests and cryptography live in short-lived workers, so that they cost memory only while they work."""
    heavy = {imported.split(".")[0] for imported in imports_of(name)} & NOT_RESIDENT
    assert not heavy, f"{name} imports {heavy}"


def test_the_resident_service_loads_no_heavy_library() -> None:
    """What the composition root pulls in, asked of a real interpreter."""
    code = "import sys, notifyd.__main__; print(*{name.split('.')[0] for name in sys.modules})"
    shown = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(FIRMWARE)}, capture_output=True, text=True, check=True
    )
    loaded = set(shown.stdout.split())
    assert "notifyd" in loaded
    assert not loaded & (NOT_RESIDENT | {"email", "argparse", "multiprocessing", "unittest", "aiosmtplib"})


def test_every_core_module_was_found() -> None:
    """The walk sees the package: an empty list would make the tests above pass without looking."""
    assert len(CORE) > 5
    assert sys.version_info >= (3, 11)
