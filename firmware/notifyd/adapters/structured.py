"""structlog, as much of it as the event log needs: loggers with a chain of processors, and bound context.

`import structlog` also imports its console renderer, its bridge to Twisted, greenlet and rich when they are installed:
1.5 to 7 MiB more for an idle service. The parts needed here do not depend on them, so they are imported below an empty
parent package. Whoever imports structlog in full later, gets it in full.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
import types
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, Protocol, cast

EventDict = MutableMapping[str, Any]
Processor = Callable[[Any, str, EventDict], Any]


class BoundLogger(Protocol):
    """What a structlog logger offers here: one method a level, each with the event's name and its fields."""

    def debug(self, event: str, **fields: Any) -> Any: ...
    def info(self, event: str, **fields: Any) -> Any: ...
    def warning(self, event: str, **fields: Any) -> Any: ...
    def error(self, event: str, **fields: Any) -> Any: ...
    def critical(self, event: str, **fields: Any) -> Any: ...


def _import_part(name: str) -> types.ModuleType:
    """A module of structlog without running the package's own `__init__`."""
    if "structlog" in sys.modules:
        return importlib.import_module(name)
    spec = importlib.machinery.PathFinder.find_spec("structlog")
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("structlog is not installed", name="structlog")
    parent = types.ModuleType("structlog")
    parent.__path__ = list(spec.submodule_search_locations)
    sys.modules["structlog"] = parent
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules["structlog"]


_native = _import_part("structlog._native")
_contextvars = _import_part("structlog.contextvars")

merge_contextvars: Processor = _contextvars.merge_contextvars
bound_contextvars: Callable[..., Any] = _contextvars.bound_contextvars
"""`with bound_contextvars(user=…, remote=…):` adds those fields to every event emitted inside, also by its tasks."""


def make_logger(sink: object, processors: Sequence[Processor], min_level: int) -> BoundLogger:
    """A logger that hands what the last processor returns to the method of `sink` named like the level.

    min_level: of the stdlib's numbers (10 debug … 50 critical); a call below it costs one attribute look-up.
    """
    wrapper = _native.make_filtering_bound_logger(min_level)
    return cast(BoundLogger, wrapper(sink, list(processors), {}))
