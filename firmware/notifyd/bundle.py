"""The support bundle: what support needs to understand a gateway, made only of what may be shown.

Redacted by construction: it holds what the API already shows (which never includes a secret), versions and limits. No
file of the data directory goes in, no mail body, no environment. Imported only when asked for.
"""

from __future__ import annotations

import io
import json
import platform
import resource
import ssl
import sys
import tarfile
import time
from importlib import metadata
from typing import TYPE_CHECKING, Any

from notifyd import __version__
from notifyd.core.redact import redact_text

if TYPE_CHECKING:
    from notifyd.gateway import LiveGateway

MAX_EVENTS = 1000
LIBRARIES = ("transitions", "msal", "cryptography", "pyroute2-minimal", "structlog", "h11", "aiosmtplib", "jinja2")


def make(gateway: LiveGateway, mail: dict[str, Any]) -> bytes:
    """The archive, a gzipped tar of JSON files."""
    settings, _ = gateway.settings()
    records = sorted(gateway.events.query(limit=MAX_EVENTS), key=lambda record: record.id)
    documents: dict[str, Any] = {
        "status.json": gateway.status(),
        "settings.json": settings,
        "redirect-uris.json": gateway.redirect_uris(),
        "queue.json": mail,
        "versions.json": versions(),
        "process.json": process(),
    }
    files = {name: json.dumps(_redacted(document), indent=1).encode() for name, document in documents.items()}
    lines = [json.dumps(_redacted(record.as_json())) + "\n" for record in records]
    files["events.jsonl"] = "".join(lines).encode()
    return _archive(files)


def _redacted(value: Any) -> Any:
    """Every text once more through the redaction of the event log, whatever it is part of."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, dict):
        return {name: _redacted(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(item) for item in value]
    return value


def versions() -> dict[str, str]:
    """Versions of notifyd, of Python and of the libraries."""
    found = {"notifyd": __version__, "python": sys.version.split()[0], "openssl": ssl.OPENSSL_VERSION}
    found["system"] = f"{platform.system()} {platform.release()} {platform.machine()}"
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def process() -> dict[str, float]:
    """What the process has cost so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"max_rss_kib": usage.ru_maxrss, "user_s": usage.ru_utime, "system_s": usage.ru_stime, "wall": time.time()}


def _archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"notifyd-support/{name}")
            entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
