"""Certificate credentials: made on the device, offered for upload to Entra, two at once for a rollover.

The private key never leaves its seal. What may be shown (the certificate itself) is kept beside it as a document, with
the application it was made for, so that one of another application is never offered.
"""

from __future__ import annotations

import asyncio
from typing import Any

from notifyd.api.access import Caller
from notifyd.api.wire import ApiProblem
from notifyd.core.events import Failure
from notifyd.core.faults import StoreFailed, StoreFull
from notifyd.core.settings import Auth, Settings
from notifyd.service import Service

DOCUMENT = "certificates"
MOST = 2
"""As many as the worker keeps keys for."""


class Certificates:
    """lock: that of Apply, since both replace the sealed secrets."""

    def __init__(self, service: Service, lock: asyncio.Lock) -> None:
        self._service = service
        self._lock = lock

    def shown(self) -> list[dict[str, Any]]:
        """The certificates of the applied application, the newest first."""
        stored = self._service.stored
        document = self._service.parts.store.document(DOCUMENT)
        if stored is None or not document or document["application"] != _application(stored.settings):
            return []
        return list(document["certificates"])

    async def make(self, name: str, caller: Caller) -> dict[str, Any]:
        """Makes one more. Raises ApiProblem 409, 503 or 507; nothing has changed then."""
        service = self._service
        async with self._lock:
            stored = service.stored
            if stored is None or stored.settings.auth is not Auth.OAUTH2:
                raise ApiProblem(409, "not-applied", "Apply the settings for Microsoft OAuth 2.0 first.")
            made = await service.parts.entra.make_certificate(stored.sealed_secret, name)
            if isinstance(made, Failure):
                raise ApiProblem(503, "certificate-failed", "The certificate could not be made; nothing was changed.")
            shown = {
                "certificate_pem": made.certificate_pem,
                "thumbprint": made.thumbprint,
                "not_after": made.not_after,
            }
            document = {"application": _application(stored.settings), "certificates": [shown, *self.shown()][:MOST]}
            try:
                service.stored = service.parts.store.save(stored.settings, made.sealed, stored.generation)
                service.parts.store.save_document(DOCUMENT, document)
            except StoreFull:
                raise ApiProblem(507, "storage-full", "The storage is full; try again when there is room.") from None
            except StoreFailed as error:
                service.fail(str(error))
                raise ApiProblem(503, "storage-failed", "The storage failed; the service starts anew.") from error
            service.parts.events.emit(
                "settings.applied",
                user=caller.user or "local",
                remote=caller.remote or None,
                change="secret",
                changed="certificate",
            )
            return shown


def _application(settings: Settings) -> str:
    return "/".join((settings.cloud, settings.tenant_id, settings.client_id)).lower()
