"""What Microsoft's AADSTS numbers mean (facts: Microsoft's reference of error codes, read in full; remedies are ours).

Numbers choose words only. Letters of the first column: T passes by itself, R the sender signs in again, A the tenant's
administrator acts, C a field here or the app registration is wrong, S a new secret is needed, B a defect of notifyd.
Second column: where it is seen. p: on Microsoft's own page, so it may never reach the gateway; r: on the redirect;
t: at the token endpoint.
"""

from __future__ import annotations

from notifyd.core.problem import Actor, Source
from notifyd.core.problem_table import GATEWAY, NOBODY, TENANT, Row
from notifyd.core.problem_table.oauth import ERRORS

__all__ = ["ERRORS", "ROWS", "numbers"]

_APP = "Entra > App registrations > the app"
_ENTERPRISE = "Entra > Enterprise applications > the app"
_LOGS = "Entra > Monitoring > Sign-in logs of the sender"
_CA = "Entra > Protection > Conditional Access"
_TENANT_FIELD = "Check the field Tenant ID (Entra > Overview > Tenant ID)"
_SIGN_IN = "Press Get New Token and sign in as the sender"
_DEFECT = "Update the firmware; if it stays, report it with a support bundle."
_WAIT = "Nothing: it is tried again by itself."
_DEVICE_RULE = f"{_CA}: exempt the sender (or the app) from rules about devices; a gateway cannot be a managed device."
_MFA = f"{_SIGN_IN}, and complete the second factor."

_ACTORS: dict[str, Actor] = {"T": NOBODY, "R": GATEWAY, "A": TENANT, "C": GATEWAY, "S": GATEWAY, "B": GATEWAY}
_DOES = {
    "T": "Retried with back-off; what is held stays.",
    "R": "The grant is kept; tried three more times, then every 6 hours; mail is held once the access token has ended.",
    "A": "The grant is kept; tried again by its class (docs: answer classes); mail is held once the token has ended.",
    "C": "The grant is kept; tried again once an hour, and at once after Apply.",
    "S": "The grant is kept; tried again once an hour, and at once with a new secret: no sign-in is needed.",
    "B": "The grant is kept; tried again once an hour.",
}


def _row(kind: str, where: str, codes: str, title: str, remedy: str) -> Row:
    code = " ".join(f"AADSTS{number}" for number in codes.split())
    event = "token.refresh_failed" if "t" in where else "signin.failed"
    return Row(code, title, remedy, _ACTORS[kind], Source.ENTRA, event, _DOES[kind])


def numbers(row: Row) -> tuple[int, ...]:
    """The AADSTS numbers that a row stands for."""
    return tuple(int(word.removeprefix("AADSTS")) for word in row.code.split())


_TENANT_AND_CLOUD = (
    _row("C", "pt", "90002", "The tenant is not known in this cloud",
         f"{_TENANT_FIELD} and the field Cloud (worldwide, US Government or China)."),
    _row("C", "pt", "900023", "The tenant ID is neither an ID nor a domain",
         f"{_TENANT_FIELD}: paste it again, without blanks around it."),
    _row("C", "p", "90038", "The tenant belongs to another national cloud",
         "Choose that cloud in the field Cloud; the app must be registered in that cloud's portal."),
    _row("C", "p", "900439", "A US Government account signs in at the worldwide cloud",
         "Choose US Government in the field Cloud; the app must be registered at portal.azure.us."),
    _row("C", "t", "900382 900432", "App, tenant and cloud do not belong together",
         "The field Cloud, the Tenant ID and the app registration must all be of one cloud."),
    _row("C", "p", "50049", "The login host is not known to Microsoft",
         "Choose the cloud again in the field Cloud; if a file in clouds.d changes its authority, correct it."),
    _row("C", "pt", "50059 90019 50128", "No tenant can be told from the request",
         f"{_TENANT_FIELD} and press Apply."),
    _row("C", "p", "50194", "The app is for one tenant but was used without one",
         f"{_TENANT_FIELD}: it must be the tenant's ID, not common or organizations."),
    _row("C", "pt", "700016", "The app is not known in this tenant",
         "Check that the fields Client ID and Tenant ID come from the same app registration (Overview page)."),
    _row("C", "pt", "700011", "The app's identifier is not found in the tenant",
         "Check that the fields Client ID and Tenant ID come from the same app registration (Overview page)."),
    _row("A", "pt", "70001 7000112", "The app is disabled in the tenant",
         f"{_ENTERPRISE} > Properties: set Enabled for users to sign in to Yes."),
    _row("A", "p", "1000031", "The app cannot be used at present",
         f"{_ENTERPRISE} > Properties: see whether it is enabled; else ask Microsoft support."),
)  # fmt: skip

