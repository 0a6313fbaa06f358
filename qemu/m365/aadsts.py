"""Every AADSTS number the simulator can answer with: HTTP status, `error`, `suberror`, text and where it shows.

`where` holds letters: `p` Microsoft's own page (the redirect URI hears nothing), `r` the redirect,
`t` the token endpoint. Texts are Entra's in short form; clients must not parse them.
"""

# ruff: noqa: E501 - one row of the table is one line, however long its text

from __future__ import annotations

from dataclasses import dataclass

INVALID_GRANT, INVALID_CLIENT, INVALID_REQUEST = "invalid_grant", "invalid_client", "invalid_request"
INTERACTION, UNAUTHORIZED, UNAVAILABLE = "interaction_required", "unauthorized_client", "temporarily_unavailable"
INVALID_SCOPE, INVALID_RESOURCE, SERVER_ERROR = "invalid_scope", "invalid_resource", "server_error"
ACCESS_DENIED, CONSENT, LOGIN = "access_denied", "consent_required", "login_required"

_STATUS = {INVALID_CLIENT: 401, UNAVAILABLE: 503, SERVER_ERROR: 500}


# What texts name when nobody says better (a fault on order has no real cause).
_USUAL = {
    "tenant": "11111111-2222-4333-8444-555555555555",
    "app": "66666666-7777-4888-9999-aaaaaaaaaaaa",
    "name": "Contoso gateway",
    "user": "gateway@contoso.example",
    "uri": "https://127.0.0.1/cgi-bin/msoauth2.cgi",
    "resource": "https://outlook.office.com",
    "scope": "SMTP.Send",
    "parameter": "grant_type",
    "grant": "password",
    "reason": "Request is malformed or invalid",
    "now": "2026-01-01T00:00:00Z",
    "start": "2020-01-01T00:00:00Z",
    "end": "2020-01-01T00:10:00Z",
}


@dataclass(frozen=True)
class Fault:
    """One numbered failure. `text` has places for what it is about."""

    number: int
    where: str
    error: str
    text: str
    suberror: str = ""
    status: int = 400

    def words(self, **about: object) -> str:
        """The text with its places filled."""
        return self.text.format_map({**_USUAL, **about})


def _fault(number: int, where: str, error: str, text: str, suberror: str = "", status: int = 0) -> Fault:
    return Fault(number, where, error, text, suberror, status or _STATUS.get(error, 400))


