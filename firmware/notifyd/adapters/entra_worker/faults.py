"""How an operation ends without a result."""

from __future__ import annotations

from notifyd.core.events import Failure, FailureKind


class OperationFailed(Exception):
    """Carries the failure to be answered."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.error)
        self.failure = failure


def malformed(error: str, description: str, status: int | None = None) -> OperationFailed:
    """An answer that came, but cannot be used."""
    return OperationFailed(Failure(kind=FailureKind.MALFORMED, status=status, error=error, description=description))


def store(error: str, description: str) -> OperationFailed:
    """A sealed blob, the device key or another local file cannot be used."""
    return OperationFailed(Failure(kind=FailureKind.STORE, error=error, description=description))
