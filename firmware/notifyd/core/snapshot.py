"""What survives a restart: a versioned value of its own, saved before anything it says is told to anyone.

Half-finished sign-ins are never in it: their PKCE verifiers die with the process, so their codes could not be redeemed.
Moments are on the boot clock of the boot named by `boot_id`; `Agent` re-bases them when that boot is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import date

from notifyd.core.instant import Instant
from notifyd.core.problem import Actor, Problem, Source
from notifyd.core.settings import Auth, Security, Settings

VERSION = 1


class UnreadableSnapshot(ValueError):
    """The stored text is not a snapshot this program can begin from (newer version, or damaged)."""


@dataclass(frozen=True, slots=True)
class HeldGrant:
    """What is known of the grant without opening its seal.

    signed_in_wall: when the administrator signed in; survives renewals. obtained: when the access token came.
    expires_boot: the end of the access token. lifetime_s: its whole life, as Microsoft gave it.
    is_sender: False when another account than the sender signed in (shared mailbox, Send As, or a mistake).
    """

    account: str
    object_id: str
    tenant_id: str
    scopes: tuple[str, ...]
    signed_in_wall: float
    obtained: Instant
    expires_boot: float
    lifetime_s: float
    is_sender: bool = True


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The agent's durable half.

    saved: the moment of saving. clean: the service ended in good order.
    epoch: the generation since which results may belong to the held grant (identity changes begin a new one).
    attempts: moments of token requests within the last hour. due_boot: when the next one is due.
    failures, failure_class, first_delay_s: where the back-off stands.
    gate_problem, gate_until, gate_failures, gate_breaker: why mail is held by the mail server, and the next try.
    warned_days: the smallest secret-expiry threshold already warned of. reminders: reminders given for this problem.
    """

    saved: Instant
    boot_id: str
    settings: Settings | None = None
    secret_known: bool = False
    generation: int = 0
    epoch: int = 0
    grant: HeldGrant | None = None
    attempts: tuple[float, ...] = ()
    due_boot: float | None = None
    failures: int = 0
    failure_class: str = ""
    first_delay_s: float = 0.0
    problem: Problem | None = None
    gate_problem: Problem | None = None
    gate_until: float | None = None
    gate_failures: int = 0
    gate_breaker: bool = False
    warned_days: int | None = None
    reminders: int = 0
    reminded_boot: float = 0.0
    clean: bool = False
    version: int = VERSION

    def as_json(self) -> dict[str, object]:
        """A JSON object; `from_json` gives an equal snapshot back."""
        data = asdict(self)
        if self.settings is not None and self.settings.secret_expires_on is not None:
            data["settings"]["secret_expires_on"] = self.settings.secret_expires_on.isoformat()
        return data


def from_json(data: Mapping[str, object]) -> Snapshot:
    """The snapshot that `as_json` wrote. Raises UnreadableSnapshot when it is newer than this program, or damaged."""
    if data.get("version") != VERSION:
        raise UnreadableSnapshot(f"snapshot version {data.get('version')!r}, this program reads {VERSION}")
    known = {field.name for field in fields(Snapshot)}
    try:
        values = {key: value for key, value in data.items() if key in known}
        values["saved"] = _instant(data["saved"])
        values["settings"] = _settings(data.get("settings"))
        values["grant"] = _grant(data.get("grant"))
        values["attempts"] = tuple(_number(value) for value in _sequence(data.get("attempts", ())))
        values["problem"] = _problem(data.get("problem"))
        values["gate_problem"] = _problem(data.get("gate_problem"))
        return Snapshot(**values)  # type: ignore[arg-type]  # every value was checked or has the type as_json wrote
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableSnapshot(f"snapshot is damaged: {error}") from error


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise TypeError("object expected")
    return value


def _sequence(value: object) -> list[object]:
    if not isinstance(value, list | tuple):
        raise TypeError("array expected")
    return list(value)


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError("number expected")
    return float(value)


def _instant(value: object) -> Instant:
    pair = _mapping(value)
    return Instant(_number(pair["boot"]), _number(pair["wall"]))


def _settings(value: object) -> Settings | None:
    if value is None:
        return None
    data = dict(_mapping(value))
    day = data.get("secret_expires_on")
    data["secret_expires_on"] = date.fromisoformat(str(day)) if day else None
    data["security"] = Security(str(data["security"]))
    data["auth"] = Auth(str(data["auth"]))
    return Settings(**data)  # type: ignore[arg-type]  # as written by as_json; unknown names raise TypeError


def _problem(value: object) -> Problem | None:
    if value is None:
        return None
    data = dict(_mapping(value))
    data["source"] = Source(str(data["source"]))
    data["actor"] = Actor(str(data["actor"]))
    return Problem(**data)  # type: ignore[arg-type]  # as written by as_json; unknown names raise TypeError


def _grant(value: object) -> HeldGrant | None:
    if value is None:
        return None
    data = dict(_mapping(value))
    data["obtained"] = _instant(data["obtained"])
    data["scopes"] = tuple(str(scope) for scope in _sequence(data["scopes"]))
    return HeldGrant(**data)  # type: ignore[arg-type]  # as written by as_json; unknown names raise TypeError
