"""Failures on order: a test asks for one, the next matching request gets it.

An order has a `target` (which part), a `what` (which failure, see README.md), a number of `times`
(None = until reset), and free parameters. `skip` lets that many matching requests pass first.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

_ids = itertools.count(1)


class BadOrder(ValueError):
    """The order cannot be understood; the text says why."""


@dataclass
class Order:
    """One failure to play, and how often it still may."""

    target: str
    what: str
    times: int | None = 1
    skip: int = 0
    params: dict[str, Any] = field(default_factory=dict)
    id: int = field(default_factory=lambda: next(_ids))
    played: int = 0

    def text(self, name: str, default: str = "") -> str:
        """A parameter as text."""
        return str(self.params.get(name, default))

    def number(self, name: str, default: float) -> float:
        """A parameter as a number."""
        return float(self.params.get(name, default))

    def as_json(self) -> dict[str, object]:
        """The order as the control API shows it."""
        rest = {"id": self.id, "target": self.target, "what": self.what, "times": self.times, "skip": self.skip}
        return {**self.params, **rest, "played": self.played}


class OrderBook:
    """All open orders, oldest first. `known` says which failures each target can play."""

    def __init__(self, known: Mapping[str, Collection[str]]) -> None:
        self._known = known
        self._orders: list[Order] = []

    def add(self, body: Mapping[str, Any]) -> Order:
        """Accept an order from JSON. Raises BadOrder."""
        params = dict(body)
        target, what = params.pop("target", None), params.pop("what", None)
        times, skip = params.pop("times", 1), params.pop("skip", 0)
        if target not in self._known:
            raise BadOrder(f"target must be one of {', '.join(self._known)}")
        if what not in self._known[target]:
            raise BadOrder(f"what must be one of {', '.join(sorted(self._known[target]))}")
        if times is not None and (not isinstance(times, int) or times < 1):
            raise BadOrder("times must be a whole number from 1, or null for always")
        if not isinstance(skip, int) or skip < 0:
            raise BadOrder("skip must be a whole number from 0")
        order = Order(target, what, times, skip, params)
        self._orders.append(order)
        return order

    def take(self, target: str, whats: Collection[str] | None = None, **facts: str) -> Order | None:
        """The oldest order for `target` (of the kinds `whats`) that fits, counted as played; None without one.

        An order fits when none of its own parameters contradicts the facts.
        """
        for order in self._orders:
            if order.target != target or (whats is not None and order.what not in whats):
                continue
            if any(order.params.get(name, fact) != fact for name, fact in facts.items()):
                continue
            if order.skip:
                order.skip -= 1
                continue
            order.played += 1
            if order.times is not None:
                order.times -= 1
                if not order.times:
                    self._orders.remove(order)
            return order
        return None

    def cancel(self, order_id: int) -> bool:
        """Withdraw one order; False when it is not open."""
        before = len(self._orders)
        self._orders = [o for o in self._orders if o.id != order_id]
        return len(self._orders) < before

    def clear(self) -> None:
        """Withdraw all."""
        self._orders.clear()

    def open(self) -> list[Order]:
        """Orders not used up."""
        return list(self._orders)
