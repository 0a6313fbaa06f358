"""`/api/v1/report` and `/api/v1/alerts`: the daily report and alerts by mail."""

from __future__ import annotations

from typing import Any

from notifyd.api.routing import Answer, Call, Operation
from notifyd.api.shapes import WALL, record, refusal, text
from notifyd.api.strictjson import FieldErrors
from notifyd.api.wire import ApiProblem, Response, answer

HTML = "text/html; charset=utf-8"
# The report's own HTML: inline styles and embedded images, no script; shown by the page in a frame.
PREVIEW_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; sandbox"

_ADDRESSES = {"type": "array", "items": text("one mail address", most=254), "maxItems": 16}
_REPORT_INPUT: dict[str, Any] = {
    "enabled": {"type": "boolean", "description": "send it by itself"},
    "recipients": _ADDRESSES,
    "subject": text("may hold %hostname, %date, %time, %model, %version and %%", most=200),
    "title": text("of the report, with the same options", most=200),
    "time": text("local time of day, HH:MM", most=5),
    "time_zone": text("IANA name; empty for the gateway's own", most=64),
    "weekdays": {
        "type": "array",
        "items": {"type": "integer", "minimum": 1, "maximum": 7},
        "description": "1 is Monday",
    },
    "language": text(most=8),
    "sections": {"type": "array", "items": text(most=16)},
    "attach_csv": {"type": "boolean", "description": "the figures as CSV"},
    "attach_events": {"type": "boolean", "description": "the day's event log as CSV"},
    "reset_counters": {"type": "boolean", "description": "count traffic from the last report on"},
}
_PROGRESS: dict[str, Any] = {
    "step": {
        "type": ["string", "null"],
        "description": "starting, asking, looking, drawing, handing-in, queued, failed …",
    },
    "by": {"type": ["string", "null"], "description": "who asked for it; `schedule` when nobody did"},
    "started_at": WALL,
    "mail_id": {"type": ["string", "null"], "description": "look its outcome up under /api/v1/mail/{id}"},
    "error": {"type": ["string", "null"]},
}
SETTINGS = {"title": "ReportSettings", **record(_REPORT_INPUT)}
SETTINGS_INPUT = {"title": "ReportSettingsInput", **record(_REPORT_INPUT, [])}
SETTINGS_ANSWER = {"title": "ReportSettingsAnswer", **record({**_REPORT_INPUT, "next_at": WALL})}
PROGRESS = {"title": "ReportProgress", **record(_PROGRESS)}
PREVIEW = record({"subject": {"type": "string"}, "html": {"type": "string"}, "text": {"type": "string"}})
_ALERT_INPUT: dict[str, Any] = {
    "enabled": {"type": "boolean"},
    "recipients": _ADDRESSES,
    "level": text("this level and more urgent ones", most=16),
    "categories": {"type": "array", "items": text(most=16), "description": "empty is all but those about mail"},
    "interval_min": {"type": "integer", "description": "at most one mail in so many minutes"},
}
ALERTS = {"title": "AlertSettings", **record(_ALERT_INPUT)}
ALERTS_INPUT = {"title": "AlertSettingsInput", **record(_ALERT_INPUT, [])}


async def get_settings(call: Call) -> Response:
    return answer(_settings(call))


async def put_settings(call: Call) -> Response:
    from notifyd.core.report_settings import InvalidReportSettings

    body = {name: value for name, value in call.body.items() if name != "next_at"}
    try:
        call.gateway.consumers.reports.apply(body, _user(call), call.caller.remote)
    except InvalidReportSettings as invalid:
        raise _invalid(list(invalid.errors)) from None
    return answer(_settings(call))


def _settings(call: Call) -> dict[str, Any]:
    reports = call.gateway.consumers.reports
    return {**reports.settings.as_json(), "next_at": reports.next_at}


