"""Sign-ins that are open now: what redeeming them needs, and the browser tab that waits for each one's end.

In memory only: a restart ends them all, since their PKCE verifiers must not be stored. The `state` parameter is the
key: 128 random bits or more, single use, compared by hash so that looking one up tells nothing about another.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from notifyd.adapters.entra import BegunSignin
from notifyd.core.problem import Problem

MAX_OPEN = 16
MAX_REMEMBERED = 64
ANSWER_DEADLINE_S = 90.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How a sign-in ended, for the tab that waits."""

    ok: bool
    problem: Problem | None = None


@dataclass(slots=True)
class OpenSignin:
    """One sign-in: `params` are Microsoft's, once they have come."""

    begun: BegunSignin
    params: Mapping[str, str] = field(default_factory=dict)
    ended: asyncio.Future[Ending] | None = None

    @property
    def answered(self) -> bool:
        return self.ended is not None


class Signins:
    """The open sign-ins, and for a while the hashes of those that are over."""

    def __init__(self) -> None:
        self._open: dict[str, OpenSignin] = {}
        self._over: OrderedDict[str, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def full(self) -> bool:
        return len(self._open) >= MAX_OPEN

    def add(self, begun: BegunSignin) -> None:
        self._open[_key(begun.signin_id)] = OpenSignin(begun)

    def find(self, state: str) -> OpenSignin | None:
        return self._open.get(_key(state))

    def why_over(self, state: str) -> str:
        """Why a sign-in that is not open any more ended; empty when it never was one of ours."""
        return self._over.get(_key(state), "")

    def finish(self, state: str, ending: Ending, reason: str) -> None:
        """Ends a sign-in and tells the tab that waits for it; unknown ones are no error."""
        signin = self._open.pop(_key(state), None)
        if signin is None:
            return
        self._over[_key(state)] = reason
        while len(self._over) > MAX_REMEMBERED:
            self._over.popitem(last=False)
        if signin.ended is not None and not signin.ended.done():
            signin.ended.set_result(ending)

    def clear(self) -> None:
        """Ends all: the service stops."""
        for signin in self._open.values():
            if signin.ended is not None:
                signin.ended.cancel()
        self._open.clear()


async def wait_for_end(ended: asyncio.Future[Ending]) -> Ending | None:
    """The ending, or None when it has not come within the deadline or the service stops."""
    with suppress(TimeoutError, asyncio.CancelledError):
        return await asyncio.wait_for(asyncio.shield(ended), ANSWER_DEADLINE_S)
    return None


def _key(state: str) -> str:
    return hashlib.sha256(state.encode("utf-8", "replace")).hexdigest()
