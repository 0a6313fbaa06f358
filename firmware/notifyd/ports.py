"""What the API asks of the service, as one small Protocol: handlers know this and nothing behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from notifyd.adapters.eventlog import EventLog
    from notifyd.api.access import Caller
    from notifyd.consumers import Consumers
    from notifyd.core.eventlog import Record


class Gateway(Protocol):
    """Everything the API can ask for. Refusals are `notifyd.api.wire.ApiProblem`."""

    @property
    def events(self) -> EventLog: ...

    @property
    def consumers(self) -> Consumers:
        """The daily report and alerts by mail."""
        ...

    def status(self) -> dict[str, Any]:
        """The body of `GET /api/v1/status`."""
        ...

    def settings(self) -> tuple[dict[str, Any], str]:
        """The applied settings without secrets, and their ETag."""
        ...

    async def apply(self, body: Mapping[str, Any], if_match: str, caller: Caller) -> None:
        """Apply: checks, proves, seals and stores; nothing changes when it raises."""
        ...

    def certificates(self) -> list[dict[str, Any]]:
        """The certificates made for the applied application."""
        ...

    async def make_certificate(self, caller: Caller) -> dict[str, Any]:
        """Makes one more certificate to upload to Entra."""
        ...

    async def authorize(self, redirect_uri: str, caller: Caller) -> dict[str, Any]:
        """Begins a sign-in."""
        ...

    async def refresh(self, force: bool) -> None:
        """Re-checks the token now, renews it when due or asked, and returns when that has settled."""
        ...

    def forget(self, caller: Caller) -> None:
        """Drops the grant."""
        ...

    def redirect_uris(self) -> list[str]:
        """The redirect URI of every LAN name and address."""
        ...

    async def signin_answered(self, params: Mapping[str, str], server_addr: str, remote: str) -> dict[str, Any]:
        """Microsoft's redirect, as the CGI passed it on; returns the callback answer with its `status`."""
        ...

    async def accept_mail(
        self, mail: Mapping[str, Any] | bytes, caller: Caller, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Puts a message into the durable queue; it is on the disk when this returns."""
        ...

    def list_mail(self, state: str | None, limit: int) -> dict[str, Any]: ...

    def get_mail(self, mail_id: str) -> dict[str, Any]: ...

    def delete_mail(self, mail_id: str, caller: Caller) -> None: ...

    def retry_mail(self, mail_id: str, caller: Caller) -> dict[str, Any]: ...

    def hold_mail(self, held: bool, caller: Caller) -> None: ...

    async def diagnose(self, caller: Caller) -> dict[str, Any]: ...

    async def support_bundle(self, caller: Caller) -> bytes: ...

    def metrics(self) -> dict[str, tuple[str, str, str, object]]:
        """Figures beyond `status`, for /metrics."""
        ...

    @property
    def followers(self) -> int:
        """How many streams of the event log are open."""
        ...

    def follow(self, after: int | None) -> AsyncIterator[Record | None]:
        """Records as they come, None when there was none for a while."""
        ...
