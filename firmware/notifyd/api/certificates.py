"""`/api/v1/certificates`: the gateway's own certificates for Entra, a credential that needs no copied secret."""

from __future__ import annotations

from notifyd.api.routing import Answer, Call, Operation
from notifyd.api.shapes import record, refusal
from notifyd.api.wire import Response, answer

CERTIFICATE = record(
    {
        "certificate_pem": {"type": "string", "description": "to be uploaded under Certificates & secrets"},
        "thumbprint": {"type": "string", "description": "SHA-1 in hex, as the portal lists it"},
        "not_after": {"type": "number", "description": "wall-clock seconds at which it ends"},
    }
)


async def list_certificates(call: Call) -> Response:
    return answer({"certificates": call.gateway.certificates()})


async def make_certificate(call: Call) -> Response:
    return answer(await call.gateway.make_certificate(call.caller), status=201)


OPERATIONS = (
    Operation(
        "GET",
        "/api/v1/certificates",
        "listCertificates",
        "The certificates made for the applied application, the newest first",
        list_certificates,
        "settings",
        {200: Answer("Never with a private key.", record({"certificates": {"type": "array", "items": CERTIFICATE}}))},
    ),
    Operation(
        "POST",
        "/api/v1/certificates",
        "makeCertificate",
        "Makes one; the one before stays in use until Entra knows the new one",
        make_certificate,
        "settings",
        {
            201: Answer("Upload it in Entra; from then on the client secret is not needed any more.", CERTIFICATE),
            409: refusal("Nothing is applied yet, or the applied method needs no token."),
            503: refusal("It could not be made; nothing was changed."),
            507: refusal("The storage is full."),
        },
    ),
)
