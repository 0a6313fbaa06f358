"""`POST /api/v1/diagnose`: every step between here and the mailbox, each with a verdict, its evidence and a remedy.

Imported only when asked for. A step that cannot be judged because an earlier one failed is `skipped`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from notifyd.adapters import reachability
from notifyd.adapters.clock import now
from notifyd.adapters.reachability import Look
from notifyd.core import events as facts
from notifyd.core.clouds import Cloud
from notifyd.core.machine import State
from notifyd.core.problem import Problem, Source
from notifyd.core.settings import Auth, Security, Settings
from notifyd.network import Network
from notifyd.service import Service

CLOCK_TOLERANCE_S = 240.0  # id_token and TLS checks of Microsoft's side allow five minutes
CLOCK_FLOOR = datetime(2025, 1, 1, tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the diagnosis."""

    step: str
    verdict: str
    evidence: str = ""
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        return {"step": self.step, "verdict": self.verdict, "evidence": self.evidence, "remedy": self.remedy}


async def run(service: Service, network: Network) -> dict[str, Any]:
    """The whole diagnosis; takes at most about a minute."""
    steps = [Step("WAN", "ok", "there is a way to the internet")]
    if not network.wan_up:
        steps = [Step("WAN", "warning", "no route to the internet", "Check the WAN interface of the gateway.")]
    stored = service.stored
    if stored is None:
        steps.append(Step("Settings", "failed", "nothing is applied", "Fill in the settings and choose Apply."))
        return _document(steps)
    cloud = service.parts.clouds.get(stored.settings.cloud)
    if cloud is None:
        steps.append(Step("Settings", "failed", f"the cloud {stored.settings.cloud} is gone", "Choose another cloud."))
        return _document(steps)
    steps.append(Step("Settings", "ok", f"{stored.settings.sender} through {stored.settings.server}"))
    steps += await _mail_server(stored.settings, cloud)
    if stored.settings.auth is Auth.OAUTH2:
        steps += await _login_host(stored.settings, cloud)
        steps += await _token(service, stored.settings)
    return _document(steps)


def _document(steps: list[Step]) -> dict[str, Any]:
    verdicts = {step.verdict for step in steps}
    verdict = "failed" if "failed" in verdicts else "warning" if "warning" in verdicts else "ok"
    return {"verdict": verdict, "steps": [step.as_json() for step in steps]}


async def _mail_server(settings: Settings, cloud: Cloud) -> list[Step]:
    names = ("DNS", f"TCP {settings.port}", "STARTTLS and certificate")
    dns = await reachability.resolve(settings.server)
    steps = [_judged(names[0], dns, "Check the mail server's name and the gateway's DNS servers.")]
    if not dns.ok:
        return steps + [_skipped(name) for name in names[1:]]
    tcp = await reachability.connect(settings.server, settings.port)
    remedy = f"Let the gateway out to port {settings.port}; some providers block it."
    steps.append(_judged(names[1], tcp, remedy))
    if not tcp.ok:
        return [*steps, _skipped(names[2])]
    if settings.security is Security.NONE:
        return [*steps, Step(names[2], "warning", "connection security is off", "Choose STARTTLS.")]
    implicit = settings.security is Security.TLS
    tls = await reachability.mail_tls(settings.server, settings.port, cloud.ca_file, implicit=implicit)
    remedy = "Check server name, port and connection security, the gateway's clock, and whether a proxy opens TLS."
    return [*steps, _judged(names[2], tls, remedy)]


async def _login_host(settings: Settings, cloud: Cloud) -> list[Step]:
    url = f"{cloud.authority}/{settings.tenant_id}/v2.0/.well-known/openid-configuration"
    look = await reachability.login_host(url, cloud.ca_file)
    if look.evidence.endswith(" 400 Bad Request"):
        host = Step("Login host", "failed", f"{look.evidence}: the tenant is unknown there", "Correct the Tenant ID.")
    else:
        host = _judged("Login host", look, "Let the gateway out to port 443, and check DNS and clock.")
    return [host, _clock(look.date)]


def _clock(date: str) -> Step:
    here = now().wall
    try:
        there = datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC).timestamp()
    except ValueError:
        if here < CLOCK_FLOOR:
            return Step("Clock", "failed", "the clock was never set", "Set date and time, or configure an NTP server.")
        return Step("Clock", "skipped", "nothing to compare it with")
    difference = here - there
    evidence = f"{abs(difference):.0f} s {'ahead of' if difference > 0 else 'behind'} the login host"
    if abs(difference) > CLOCK_TOLERANCE_S:
        return Step("Clock", "failed", evidence, "Set date and time, or configure an NTP server.")
    return Step("Clock", "ok", evidence)


async def _token(service: Service, settings: Settings) -> list[Step]:
    before = service.agent.status(now())
    if before.state in (State.APPLIED, State.UNCONFIGURED) or before.account is None:
        first = Step("App registration", "skipped", "it is tried when a token is got", "Choose Get New Token.")
        return [first, Step("Token", "failed", "there is none", "Choose Get New Token."), *_skip("XOAUTH2", "Sender")]
    renewals = service.renewals
    service.post(facts.RefreshRequested("admin", force=True))
    await service.settled()
    status = service.agent.status(now())
    problem = status.problem
    registration = _registration(problem, service.renewals > renewals)
    token = Step("Token", "ok", f"{status.state.value}, of {status.account}")
    if status.state is State.EXPIRED:
        token = _from_problem("Token", problem, "it has ended")
    if status.state is State.EXPIRED:
        return [registration, token, *_skip("XOAUTH2", "Sender")]
    outcome = await service.probe_now()
    accepted = Step("XOAUTH2", "ok", f"{settings.server} lets {status.account} in")
    login = accepted if outcome is None else _from_problem("XOAUTH2", outcome, "")
    return [registration, token, login, _sender(settings, status.account or "", outcome)]


def _registration(problem: Problem | None, asked: bool) -> Step:
    if problem is not None and problem.source in (Source.ENTRA, Source.CLOCK):
        return _from_problem("App registration", problem, "")
    if not asked:
        return Step("App registration", "ok", "the last renewal is recent: Microsoft was not asked again")
    return Step("App registration", "ok", "Microsoft accepted client ID, secret and grant just now")


def _sender(settings: Settings, account: str, outcome: Problem | None) -> Step:
    if outcome is not None:
        return Step("Sender", "skipped")
    if account.lower() == settings.sender.lower():
        return Step("Sender", "ok", f"{settings.sender} is the mailbox that signed in")
    evidence = f"{account} signed in, the sender is {settings.sender}"
    return Step("Sender", "warning", evidence, "Grant Send As on the sender's mailbox, or sign in as the sender.")


def _from_problem(name: str, problem: Problem | None, otherwise: str) -> Step:
    if problem is None:
        return Step(name, "failed", otherwise, "Choose Get New Token.")
    verdict = "warning" if problem.transient else "failed"
    return Step(name, verdict, f"{problem.title} [{problem.code}] {problem.detail}".strip(), problem.remedy)


def _judged(name: str, look: Look, remedy: str) -> Step:
    return Step(name, "ok", look.evidence) if look.ok else Step(name, "failed", look.evidence, remedy)


def _skipped(name: str) -> Step:
    return Step(name, "skipped", "an earlier step failed")


def _skip(*names: str) -> list[Step]:
    return [_skipped(name) for name in names]