_REDIRECT = (
    _row("C", "p", "50011", "The redirect URI is not registered",
         f"{_APP} > Authentication: add exactly the redirect URI shown on Mail Server (name or address, port and "
         f"path, upper "
         "and lower case), as platform Web."),
    _row("C", "p", "500113", "The app has no redirect URI at all",
         f"{_APP} > Authentication: add the redirect URI shown on Mail Server, as platform Web."),
    _row("C", "p", "900971", "The request carried no redirect URI", "Press Apply, then Get New Token again."),
    _row("C", "t", "70004", "The redirect URI changed during the sign-in",
         "The gateway's name or address was changed in between: press Get New Token again."),
    _row("C", "t", "700005", "The tenant changed during the sign-in", "Press Get New Token again."),
    _row("C", "p", "90102", "The redirect URI is malformed",
         "Check the gateway's name (Configuration > System > Host Name), then press Get New Token again."),
)  # fmt: skip

_SECRET = (
    _row("S", "t", "7000215", "The client secret is wrong",
         f"{_APP} > Certificates & secrets: copy the secret's Value (not its Secret ID) into the field Client "
         f"secret. If the "
         "Value is no longer shown, create a new one. A fresh secret may need some minutes."),
    _row("S", "t", "7000222", "The client secret has expired",
         f"{_APP} > Certificates & secrets: create a new client secret, enter its Value in the field Client secret "
         f"and press "
         "Apply. No new sign-in is needed."),
    _row("S", "t", "70002", "The client secret does not match",
         f"{_APP} > Certificates & secrets: copy the secret's Value into the field Client secret and press Apply."),
    _row("C", "t", "7000218", "The request carried no client secret",
         "Enter the secret's Value in the field Client secret and press Apply."),
    _row("C", "t", "700025", "The app is registered as a public client",
         f"{_APP} > Authentication: the redirect URI must be of platform Web; set Allow public client flows to No."),
    _row("C", "t", "700024", "The signed proof of the app is outside its time",
         "Set the gateway's clock (System > Date/Time, NTP)."),
    _row("S", "t", "700027 700030 50012", "The app's certificate is refused",
         f"{_APP} > Certificates & secrets > Certificates: upload the certificate that the gateway shows; see its "
         f"end date."),
    _row("B", "t", "50048", "The signed proof names the wrong app", _DEFECT),
)  # fmt: skip

_SCOPE_AND_CONSENT = (
    _row("C", "pt", "70011", "The requested permission is invalid",
         "Choose the cloud again in the field Cloud; if a file in clouds.d sets the scope, correct it."),
    _row("B", "t", "28002 28003 700023", "The permission in the token request is invalid or empty", _DEFECT),
    _row("B", "t", "700022", "The request mixes permissions of several services", _DEFECT),
    _row("B", "pt", "901002", "The request uses a parameter that is no longer supported", _DEFECT),
    _row("R", "prt", "65001", "The app has no consent for these permissions",
         f"{_SIGN_IN} and accept the permissions; where users may not, a tenant administrator grants admin consent: "
         f"{_ENTERPRISE} > Permissions."),
    _row("R", "r", "65004", "The permissions were declined at sign-in", f"{_SIGN_IN} and accept the permissions."),
    _row("A", "pr", "90094", "Only an administrator may grant these permissions",
         f"A tenant administrator grants admin consent: {_ENTERPRISE} > Permissions. Then press Get New Token."),
    _row("A", "p", "90095", "Consent was requested and waits for an administrator",
         "A tenant administrator approves it: Entra > Enterprise applications > Admin consent requests. Then press "
         "Get New "
         "Token."),
    _row("C", "p", "90008", "The app lacks the permission to sign users in",
         f"{_APP} > API permissions: add Microsoft Graph > Delegated > User.Read, grant consent."),
    _row("C", "p", "650056", "The app's permissions are incomplete",
         f"{_APP} > API permissions: add the delegated permissions SMTP.Send and offline_access, grant consent."),
    _row("C", "pt", "650057", "The app has not declared the mail service",
         f"{_APP} > API permissions: add the delegated permissions SMTP.Send and offline_access, grant consent."),
    _row("C", "p", "65005 65006", "The app's list of permissions is wrong",
         f"{_APP} > API permissions: remove what is marked, add Microsoft Graph > Delegated > SMTP.Send and "
         f"offline_access."),
    _row("A", "p", "650052", "The organisation has no Exchange Online",
         "Microsoft 365 admin center > Billing: get a subscription with Exchange Online and assign it to the sender."),
    _row("C", "p", "650054", "The app asks for a permission that no longer exists",
         f"{_APP} > API permissions: remove the permission that is marked."),
    _row("A", "pt", "500011", "The mail service does not exist in this tenant",
         "Check that the tenant has Exchange Online, and the field Cloud."),
    _row("A", "t", "500014", "The mail service is switched off in this tenant",
         "Renew the subscription; Entra > Enterprise applications > Office 365 Exchange Online > Properties: enabled."),
    _row("A", "t", "50001", "The mail service is disabled or absent",
         "Check the Exchange Online subscription, and the field Cloud."),
)  # fmt: skip