# fmt: off
_TENANT_AND_APP = [
    _fault(90002, "pt", INVALID_REQUEST, "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant."),
    _fault(900023, "pt", INVALID_REQUEST, "Specified tenant identifier is neither a valid DNS name, nor a valid external domain."),
    _fault(90038, "p", INVALID_REQUEST, "The tenant belongs to another national cloud instance."),
    _fault(900439, "p", INVALID_REQUEST, "USGClientNotSupportedOnPublicEndpoint - the user is a US government user."),
    _fault(900382, "t", INVALID_REQUEST, "Confidential Client is not supported in Cross Cloud request."),
    _fault(900432, "t", INVALID_REQUEST, "Confidential Client is not supported in Cross Cloud request."),
    _fault(50049, "p", INVALID_REQUEST, "Unknown or invalid instance."),
    _fault(50059, "pt", INVALID_REQUEST, "No tenant-identifying information found in either the request or implied by any provided credentials."),
    _fault(90019, "pt", INVALID_REQUEST, "No tenant-identifying information found in either the request or implied by any provided credentials."),
    _fault(50128, "pt", INVALID_REQUEST, "Invalid domain name - no tenant-identifying information found."),
    _fault(50194, "p", INVALID_REQUEST, "Application '{app}'({name}) is not configured as a multi-tenant application. Usage of the /common endpoint is not supported for such apps created after '10/15/2018'. Use a tenant-specific endpoint or configure the application to be multi-tenant."),
    _fault(700016, "pt", UNAUTHORIZED, "Application with identifier '{app}' was not found in the directory 'Contoso'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant."),
    _fault(700011, "pt", UNAUTHORIZED, "Application with the given identifier was not found in the organizational directory."),
    _fault(70001, "pt", UNAUTHORIZED, "The application is disabled."),
    _fault(7000112, "pt", UNAUTHORIZED, "Application '{app}'({name}) is disabled."),
    _fault(50011, "p", INVALID_REQUEST, "The redirect URI '{uri}' specified in the request does not match the redirect URIs configured for the application '{app}'. Make sure the redirect URI sent in the request matches one added to your application in the Azure portal."),
    _fault(500113, "p", INVALID_REQUEST, "No reply address is registered for the application."),
    _fault(900971, "p", INVALID_REQUEST, "No reply address provided."),
    _fault(70004, "t", INVALID_REQUEST, "The redirect_uri of the token request differs from that of the authorization request."),
    _fault(700005, "t", INVALID_GRANT, "The provided authorization code is intended to be used against another tenant."),
    _fault(90102, "p", INVALID_REQUEST, "A parameter value must be a valid absolute URI."),
]
_CREDENTIALS = [
    _fault(7000215, "t", INVALID_CLIENT, "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{app}'."),
    _fault(7000222, "t", INVALID_CLIENT, "The provided client secret keys for app '{app}' are expired. Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: https://aka.ms/certCreds."),
    _fault(70002, "t", INVALID_CLIENT, "Error validating credentials. The specified client_secret does not match the expected value for this client."),
    _fault(7000218, "t", INVALID_CLIENT, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."),
    _fault(700025, "t", INVALID_CLIENT, "Client is public so neither 'client_assertion' nor 'client_secret' should be presented."),
    _fault(700024, "t", INVALID_CLIENT, "Client assertion is not within its valid time range. Current time: {now}, assertion valid from {start}, expiry time of assertion {end}."),
    _fault(700027, "t", INVALID_CLIENT, "The certificate with identifier used to sign the client assertion is not registered on application. [Reason - {reason}]"),
    _fault(700030, "t", INVALID_CLIENT, "Invalid certificate - subject name in certificate isn't authorized."),
    _fault(50012, "t", INVALID_CLIENT, "Authentication failed: {reason}."),
    _fault(50048, "t", INVALID_CLIENT, "Subject must match issuer claim in the client assertion."),
]
_SCOPES = [
    _fault(70011, "pt", INVALID_SCOPE, "The provided value for the input parameter 'scope' is not valid. The scope {scope} is not valid."),
    _fault(28002, "t", INVALID_SCOPE, "Provided value for the input parameter scope is not valid when requesting an access token."),
    _fault(28003, "t", INVALID_SCOPE, "Provided value for the input parameter scope can't be empty when requesting an access token using the provided authorization code."),
    _fault(700023, "t", INVALID_SCOPE, "The scope is not valid: no scope was given for the resource."),
    _fault(700022, "t", INVALID_SCOPE, "The provided value for the input parameter scope isn't valid because it contains more than one resource."),
    _fault(901002, "pt", INVALID_REQUEST, "The 'resource' request parameter is not supported."),
]
_CONSENT = [
    _fault(65001, "prt", INVALID_GRANT, "The user or administrator has not consented to use the application with ID '{app}' named '{name}'. Send an interactive authorization request for this user and resource.", "consent_required"),
    _fault(65004, "r", ACCESS_DENIED, "User declined to consent to access the app."),
    _fault(90094, "pr", CONSENT, "Admin consent is required for the permissions requested by this application."),
    _fault(90095, "p", CONSENT, "Admin consent is required: the request was sent to an administrator for approval."),
    _fault(90008, "p", INVALID_REQUEST, "The user or administrator hasn't consented to use the application: it must at least require sign-in and read user profile."),
    _fault(650056, "p", INVALID_REQUEST, "Misconfigured application: the client has not listed any permissions in its requested permissions, or consent is missing."),
    _fault(650057, "pt", INVALID_RESOURCE, "Invalid resource. The client has requested access to a resource which is not listed in the requested permissions in the client's application registration."),
    _fault(65005, "p", INVALID_RESOURCE, "The application required resource access list does not contain applications discoverable by the resource."),
    _fault(65006, "p", INVALID_RESOURCE, "The application is requesting a permission that is invalid or out of date."),
    _fault(650052, "p", INVALID_RESOURCE, "The app needs access to a service that your organization has not subscribed to or enabled."),
    _fault(650054, "p", INVALID_RESOURCE, "The application asked for permissions to access a resource that has been removed or is no longer available."),
    _fault(500011, "pt", INVALID_RESOURCE, "The resource principal named {resource} was not found in the tenant named Contoso. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant."),
    _fault(500014, "t", INVALID_RESOURCE, "The service principal for the resource is disabled. A subscription within the tenant has lapsed, or the administrator has disabled it."),
    _fault(50001, "t", INVALID_RESOURCE, "The resource is disabled or does not exist."),
]
_ACCOUNTS = [
    _fault(50105, "p", INTERACTION, "Your administrator has configured the application {name} ('{app}') to block users unless they are specifically granted ('assigned') access to the application. The signed in user '{user}' is blocked because they are not a direct member of a group with access, nor had access directly assigned by an administrator."),
    _fault(50020, "p", INVALID_GRANT, "User account '{user}' from identity provider 'https://sts.windows.net/' does not exist in tenant 'Contoso' and cannot access the application '{app}'({name}) in that tenant. The account needs to be added as an external user in the tenant first."),
    _fault(16000, "p", INTERACTION, "The selected user account does not exist in the tenant and cannot access the application."),
    _fault(16003, "p", INTERACTION, "The user has not been explicitly added to the tenant."),
    _fault(51004, "p", INVALID_GRANT, "The user account does not exist in the directory."),
    _fault(50034, "pt", INVALID_GRANT, "The user account {user} does not exist in the directory. To sign into this application, the account must be added to the directory."),
    _fault(90072, "p", INVALID_GRANT, "The external account cannot satisfy this tenant's requirements: it must be added as an external user first."),
    _fault(500208, "p", INVALID_GRANT, "The domain is not a valid login domain for the account type."),
    _fault(50126, "p", INVALID_GRANT, "Error validating credentials due to invalid username or password."),
    _fault(50053, "pt", INVALID_GRANT, "The account is locked: too many sign-ins with an incorrect user ID or password, or from an IP address with malicious activity."),
    _fault(50055, "pt", INVALID_GRANT, "The password is expired.", "user_password_expired"),
    _fault(50144, "p", INVALID_GRANT, "The user's Active Directory password has expired."),
    _fault(50056, "p", INVALID_GRANT, "Invalid or null password: the password does not exist in the directory for this user."),
    _fault(50057, "pt", INVALID_GRANT, "The user account is disabled."),
    _fault(50058, "r", LOGIN, "A silent sign-in request was sent but no user is signed in."),
]
_POLICY = [
    _fault(50072, "rpt", INTERACTION, "Due to a configuration change made by your administrator, or because you moved to a new location, you must enroll in multi-factor authentication.", "basic_action"),
    _fault(50079, "rpt", INTERACTION, "Due to a configuration change made by your administrator, you must enroll in multi-factor authentication.", "basic_action"),
    _fault(50074, "rpt", INTERACTION, "Strong authentication is required and the user did not pass the challenge.", "basic_action"),
    _fault(50076, "rpt", INTERACTION, "Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication.", "basic_action"),
    _fault(50078, "t", INTERACTION, "Presented multi-factor authentication has expired due to policies configured by your administrator.", "basic_action"),
    _fault(500121, "p", INTERACTION, "Authentication failed during strong authentication request."),
    _fault(50158, "pt", INTERACTION, "External security challenge was not satisfied.", "basic_action"),
    _fault(50097, "pt", INTERACTION, "Device authentication is required.", "basic_action"),
    _fault(50129, "pt", INTERACTION, "Device is not workplace joined. Workplace join is required to register the device.", "message_only"),
    _fault(53001, "pt", INTERACTION, "Device is not in required device state: domain joined.", "message_only"),
    _fault(53000, "pt", INVALID_GRANT, "Device is not in required device state: compliant.", "message_only"),
    _fault(530003, "pt", INVALID_GRANT, "Your device is required to be managed to access this resource.", "message_only"),
    _fault(53003, "pt", INVALID_GRANT, "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.", "message_only"),
    _fault(530032, "pt", INVALID_GRANT, "Blocked by security policy of the tenant administrator.", "message_only"),
    _fault(530035, "pt", INVALID_GRANT, "Access has been blocked by security defaults.", "message_only"),
    _fault(53004, "pt", INTERACTION, "User needs to complete multi-factor authentication registration, but it is blocked due to suspicious activity.", "message_only"),
    _fault(53011, "pt", INVALID_GRANT, "User blocked due to risk on home tenant.", "message_only"),
    _fault(50135, "pt", INTERACTION, "Password change is required due to account risk.", "basic_action"),
    _fault(50131, "pt", INVALID_GRANT, "Device is not in required device state, or the request was blocked due to suspicious activity, access policy or security policy decisions.", "message_only"),
    _fault(500021, "p", INTERACTION, "Access to this tenant is denied by tenant restrictions."),
    _fault(500022, "p", INTERACTION, "Access to this tenant is denied by tenant restrictions."),
    _fault(500212, "p", INTERACTION, "The user's administrator has set an outbound access policy that does not allow access to the resource tenant."),
    _fault(500213, "p", INTERACTION, "The resource tenant's cross-tenant access policy does not allow this user to access this tenant."),
]
_GRANTS = [
    _fault(50173, "t", INVALID_GRANT, "The provided grant has expired due to it being revoked, a fresh auth token is needed.", "bad_token"),
    _fault(50132, "t", INVALID_GRANT, "The session is not valid due to a password expiration or recent password change.", "bad_token"),
    _fault(50133, "t", INVALID_GRANT, "The session is not valid due to a password expiration or recent password change.", "bad_token"),
    _fault(50089, "pt", INVALID_GRANT, "Authentication failed due to flow token expired."),
    _fault(70000, "t", INVALID_GRANT, "Provided grant is invalid or malformed.", "bad_token"),
    _fault(70008, "t", INVALID_GRANT, "The provided authorization code or refresh token has expired due to inactivity. Send a new interactive authorization request for this user and resource.", "token_expired"),
    _fault(700082, "t", INVALID_GRANT, "The refresh token has expired due to inactivity. The token was inactive for 90.00:00:00.", "token_expired"),
    _fault(70043, "t", INVALID_GRANT, "The refresh token has expired or is invalid due to sign-in frequency checks by Conditional Access.", "token_expired"),
    _fault(700084, "t", INVALID_GRANT, "The refresh token was issued to a single page app (SPA), and therefore has a fixed, limited lifetime of 1.00:00:00, which cannot be extended.", "token_expired"),
    _fault(54005, "t", INVALID_GRANT, "OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an existing refresh token."),
    _fault(501481, "t", INVALID_GRANT, "The code_verifier does not match the code_challenge supplied in the authorization request."),
]
_MALFORMED = [
    _fault(50147, "p", INVALID_REQUEST, "Invalid size of Code_Challenge parameter."),
    _fault(501491, "p", INVALID_REQUEST, "Invalid size of Code_Challenge parameter."),
    _fault(9002313, "pt", INVALID_REQUEST, "Invalid request. {reason}."),
    _fault(90014, "pt", INVALID_REQUEST, "The required field is missing from the credential. Ensure that you have all the necessary parameters for the login request."),
    _fault(900144, "pt", INVALID_REQUEST, "The request body must contain the following parameter: '{parameter}'."),
    _fault(90013, "pt", INVALID_REQUEST, "Invalid input received from the user."),
    _fault(90023, "pt", INVALID_REQUEST, "The authentication service request is not valid."),
    _fault(90100, "pt", INVALID_REQUEST, "A request parameter is empty or not valid."),
    _fault(90004, "pt", INVALID_REQUEST, "The request is not properly formatted."),
    _fault(90015, "p", INVALID_REQUEST, "The query string is too long."),
    _fault(90056, "t", INVALID_REQUEST, "The token endpoint only accepts POST requests with a valid body."),
    _fault(900561, "t", INVALID_REQUEST, "The endpoint only accepts POST requests. Received a GET request."),
    _fault(70003, "pt", "unsupported_grant_type", "The app requested an unsupported grant type '{grant}'."),
    _fault(70005, "pt", "unsupported_response_type", "The app returned an unsupported response type."),
    _fault(70007, "pt", INVALID_REQUEST, "The app returned an unsupported value of response_mode when requesting a token."),
    _fault(700054, "pt", "unsupported_response_type", "Response_type 'id_token' is not enabled for the application."),
]
_SERVICE = [
    _fault(50196, "t", INVALID_GRANT, "The server terminated an operation because it encountered a client request loop. Please contact your app vendor."),
    _fault(90055, "t", UNAVAILABLE, "Tenant throttling error: there are too many incoming requests.", status=429),
    _fault(90033, "t", UNAVAILABLE, "A transient error has occurred. Please try again."),
    _fault(90006, "t", UNAVAILABLE, "The service is temporarily unavailable. Try again."),
    _fault(90012, "t", UNAVAILABLE, "Request timed out."),
    _fault(90024, "t", UNAVAILABLE, "Request budget exceeded error. A transient error has occurred."),
    _fault(90090, "t", UNAVAILABLE, "The directory service encountered an error. Try again."),
    _fault(50033, "pt", UNAVAILABLE, "Retryable error: a transient error not related to the request."),
    _fault(50087, "pt", UNAVAILABLE, "A transient error has occurred during single sign-out. Try again."),
    _fault(40010, "pt", UNAVAILABLE, "Retryable error in an external identity provider."),
    _fault(80005, "pt", UNAVAILABLE, "An unpredictable authentication agent error: retry the request."),
    _fault(50088, "p", UNAVAILABLE, "Limit on telecom multi-factor authentication calls reached. Please try again in a few minutes.", status=400),
    _fault(90036, "pt", SERVER_ERROR, "An unexpected, non-retryable error stemming from the directory service has occurred."),
    _fault(50000, "pt", SERVER_ERROR, "There was an error issuing a token or an issue with our sign-in service."),
    _fault(50086, "pt", SERVER_ERROR, "Sign-out and sign-in have failed with a service error."),
    _fault(70012, "p", SERVER_ERROR, "A server error occurred while authenticating a Microsoft account (consumer) user. Try again."),
    _fault(80001, "p", SERVER_ERROR, "Unable to connect to Active Directory: the authentication agent cannot reach it."),
    _fault(80002, "p", SERVER_ERROR, "The authentication agent's request to Active Directory timed out."),
    _fault(80007, "p", SERVER_ERROR, "The authentication agent is unable to validate the user's password."),
    _fault(80014, "p", SERVER_ERROR, "The validation request responded after the maximum elapsed time was exceeded."),
    _fault(80012, "p", INVALID_GRANT, "The user attempted to sign in to a device outside the allowed hours."),
    _fault(80013, "p", INVALID_GRANT, "The authentication attempt could not be completed due to time skew between the authentication agent and Active Directory."),
    _fault(50140, "p", INTERACTION, "This error occurred due to 'Keep me signed in' interrupt when the user was signing-in."),
    _fault(50199, "p", INTERACTION, "For security reasons, user confirmation is required for this request."),
    _fault(16001, "p", INTERACTION, "User account selection is not valid: select a tile again."),
    _fault(1002016, "t", INVALID_REQUEST, "You are using TLS version 1.0, 1.1 and/or 3DES cipher which are deprecated."),
    _fault(1000031, "p", UNAUTHORIZED, "Application cannot be accessed at this time. Contact your administrator."),
]
# fmt: on

FAULTS: dict[int, Fault] = {
    fault.number: fault
    for group in (
        _TENANT_AND_APP,
        _CREDENTIALS,
        _SCOPES,
        _CONSENT,
        _ACCOUNTS,
        _POLICY,
        _GRANTS,
        _MALFORMED,
        _SERVICE,
    )
    for fault in group
}


def fault_for(number: int) -> Fault:
    """The fault of that number; a number not in the table behaves as an unknown invalid_grant of the token endpoint."""
    return FAULTS.get(number) or Fault(number, "prt", INVALID_GRANT, "An error this table does not know.")
