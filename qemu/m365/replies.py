"""Entra's error bodies and error pages, from a numbered fault."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass

from starlette.responses import JSONResponse, Response

from qemu.m365.aadsts import Fault, fault_for
from qemu.m365.clock import SimClock

# Numbers of policies that a sign-in with the right claims satisfies: their bodies carry a claims challenge.
_CHALLENGED = frozenset({50072, 50074, 50076, 50078, 50079, 50158, 53000, 53001, 53003})
NO_STORE = {"Cache-Control": "no-store, no-cache", "Pragma": "no-cache"}


class OAuthFault(Exception):
    """A request failed with an AADSTS number.

    about fills the places of the table's text; text replaces it. claims is a challenge to send along.
    """

    def __init__(self, number: int, text: str = "", *, claims: str = "", suberror: str | None = None, **about: object):
        self.fault: Fault = fault_for(number)
        self.text = text or self.fault.words(**about)
        self.claims = claims
        self.suberror = self.fault.suberror if suberror is None else suberror
        self.status = self.fault.status
        self.error = self.fault.error
        self.retry_after: float | None = None
        super().__init__(f"AADSTS{number}: {self.text}")


@dataclass(frozen=True)
class Trace:
    """Ids of one request, as Microsoft gives them for support cases."""

    trace_id: str
    correlation_id: str
    timestamp: str

    @classmethod
    def new(cls, clock: SimClock, client_request_id: str = "") -> Trace:
        """Fresh ids; the client's own request id becomes the correlation id when it is a GUID."""
        try:
            correlation = str(uuid.UUID(client_request_id))
        except ValueError:
            correlation = str(uuid.uuid4())
        return cls(str(uuid.uuid4()), correlation, clock.stamp())


def claims_challenge(number: int, polids: str) -> str:
    """The claims a client must pass to authorize, for faults that a sign-in can satisfy; otherwise empty."""
    if number not in _CHALLENGED:
        return ""
    return json.dumps({"access_token": {"polids": {"essential": True, "values": [polids]}}}, separators=(",", ":"))


def description(fault: OAuthFault, trace: Trace) -> str:
    """`error_description` as Entra words it."""
    ids = f"Trace ID: {trace.trace_id}\r\nCorrelation ID: {trace.correlation_id}\r\nTimestamp: {trace.timestamp}"
    return f"AADSTS{fault.fault.number}: {fault.text}\r\n{ids}"


def error_body(fault: OAuthFault, trace: Trace, origin: str) -> dict[str, object]:
    """The token endpoint's error document."""
    body: dict[str, object] = {
        "error": fault.error,
        "error_description": description(fault, trace),
        "error_codes": [fault.fault.number],
        "timestamp": trace.timestamp,
        "trace_id": trace.trace_id,
        "correlation_id": trace.correlation_id,
        "error_uri": f"{origin}/error?code={fault.fault.number}",
    }
    if fault.suberror:
        body["suberror"] = fault.suberror
    if fault.claims:
        body["claims"] = fault.claims
    return body


def error_response(fault: OAuthFault, trace: Trace, origin: str) -> Response:
    """The whole HTTP answer of the token endpoint."""
    headers = {**NO_STORE, "x-ms-request-id": trace.trace_id, "client-request-id": trace.correlation_id}
    if fault.retry_after is not None:
        headers["Retry-After"] = f"{fault.retry_after:g}"
    return JSONResponse(error_body(fault, trace, origin), fault.status, headers)