_ACCOUNT = (
    _row("A", "p", "50105", "The account is not assigned to the app",
         f"{_ENTERPRISE} > Users and groups: add the sender; or Properties: set Assignment required to No."),
    _row("R", "p", "50020", "The account belongs to another organisation",
         f"{_SIGN_IN}; use a private window if the browser is signed in with another account."),
    _row("R", "p", "16000", "The signed-in account does not exist in this tenant",
         f"{_SIGN_IN}: sign out first, or choose Use another account."),
    _row("R", "p", "16003 51004 50034", "The account does not exist in this tenant",
         "Check the fields Sender and Tenant ID, then press Get New Token."),
    _row("R", "p", "90072", "A guest account cannot meet this tenant's rules", f"{_SIGN_IN}: a member account of the "
         f"tenant."),
    _row("R", "p", "500208", "This kind of account cannot be used (personal account)", f"{_SIGN_IN}: a work account."),
    _row("R", "p", "50126", "User name or password was wrong", f"{_SIGN_IN}."),
    _row("A", "p", "50053", "The account is locked, or its address has a bad reputation",
         f"Wait, or unblock it; the reason is in {_LOGS}."),
    _row("A", "p", "50055 50144", "The account's password has expired", "Set a new password for the sender, then "
        "sign in."),
    _row("A", "p", "50056", "The account has no password in the directory", "Set a password for the sender, then "
        "sign in."),
    _row("A", "pt", "50057", "The account is disabled",
         "Microsoft 365 admin center > Users > the sender: allow sign-in (shared mailboxes: sign in as a delegate)."),
    _row("B", "r", "50058", "Microsoft wanted a session and found none", f"{_SIGN_IN}."),
)  # fmt: skip

_POLICY = (
    _row("R", "pt", "50072 50079", "The account must register a second factor first",
         f"{_SIGN_IN}, and complete the registration of security info."),
    _row("R", "pt", "50074 50076", "Microsoft now wants a second factor", _MFA),
    _row("R", "t", "50078", "The second factor has expired", _MFA),
    _row("R", "p", "500121", "The second factor failed or was denied", _MFA),
    _row("R", "pt", "50158", "An external second factor was not met",
         f"{_MFA} If it cannot be met, exempt the sender: {_CA}."),
    _row("A", "pt", "50097 50129 53001", "A rule wants a registered device", _DEVICE_RULE),
    _row("A", "pt", "53000", "A rule wants a compliant device", _DEVICE_RULE),
    _row("A", "pt", "530003", "A rule wants a managed device", _DEVICE_RULE),
    _row("A", "pt", "53003", "Conditional Access blocks this",
         f"{_CA}: allow the sender, the app, or the gateway's public address (renewals come from the gateway, not "
         f"from your PC)."),
    _row("A", "pt", "530032", "A security policy of the tenant blocks this",
         f"{_CA}: allow the sender, the app, or the gateway's public address."),
    _row("A", "pt", "530035", "Security defaults block this",
         "Register a second factor for the sender (aka.ms/mfasetup), then press Get New Token."),
    _row("A", "pt", "53004 53011 50135", "Microsoft considers the account at risk",
         "Entra > Protection > Risky users: check the sender, reset its password, dismiss the risk. Then press Get "
         "New Token."),
    _row("A", "pt", "50131", "Conditional Access blocks this (device, location or suspicious activity)",
         f"The reason is in {_LOGS}."),
    _row("A", "p", "500021 500022", "A proxy restricts which tenants may be used",
         "Exempt the gateway or this tenant in the outbound proxy that adds tenant restrictions."),
    _row("A", "p", "500212 500213", "A cross-tenant rule forbids this", f"{_SIGN_IN}: an account of the app's own "
         f"tenant."),
)  # fmt: skip

