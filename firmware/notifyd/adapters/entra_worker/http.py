"""The transport under MSAL: one requests session with deadlines, a body limit and a memory of the last answer."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import certifi
import requests
import urllib3.exceptions

from notifyd.adapters.entra_worker import answers
from notifyd.adapters.entra_worker.faults import OperationFailed, malformed
from notifyd.core.events import Failure, FailureKind

CONNECT_TIMEOUT_S = 10.0
MAX_BODY = 1024 * 1024
CHUNK = 64 * 1024
SELF_EXPLAINING = frozenset({408, 425, 429})
SYSTEM_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")

X509_NOT_YET_VALID, X509_EXPIRED = 9, 10
"""OpenSSL's verify codes for a certificate outside its time, which is what a wrong clock looks like."""


class Answer:
    """What MSAL needs of a response: a status, headers in lower case, and a text that is sound JSON."""

    def __init__(self, status_code: int, headers: Mapping[str, str], document: Mapping[str, Any]) -> None:
        self.status_code = status_code
        self.headers = headers
        self.text = json.dumps(document)

    def raise_for_status(self) -> None:
        """Never needed: an answer of 500 or more is raised as OperationFailed before MSAL sees it."""


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """A token answer as it was received and cleaned; MSAL's own result loses parts of it."""

    document: Mapping[str, Any]
    headers: Mapping[str, str]


class Transport:
    """MSAL's `http_client`. Everything that goes wrong is raised as OperationFailed.

    ca_file: the only trusted roots when given; the system's otherwise. deadline: on the monotonic clock, for all
    requests together. hidden: fields of a token answer that MSAL must not see, because it would fail on bad ones.
    Nothing is taken from the environment (proxies, netrc, CA bundles).
    """

    def __init__(self, ca_file: str, deadline: float) -> None:
        self._deadline = deadline
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = ca_file or _system_roots()
        self.hidden: frozenset[str] = frozenset()
        self.tokens: TokenAnswer | None = None
        self.issuer = ""

    def get(self, url: str, params: Any = None, headers: Any = None, **_options: Any) -> Answer:
        """Discovery. An error answer is a failure at once: MSAL would turn it into a ValueError without its code."""
        status, reply_headers, body = self._exchange("GET", url, params=params, headers=headers)
        document = _success(status, reply_headers, body)
        issuer = document.get("issuer")
        self.issuer = issuer if isinstance(issuer, str) else ""
        return Answer(status, reply_headers, document)

    def post(self, url: str, params: Any = None, data: Any = None, headers: Any = None, **_options: Any) -> Answer:
        """A token request."""
        status, reply_headers, body = self._exchange("POST", url, params=params, data=data, headers=headers)
        document = answers.clean_tokens(_success(status, reply_headers, body), status)
        self.tokens = TokenAnswer(document, reply_headers)
        shown = {name: value for name, value in document.items() if name not in self.hidden}
        return Answer(status, reply_headers, shown)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _exchange(self, method: str, url: str, **arguments: Any) -> tuple[int, Mapping[str, str], bytes]:
        try:
            remaining = self._remaining()
            response = self._session.request(
                method,
                url,
                timeout=(min(CONNECT_TIMEOUT_S, remaining), remaining),
                allow_redirects=False,
                stream=True,
                **arguments,
            )
            with response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                return response.status_code, headers, self._read(response)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise OperationFailed(_network_failure(error)) from None
        except UnicodeError:
            raise malformed("bad_address", "the address or a field cannot be encoded") from None

    def _read(self, response: requests.Response) -> bytes:
        body = bytearray()
        # read1 gives what there is: waiting for a full chunk would let a byte a second outlast the deadline.
        while chunk := response.raw.read1(CHUNK, decode_content=True):
            body += chunk
            if len(body) > MAX_BODY:
                raise malformed("too_long", f"the answer is longer than {MAX_BODY} bytes", response.status_code)
            self._remaining()
        return bytes(body)

    def _remaining(self) -> float:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise requests.Timeout("deadline")
        return remaining


def _success(status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """The JSON object of a good answer. Raises OperationFailed for every other answer.

    An error answer that is not JSON comes from something in between (a captive portal, a proxy) unless its status says
    by itself what to do.
    """
    try:
        document = answers.read_json(body, status)
    except OperationFailed:
        if status not in SELF_EXPLAINING and status < requests.codes.internal_server_error:
            raise
        document = {}
    if status != requests.codes.ok or document.get("error"):
        raise OperationFailed(answers.http_failure(status, headers, document, time.time()))
    return document


def _system_roots() -> str:
    """The system's roots; on a workstation without them, those that come with requests."""
    return str(SYSTEM_BUNDLE) if SYSTEM_BUNDLE.is_file() else certifi.where()


KINDS: tuple[tuple[FailureKind, Callable[[BaseException], bool]], ...] = (
    (FailureKind.DNS, lambda link: isinstance(link, socket.gaierror)),
    (FailureKind.TLS, lambda link: isinstance(link, ssl.SSLError)),
    (FailureKind.TIMEOUT, lambda link: isinstance(link, TimeoutError)),
    # The system's own errors before urllib3's, whose refused connection is a kind of timeout.
    (FailureKind.NETWORK, lambda link: isinstance(link, OSError) and link.errno is not None),
    (FailureKind.TIMEOUT, lambda link: isinstance(link, requests.Timeout | urllib3.exceptions.TimeoutError)),
)


def _network_failure(error: BaseException) -> Failure:
    """Where a request ended, from the chain of exceptions under it. Their texts name hosts and ports, never fields."""
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, ssl.SSLCertVerificationError):
            in_time = link.verify_code not in (X509_NOT_YET_VALID, X509_EXPIRED)
            kind = FailureKind.TLS if in_time else FailureKind.TLS_TIME
            return Failure(kind=kind, error="certificate", description=link.verify_message)
    for kind, fits in KINDS:
        found = next((link for link in chain if fits(link)), None)
        if found is not None:
            return Failure(kind=kind, error=type(found).__name__, description=_reason(chain))
    return Failure(kind=FailureKind.NETWORK, error=type(chain[-1]).__name__, description=_reason(chain))


def _reason(chain: list[BaseException]) -> str:
    return next((link.strerror for link in reversed(chain) if isinstance(link, OSError) and link.strerror), "")


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    queue: list[object] = [error]
    while queue:
        link = queue.pop(0)
        if not isinstance(link, BaseException) or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        queue += [getattr(link, "reason", None), link.__cause__, link.__context__, *link.args]