async def send(call: Call) -> Response:
    from notifyd.adapters.report_program import ReportProgramFailed
    from notifyd.reports import NoRecipients, ReportBusy

    to = (call.body or {}).get("to", [])
    try:
        mail_id = await call.gateway.consumers.reports.send(_user(call), [to] if isinstance(to, str) else to)
    except NoRecipients:
        raise ApiProblem(
            409, "no-recipients", "Nobody is set to receive the report: enter a recipient first."
        ) from None
    except ReportBusy:
        raise ApiProblem(409, "busy", "A report is being made at this moment.") from None
    except ReportProgramFailed as fault:
        raise ApiProblem(503, "report-failed", f"The report could not be made: {fault}.") from None
    return answer({"id": mail_id}, 202)


async def get_progress(call: Call) -> Response:
    return answer(call.gateway.consumers.reports.progress)


async def preview(call: Call) -> Response:
    from notifyd.adapters.report_program import ReportProgramFailed

    try:
        made = await call.gateway.consumers.reports.preview()
    except ReportProgramFailed as fault:
        raise ApiProblem(503, "report-failed", f"The report could not be made: {fault}.") from None
    wanted = call.request.header("accept")
    if "json" in wanted and "html" not in wanted:
        return answer(made)
    return Response(200, str(made["html"]).encode(), HTML, (("content-security-policy", PREVIEW_POLICY),))


async def get_alerts(call: Call) -> Response:
    return answer(call.gateway.consumers.alerts.settings.as_json())


async def put_alerts(call: Call) -> Response:
    from notifyd.core.alerts import InvalidAlertSettings

    try:
        settings = call.gateway.consumers.alerts.apply(call.body, _user(call), call.caller.remote)
    except InvalidAlertSettings as invalid:
        raise _invalid(list(invalid.errors)) from None
    return answer(settings.as_json())


def _user(call: Call) -> str:
    return call.caller.user or "local"


def _invalid(errors: FieldErrors) -> ApiProblem:
    pointer, detail = errors[0]
    return ApiProblem(
        422, "invalid", f"{pointer.removeprefix('/')} {detail}.", title="Some values cannot be used", errors=errors
    )


_FAILED = {503: refusal("The report could not be made.")}
_INVALID = {422: refusal("Some values cannot be used.")}

OPERATIONS = (
    Operation(
        "GET",
        "/api/v1/report/settings",
        "getReportSettings",
        "Settings of the daily report",
        get_settings,
        "report",
        {200: Answer("The settings, and when the next one is due.", SETTINGS_ANSWER)},
    ),
    Operation(
        "PUT",
        "/api/v1/report/settings",
        "putReportSettings",
        "Sets the daily report; what is left out stays",
        put_settings,
        "report",
        {200: Answer("As they are now.", SETTINGS_ANSWER), **_INVALID},
        body={**SETTINGS_INPUT, "properties": {**_REPORT_INPUT, "next_at": WALL}},
    ),
    Operation(
        "POST",
        "/api/v1/report/send",
        "sendReport",
        "Send Report Now: makes the report and puts it into the queue",
        send,
        "report",
        {
            202: Answer("In the queue; its outcome is found under its id.", record({"id": text("of the mail")})),
            409: refusal("Nobody is set to receive it, or one is being made."),
            **_FAILED,
        },
        body=record({"to": {"anyOf": [text("instead of those that are set", most=254, least=1), _ADDRESSES]}}, []),
        body_required=False,
    ),
    Operation(
        "GET",
        "/api/v1/report/progress",
        "getReportProgress",
        "How far the report is, or what became of the last one",
        get_progress,
        "report",
        {200: Answer("The progress.", PROGRESS)},
    ),
    Operation(
        "GET",
        "/api/v1/report/preview",
        "getReportPreview",
        "The report as it would be sent now: HTML, or JSON with `Accept: application/json`",
        preview,
        "report",
        {200: Answer("The report.", PREVIEW, also=("text/html",)), **_FAILED},
    ),
    Operation(
        "GET",
        "/api/v1/alerts/settings",
        "getAlertSettings",
        "Which events are told of by mail",
        get_alerts,
        "report",
        {200: Answer("The settings.", ALERTS)},
    ),
    Operation(
        "PUT",
        "/api/v1/alerts/settings",
        "putAlertSettings",
        "Sets alerts by mail; what is left out stays",
        put_alerts,
        "report",
        {200: Answer("As they are now.", ALERTS), **_INVALID},
        body=ALERTS_INPUT,
    ),
)
