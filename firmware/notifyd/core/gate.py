"""The gate of the mail: what the mail server has told us about itself, as far as it stops everything.

A message's own fault does not belong here. What does: the login refused, the server unreachable for the login check,
and the permanent errors whose repetition makes Exchange block the mailbox (550 5.2.251 to 5.2.255). The gate opens
again by a login check (AUTH only, no message) that passes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from notifyd.core.problem import Problem

FIRST_PROBE_S = 60.0
LONGEST_TRANSIENT_S = 15 * 60.0
FIRST_REFUSED_S = 15 * 60.0
"""A switch in the Exchange admin centre takes about fifteen minutes to an hour to take effect."""
LONGEST_REFUSED_S = 60 * 60.0
FIRST_BREAKER_S = 4 * 3600.0
LONGEST_BREAKER_S = 24 * 3600.0
JITTER = 0.2


@dataclass(slots=True)
class Gate:
    """Open when `problem` is None. until: boot seconds of the next login check. probing: one is under way since then.

    token_doubted: the mail server refused the present token once already, a renewal was asked for.
    """

    problem: Problem | None = None
    until: float | None = None
    failures: int = 0
    breaker: bool = False
    probing: float | None = None
    token_doubted: bool = False

    def close(self, rng: random.Random, now: float, problem: Problem, breaker: bool = False) -> None:
        """Hold everything because of `problem`; the wait doubles while the same problem comes back."""
        same = self.problem is not None and self.problem.code == problem.code
        if same and self.problem is not None:
            problem = replace(problem, since=self.problem.since)
        self.failures = self.failures + 1 if same else 1
        self.breaker = breaker or (same and self.breaker)
        self.problem = problem
        self.until = now + self._wait() * rng.uniform(1 - JITTER, 1 + JITTER)

    def _wait(self) -> float:
        first, longest = FIRST_REFUSED_S, LONGEST_REFUSED_S
        if self.breaker:
            first, longest = FIRST_BREAKER_S, LONGEST_BREAKER_S
        elif self.problem is not None and self.problem.transient:
            first, longest = FIRST_PROBE_S / (1 - JITTER), LONGEST_TRANSIENT_S
        return min(longest, first * 2.0 ** min(self.failures - 1, 16))

    def open(self) -> None:
        """The mail server let us in."""
        self.problem, self.until, self.failures, self.breaker, self.token_doubted = None, None, 0, False, False

    def hasten(self, now: float) -> None:
        """Check the login now, if the gate is closed."""
        if self.problem is not None:
            self.until = now
