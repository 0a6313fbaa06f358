"""`/api/v1/settings`: what the page's Apply does."""

from __future__ import annotations

from notifyd.api.routing import Answer, Call, Operation
from notifyd.api.shapes import record, refusal
from notifyd.api.wire import Response, answer

_SECRET_SET = record({"set": {"type": "boolean"}}, description="Write-only: whether one is stored.")

VIEW = {
    "title": "Settings",
    **record(
        {
            "server": {"type": "string"},
            "port": {"type": ["integer", "null"]},
            "security": {"type": "string", "enum": ["none", "starttls", "tls"]},
            "auth": {"type": "string", "enum": ["none", "password", "oauth2"]},
            "cloud": {"type": "string"},
            "sender": {"type": "string"},
            "client_id": {"type": "string"},
            "tenant_id": {"type": "string"},
            "username": {"type": "string"},
            "client_secret": _SECRET_SET,
            "password": _SECRET_SET,
            "secret_expires_on": {"type": ["string", "null"], "format": "date"},
            "clouds": {
                "type": "array",
                "description": "the clouds that can be chosen",
                "items": record(
                    {
                        "name": {"type": "string"},
                        "title": {"type": "string"},
                        "smtp_host": {"type": "string"},
                        "smtp_port": {"type": "integer"},
                    }
                ),
            },
            "applied": {"type": "boolean", "description": "false before the first Apply: the rest are defaults"},
        }
    ),
}

# Forms and lengths only; what the values mean is core/settings.parse_settings' business.
# A pasted line end is a blank like others; inside a value it is refused there.
_ANY_TEXT = {"type": ["string", "null"], "maxLength": 512, "x-multiline": True}
INPUT = {
    "title": "SettingsInput",
    **record(
        {
            "server": {**_ANY_TEXT, "description": "DNS name or address of the mail server"},
            "port": {"type": ["integer", "string", "null"], "maxLength": 8, "description": "1 to 65535"},
            "security": {**_ANY_TEXT, "description": "none, starttls or tls"},
            "auth": {**_ANY_TEXT, "description": "none, password or oauth2"},
            "cloud": {**_ANY_TEXT, "description": "a name of clouds.toml; `public` when left out"},
            "sender": {**_ANY_TEXT, "description": "sender address"},
            "client_id": {**_ANY_TEXT, "description": "Application (client) ID"},
            "tenant_id": {**_ANY_TEXT, "description": "Directory (tenant) ID, or a verified domain"},
            "username": {**_ANY_TEXT, "description": "login name for auth=password; the sender when left out"},
            "client_secret": {
                "type": ["string", "null"],
                "maxLength": 1024,
                "x-multiline": True,
                "writeOnly": True,
                "description": "the secret's Value; left out: the stored one stays",
            },
            "password": {"type": ["string", "null"], "maxLength": 1024, "writeOnly": True},
            "secret_expires_on": {"type": ["string", "null"], "maxLength": 32, "format": "date"},
        },
        required=[],
    ),
}


async def get_settings(call: Call) -> Response:
    view, etag = call.gateway.settings()
    return answer(view, headers=(("etag", etag),))


async def put_settings(call: Call) -> Response:
    await call.gateway.apply(call.body, call.request.header("if-match"), call.caller)
    return await get_settings(call)


OPERATIONS = (
    Operation(
        "GET",
        "/api/v1/settings",
        "getSettings",
        "The applied settings; secrets read back as `{set: true}`",
        get_settings,
        "settings",
        {200: Answer("The settings, with their ETag.", VIEW)},
    ),
    Operation(
        "PUT",
        "/api/v1/settings",
        "applySettings",
        "Apply",
        put_settings,
        "settings",
        {
            200: Answer("Applied: the settings as they are now.", VIEW),
            412: refusal("If-Match names another version of the settings."),
            422: refusal("Fields that cannot be used, or a client secret that Microsoft rejects; nothing was changed."),
            503: refusal("The new client secret could not be proved now; nothing was changed."),
        },
        body=INPUT,
        headers={"If-Match": "The ETag of the settings that were edited; optional."},
    ),
)
