"""`POST /api/v1/diagnose` and `GET /api/v1/support-bundle`."""

from __future__ import annotations

from notifyd.api.routing import Answer, Call, Operation
from notifyd.api.shapes import record
from notifyd.api.wire import Response, answer

GZIP = "application/gzip"
DIAGNOSIS = record(
    {
        "verdict": {"type": "string", "enum": ["ok", "warning", "failed"]},
        "steps": {
            "type": "array",
            "items": record(
                {
                    "step": {"type": "string"},
                    "verdict": {"type": "string", "enum": ["ok", "warning", "failed", "skipped"]},
                    "evidence": {"type": "string"},
                    "remedy": {"type": "string"},
                }
            ),
        },
    }
)


async def diagnose(call: Call) -> Response:
    return answer(await call.gateway.diagnose(call.caller))


async def support_bundle(call: Call) -> Response:
    archive = await call.gateway.support_bundle(call.caller)
    name = "notifyd-support.tar.gz"
    return Response(200, archive, GZIP, (("content-disposition", f'attachment; filename="{name}"'),))


OPERATIONS = (
    Operation(
        "POST",
        "/api/v1/diagnose",
        "diagnose",
        "Checks every step between here and the mailbox",
        diagnose,
        "support",
        {200: Answer("Each step with its verdict.", DIAGNOSIS)},
    ),
    Operation(
        "GET",
        "/api/v1/support-bundle",
        "getSupportBundle",
        "An archive for support: status, settings, events, versions, queue metadata; no secret and no mail body",
        support_bundle,
        "support",
        {200: Answer("A gzipped tar archive.", {"type": "string", "format": "binary"}, GZIP)},
    ),
)
