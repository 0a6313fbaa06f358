"""Takes secrets and control characters out of text, as the last step before anything is stored, shown or sent.

Secrets should never get this far (`core.secret.Secret` sees to that); this is the net below, for what servers and
libraries put into their own words. It works by the name of a field and by the look of a value, since an authorization
code inside a JSON text inside an exception has no field name.
"""

from __future__ import annotations

import re

from notifyd.core.secret import REDACTED

_SECRET_NAMES = frozenset(
    {
        "assertion", "authorization", "bearer", "client_assertion", "client_info", "code_challenge", "code_verifier",
        "cookie", "credential", "credentials", "device_key", "flow", "key", "nonce", "passwd", "password", "pwd",
        "secret", "session", "session_id", "set_cookie", "signin_id", "token", "verifier",
    }
)  # fmt: skip
_SECRET_SUFFIXES = ("_assertion", "_cookie", "_key", "_password", "_secret", "_token", "_verifier")
_PLAIN_CODE = re.compile(r"AADSTS\d{1,9}|[a-z][a-z_]{0,30}|[a-z]{1,16}\.[\w.-]{1,40}|\d{1,6}")

# What follows a telling name inside free text: `code=…`, `"refresh_token": "…"`, `password: …`, `state%3D…`.
_ASSIGNMENT = re.compile(
    r"""(?ix)
    (?P<name> \b (?: (?:client|app|shared)_?secret | (?:access|refresh|id|auth)_?token | code_verifier | code_challenge
      | (?:client_)?assertion | client_info | password | passwd | pwd | nonce | session(?:_?id)? | set-cookie | cookie
      | authorization | device_key | __Host-notifyd | sig | token | secret ) )
    (?P<gap> \\?["']? \s* (?: [:=] | %3D ) \s* \\?["']? (?: Bearer\s+ | Basic\s+ )? )
    (?P<value> [^\s"'&;,\\\x01<>]+ )
    """
)
_LONG_ASSIGNMENT = re.compile(  # `code` and `state` are also everyday words: only a long value is a secret
    r"""(?ix) (?P<name> \b (?: code | state ) ) (?P<gap> \\?["']? \s* (?: [:=] | %3D ) \s* \\?["']? )
    (?P<value> [\w.~+/%=-]{16,} )"""
)
_LOOKS = re.compile(
    r"""(?x)
    eyJ[\w-]{8,}(?:\.[\w-]*){0,4}              # JSON Web Token, also encrypted
    | \b[01]\.A[\w-]{10,}(?:\.[\w-]+)*         # Entra's refresh tokens and authorization codes
    | \bM\.[A-Z]\w*[._!*$-][\w.!*$-]{20,}      # the same of personal accounts
    | (?i:\bBearer\s+)[\w.~+/=-]{8,}           # an Authorization header, an XOAUTH2 string
    | \bdXNlcj[\w+/=-]{10,}                    # base64 of `user=…`: the XOAUTH2 string as it goes over the wire
    | [\w.~-]{3}\dQ~[\w.~-]{25,}               # Entra's client secrets
    | -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY-----.*
    """
)
# Nothing a person reads is that long, without a blank, and mixed of all three.
_LONG_WORD = re.compile(r"[\w+/=~-]{80,}")
_MIXED = tuple(map(re.compile, ("[a-z]", "[A-Z]", "[0-9]")))

# C0 and C1 controls, line and paragraph separators, and the marks that turn text around or hide it.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]+")
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


def clean_text(text: str, limit: int = 2000) -> str:
    """One line of at most `limit` characters: no line ends, escape sequences, control or direction characters.

    A run of them becomes one blank, so that words stay apart and nobody can forge a second line in a log.
    """
    cut = text[: limit * 2]
    line = _CONTROLS.sub(" ", _ANSI.sub("\x1b", cut)).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def redact_text(text: str) -> str:
    """The text with everything that looks like a secret replaced by `[secret]`."""
    text = _LOOKS.sub(REDACTED, text)
    text = _ASSIGNMENT.sub(_keep_name, text)
    text = _LONG_ASSIGNMENT.sub(_keep_name, text)
    return _LONG_WORD.sub(_hide_if_mixed, text)


def _hide_if_mixed(match: re.Match[str]) -> str:
    word = match.group()
    return REDACTED if all(part.search(word) for part in _MIXED) else word


def _keep_name(match: re.Match[str]) -> str:
    return f"{match['name']}{match['gap']}{REDACTED}"


def is_secret_name(name: str) -> bool:
    """True when a field of this name holds a secret whatever it looks like."""
    plain = name.lower().replace("-", "_").lstrip("_")
    return plain in _SECRET_NAMES or plain.endswith(_SECRET_SUFFIXES)


def redact_field(name: str, text: str) -> str:
    """The value of a field: hidden by the field's name, or by the look of the value."""
    if is_secret_name(name) or (name == "code" and not _PLAIN_CODE.fullmatch(text)):
        return REDACTED if text else ""
    return redact_text(text)