_GRANT = (
    _row("R", "t", "50173", "The sign-in was revoked (password reset or sessions revoked)", f"{_SIGN_IN}."),
    _row("R", "t", "50132 50133", "The sign-in ended because the password changed or expired", f"{_SIGN_IN}."),
    _row("R", "pt", "50089", "The sign-in took too long", f"{_SIGN_IN}."),
    _row("R", "t", "70000", "The grant is not valid any more", f"{_SIGN_IN}."),
    _row("R", "t", "70008", "The code or the grant has expired", f"{_SIGN_IN}."),
    _row("R", "t", "700082", "The grant was unused for 90 days (the gateway was off or offline)", f"{_SIGN_IN}."),
    _row("R", "t", "70043", "The tenant's sign-in frequency ended the grant",
         f"{_SIGN_IN}. To keep it from coming back: {_CA} > the policy > Session: exempt the sender from sign-in "
         f"frequency."),
    _row("C", "t", "700084", "The redirect URI is registered as a single-page app: its grants end after a day",
         f"{_APP} > Authentication: remove it under Single-page application and add it under Web, then press Get New "
         f"Token."),
    _row("R", "t", "54005", "The code was used already",
         "Harmless after a reload or a double click: see Token Status. If it is not Valid, press Get New Token."),
    _row("R", "t", "501481", "The answer belongs to an older sign-in", f"{_SIGN_IN}, in one tab only."),
)  # fmt: skip

_DEFECTS = (
    _row("B", "p", "50147 501491", "The proof of the sign-in request has a wrong size", _DEFECT),
    _row("B", "pt", "9002313", "The request was malformed", f"Check the fields for stray characters, press Apply. "
         f"{_DEFECT}"),
    _row("B", "pt", "90014 900144", "The request lacks a field", f"Check that no field is empty, press Apply. "
         f"{_DEFECT}"),
    _row("B", "pt", "90013 90023 90100 90004", "The request has an invalid field",
         f"Check the fields for stray characters, press Apply. {_DEFECT}"),
    _row("B", "p", "90015", "The sign-in address is too long", _DEFECT),
    _row("T", "t", "90056 900561", "The token address was opened in a browser", "Nothing: the back button was used."),
    _row("B", "pt", "70003 70005 70007 700054", "The app may not use this way of signing in", _DEFECT),
    _row("C", "t", "1002016", "The connection uses an old TLS version",
         "Update the firmware (TLS 1.2 or newer), or remove a proxy on the way."),
)  # fmt: skip

_SERVICE = (
    _row("T", "t", "50196", "Microsoft slows this sign-in down (too many like requests)",
         "Nothing: it is tried again with growing pauses. If it lasts, another device uses the same app and account."),
    _row("T", "t", "90055", "Microsoft slows the whole tenant down", _WAIT),
    _row("T", "t", "90033 90006 90012 90024 90090", "Microsoft's directory is busy", _WAIT),
    _row("T", "pt", "50033 50087 40010 80005", "Microsoft's login had a passing fault", _WAIT),
    _row("T", "p", "50088", "Too many telephone verifications", "Wait some minutes, then press Get New Token."),
    _row("A", "pt", "90036 50000 50086", "Microsoft's login reports a fault of its own",
         "Open a ticket at Microsoft with the trace and correlation IDs shown."),
    _row("T", "p", "70012", "Microsoft's consumer login had a passing fault", _WAIT),
    _row("A", "p", "80001 80002 80007 80014", "The organisation's own login agents cannot be reached",
         "Check the pass-through authentication agents (Entra > Entra Connect)."),
    _row("A", "p", "80012 80013", "The organisation's own directory refuses the login (hours or clock)",
         "Check logon hours and time of the on-premises Active Directory."),
    _row("T", "p", "50140 50199 16001", "Microsoft's page asked something in between", "Continue on Microsoft's page."),
)  # fmt: skip

ROWS: tuple[Row, ...] = (
    *_TENANT_AND_CLOUD,
    *_REDIRECT,
    *_SECRET,
    *_SCOPE_AND_CONSENT,
    *_ACCOUNT,
    *_POLICY,
    *_GRANT,
    *_DEFECTS,
    *_SERVICE,
)
