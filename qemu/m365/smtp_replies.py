"""Exchange's refusals by name, for orders: the stage they come at and the reply's text."""

# ruff: noqa: E501 - a reply is one line, on the wire as here

from __future__ import annotations

_SERVER = "AM0PR08CA0001.eurprd08.prod.outlook.com"
OK = "235 2.7.0 Authentication successful"
BAD = f"535 5.7.3 Authentication unsuccessful [{_SERVER}]"
TENANT_OFF = f"535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled for more information. [{_SERVER}]"
MAILBOX_OFF = TENANT_OFF.replace("the Tenant", "the Mailbox")
BASIC_OFF = f"535 5.7.139 Authentication unsuccessful, basic authentication is disabled. [{_SERVER}]"

# Stages in the order a client meets them. `body` is in the midst of the message's text, `message` is after the final dot with nothing stored, `stored` after storing.
STAGES = ("connect", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "body", "message", "stored", "rset", "quit")

# What aiosmtpd says by itself, in Exchange's words.
WORDING = {
    "220 Ready to start TLS": "220 2.0.0 SMTP server ready",
    "221 Bye": "221 2.0.0 Service closing transmission channel",
    "250 OK": "250 2.0.0 OK",
    "354 End data with <CR><LF>.<CR><LF>": "354 Start mail input; end with <CRLF>.<CRLF>",
    "503 Error: need MAIL command": "503 5.5.2 Need mail command",
    "503 Error: need RCPT command": "503 5.5.2 Need rcpt command",
    "503 Error: send HELO first": "503 5.5.2 Send hello first",
    "503 Error: nested MAIL command": "503 5.5.2 Sender already specified",
    "503 Already authenticated": "503 5.5.2 Already authenticated",
    "552 Error: message size exceeds fixed maximum message size": "552 5.3.4 Message size exceeds fixed maximum message size",
    "552 Error: Too much mail data": "552 5.3.4 Message size exceeds fixed maximum message size",
}

_HOST = "[Hostname=AM0PR08MB0001.eurprd08.prod.outlook.com]"

NAMED: dict[str, tuple[str, str]] = {
    "auth-failed": ("auth", BAD),
    "tenant-off": ("auth", TENANT_OFF),
    "mailbox-off": ("auth", MAILBOX_OFF),
    "security-defaults": (
        "auth",
        "535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy. Contact your administrator.",
    ),
    "criteria": (
        "auth",
        "535 5.7.139 Authentication unsuccessful, the request did not meet the criteria to be authenticated successfully. Contact your administrator.",
    ),
    "basic-off": ("auth", BASIC_OFF),
    "basic-retired": ("auth", "550 5.7.30 Basic authentication is not supported for Client Submission."),
    "auth-temporary": ("auth", "454 4.7.0 Temporary authentication failure"),
    "not-active": ("auth", "421 4.3.2 Service not active"),
    "connections": (
        "auth",
        "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending for more information.",
    ),
    "thread-limit": ("message", f"432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded {_HOST}"),
    "old-tls": (
        "auth",
        "421 4.7.66 TLS 1.0 and 1.1 are not supported. Please upgrade/update your client to support TLS 1.2. Visit https://aka.ms/smtp_auth_tls.",
    ),
    "dropped": ("mail", "421 4.4.2 Connection dropped due to SocketError"),
    "rate": ("message", "421 4.4.2 Message submission rate for this client has exceeded the configured limit"),
    "not-authenticated": ("mail", "530 5.7.57 Client not authenticated to send mail."),
    "server-busy": ("mail", "451 4.7.500 Server busy. Please try again later. (S77719)"),
    "access-denied": ("mail", "451 4.7.699 Access denied, please try again later. (AS16700)"),
    "suspicious": ("mail", "451 4.7.850 Access denied, please try again later. (AS16750)"),
    "tenant-threshold": ("mail", "550 5.7.705 Access denied, tenant has exceeded threshold"),
    "bad-ip": ("mail", "550 5.7.708 Access denied, traffic not accepted from this IP"),
    "unregistered": ("mail", "550 5.7.750 Service unavailable. Client blocked from sending from unregistered domains"),
    "send-as-denied": (
        "message",
        f"554 5.2.252 SendAsDenied; gateway@contoso.example not allowed to send as other@contoso.example; STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; Failed to process message due to a permanent exception {_HOST}",
    ),
    "send-as-denied-old": (
        "message",
        f"554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; Failed to process message due to a permanent exception {_HOST}",
    ),
    "no-permission": ("mail", "550 5.7.60 SMTP; Client does not have permissions to send as this sender"),
    "quota": (
        "message",
        f"554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed to process message due to a permanent exception {_HOST}",
    ),
    "mailbox-full": (
        "message",
        f"554 5.2.2 STOREDRV.Submission.Exception:QuotaExceededException.MapiExceptionShutoffQuotaExceeded {_HOST}",
    ),
    "too-large": ("message", "552 5.3.4 Message size exceeds fixed maximum message size"),
    "bad-outbound": ("message", "550 5.1.8 Access denied, bad outbound sender"),
    "throttled-full": ("mail", "550 5.2.251 Sender throttled due to continuous mailbox full errors"),
    "throttled-send-as": ("mail", "550 5.2.252 Sender throttled due to continuous send as denied errors"),
    "throttled-licence": ("mail", "550 5.2.253 Sender throttled due to continuous invalid license errors"),
    "throttled-recipients": ("mail", "550 5.2.254 Sender throttled due to continuous too many recipients errors"),
    "throttled-invalid": ("mail", "550 5.2.255 Sender throttled due to continuous invalid recipients errors"),
    "unknown-recipient": ("rcpt", "550 5.1.1 User unknown"),
    "recipient-denied": ("rcpt", "550 5.4.1 Recipient address rejected: Access denied"),
    "too-many-recipients": ("rcpt", "452 4.5.3 Too many recipients"),
}
