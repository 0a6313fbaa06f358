"""`GET /api/v1/status`, `/metrics` and the description of the API itself."""

from __future__ import annotations

from notifyd.api.routing import Access, Answer, Call, Operation
from notifyd.api.shapes import STATES, STATUS_ANSWER
from notifyd.api.wire import Response, answer

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def get_status(call: Call) -> Response:
    return answer(call.gateway.status())


async def get_openapi(call: Call) -> Response:
    from notifyd.api import openapi, table

    return answer(openapi.document(table.TABLE))


async def get_metrics(call: Call) -> Response:
    text = render_metrics(call.gateway.status(), call.gateway.metrics())
    return Response(200, text.encode(), METRICS_TYPE)


Figure = tuple[str, str, str, object]
"""Kind, help, label name, and a number or a mapping of label values to numbers."""


def render_metrics(status: dict[str, object], figures: dict[str, Figure]) -> str:
    """Prometheus' text format 0.0.4; `figures` are further ones by their names."""
    lines: list[str] = []
    states = {state: int(status["state"] == state) for state in STATES}
    _metric(lines, "notifyd_token_state", "gauge", "1 for the state the token is in", "state", states)
    _metric(lines, "notifyd_can_send", "gauge", "1 while mail can leave", "", int(bool(status["can_send"])))
    for name in ("access_expires_at", "refresh_due_at", "grant_age_s"):
        value = status[name]
        if value is not None:
            unit = name.replace("_at", "_timestamp_seconds").replace("_age_s", "_age_seconds")
            _metric(lines, f"notifyd_{unit}", "gauge", f"{name} of the status", "", value)
    problem = status["problem"]
    codes = {str(problem["code"]): 1} if isinstance(problem, dict) else {}
    _metric(lines, "notifyd_problem", "gauge", "1 for the problem that is named in the status", "code", codes)
    for name, (kind, explanation, label, value) in figures.items():
        _metric(lines, name, kind, explanation, label, value)
    return "\n".join(lines) + "\n"


def _metric(lines: list[str], name: str, kind: str, explanation: str, label: str, value: object) -> None:
    lines += [f"# HELP {name} {explanation}", f"# TYPE {name} {kind}"]
    if isinstance(value, dict):
        lines += [f'{name}{{{label}="{_label(key)}"}} {number}' for key, number in value.items()]
    else:
        lines.append(f"{name} {value}")


def _label(value: object) -> str:
    return str(value).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


OPERATIONS = (
    Operation(
        "GET", "/api/v1/status", "getStatus", "Token and mail status", get_status, "status", {200: STATUS_ANSWER}
    ),
    Operation(
        "GET",
        "/api/v1/openapi.json",
        "getDescription",
        "This description",
        get_openapi,
        "status",
        {200: Answer("An OpenAPI 3.1 document.", {"type": "object"})},
        access=Access.SESSION,
    ),
    Operation(
        "GET",
        "/metrics",
        "getMetrics",
        "Figures for Prometheus",
        get_metrics,
        "status",
        {200: Answer("Prometheus text format.", {"type": "string"}, METRICS_TYPE)},
    ),
)
