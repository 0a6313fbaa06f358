"""Faults below HTTP and SMTP: name resolution, connection, TLS."""

from __future__ import annotations

from notifyd.core.problem import Source
from notifyd.core.problem_table import GATEWAY, NOBODY, Row

RETRY = "Retried with back-off, and at once when the WAN comes back."
_NET, _TLS = Source.NETWORK, Source.TLS
_EVENT = "token.refresh_failed"

ROWS: tuple[Row, ...] = (
    Row("network.dns", "The server's name cannot be resolved",
        "Nothing, if the WAN is down just now. Otherwise check the DNS servers of the gateway (Configuration > "
        "System > "
        "DNS).", NOBODY, _NET, _EVENT, RETRY),
    Row("network.network", "The server cannot be reached",
        "Nothing, if the WAN is down just now. Otherwise check that the gateway itself may reach the server: TCP 443 "
        "to "
        "Microsoft's login host, TCP 587 to the mail server.", NOBODY, _NET, _EVENT, RETRY),
    Row("network.refused", "The server refuses the connection",
        "Check the fields Mail server and Port (Microsoft 365: smtp.office365.com, 587; port 465 is not supported "
        "there).",
        NOBODY, _NET, _EVENT, RETRY),
    Row("network.reset", "The connection broke off in the middle",
        "Nothing, if it happens now and then. If it lasts, a firewall or proxy on the way is closing it.",
        NOBODY, _NET, _EVENT, RETRY),
    Row("network.timeout", "The server did not answer in time",
        "Nothing, if it happens now and then. If it lasts, something on the way drops TCP 443 (login) or TCP 587 "
        "(mail); "
        "many providers block port 25.", NOBODY, _NET, _EVENT, RETRY),
    Row("network.malformed", "The answer was not what this server gives",
        "A captive portal, proxy or filter is probably answering in its place: open the WAN provider's page, or exempt "
        "the login host from filtering.", NOBODY, _NET, _EVENT, RETRY),
    Row("tls.tls", "The server's certificate cannot be trusted",
        "Something on the way may be opening TLS (inspection): exempt Microsoft's hosts. With a mail server of your "
        "own, "
        "give its CA in a file of clouds.d.", GATEWAY, _TLS, _EVENT, RETRY),
    Row("tls.name", "The certificate belongs to another name",
        "Enter the server's DNS name, not its address, in the field Mail server.", GATEWAY, _TLS, _EVENT, RETRY),
    Row("tls.starttls-missing", "The mail server offers no STARTTLS",
        "The token is not sent in clear. Check Mail server and Port; a firewall with an SMTP inspection (ALG) may "
        "strip "
        "STARTTLS: switch it off for this traffic.", GATEWAY, _TLS, "mail.held", "Mail is held; the login is checked "
        "again."),
    Row("tls.version", "The server and the gateway share no TLS version",
        "TLS 1.2 or newer is needed on both sides.", GATEWAY, _TLS, _EVENT, RETRY),
)  # fmt: skip
