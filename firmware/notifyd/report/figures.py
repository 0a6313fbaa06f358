"""From what was gathered to what is told: the content of the report, section by section (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, tzinfo
from typing import Any

from notifyd.core.eventlog import Level
from notifyd.core.report_settings import ReportSettings, expand
from notifyd.report import hours, png, units
from notifyd.report.gather import VPN_KINDS, Interface, System
from notifyd.report.history import Day, Sample
from notifyd.report.model import Chart, Fact, Report, Section, Table, Tone
from notifyd.report.strings import Strings

DAY_S = 86_400.0
MAX_ROWS = 12
LEAST_STORAGE = 1_000_000  # bytes: below, it is no storage that could fill up
ALMOST_FULL, VERY_FULL = 0.8, 0.92
HOT = 85.0
SECRET_SOON_DAYS = 30
MANY_FAILED_LOGINS = 5


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything a report is made of. status is None when notifyd did not answer; `fault` says why.

    events: records of the last 24 hours as the API gives them, in any order; truncated: there were more.
    """

    settings: ReportSettings
    system: System
    samples: Sequence[Sample]
    days: Sequence[Day]
    status: Mapping[str, Any] | None
    events: Sequence[Mapping[str, Any]]
    zone: tzinfo
    fault: str = ""
    truncated: bool = False
    missed: int = 0
    auth: str = "oauth2"


@dataclass
class _Maker:
    """The inputs with what several sections need of them."""

    inputs: Inputs
    say: Strings
    now: float
    before: Mapping[str, float]
    figures: dict[str, float] = field(default_factory=dict)
    attention: list[tuple[Tone, str]] = field(default_factory=list)

    def fact(
        self, label: str, value: str, number: float | None = None, name: str = "", tone: Tone = Tone.PLAIN
    ) -> Fact:
        """A fact; with a number it is kept for tomorrow and compared with yesterday's."""
        if number is None:
            return Fact(label, value, "", tone)
        self.figures[name] = number
        return Fact(label, value, hours.change(number, self.before, name), tone)

    def notice(self, tone: Tone, key: str, **values: object) -> None:
        self.attention.append((tone, self.say(f"notice.{key}", **values)))

    def events(self, *names: str) -> list[Mapping[str, Any]]:
        return [event for event in self.inputs.events if event.get("event") in names]


def make(inputs: Inputs) -> Report:
    """The report of this moment."""
    system, settings = inputs.system, inputs.settings
    say, now = Strings(settings.language), system.taken_at
    day = units.clock(now, inputs.zone, "%Y-%m-%d")
    before = next((each.figures for each in reversed(inputs.days) if 0.5 < (now - each.made_at) / DAY_S < 2.5), {})
    maker = _Maker(inputs, say, now, before)
    if inputs.status is None:
        maker.notice(Tone.BAD, "unreachable", reason=inputs.fault)
    if inputs.missed:
        maker.notice(Tone.WARN, "missed", count=inputs.missed)
    made = {key: build(maker) for key, build in _SECTIONS.items()}
    options = {
        "hostname": system.host,
        "date": day,
        "time": units.clock(now, inputs.zone, "%H:%M"),
        "model": system.model or "",
        "version": system.version or "",
    }
    zone = units.clock(now, inputs.zone, "%Z")
    start, end = units.clock(now - DAY_S, inputs.zone), units.clock(now, inputs.zone)
    severity = [Tone.BAD, Tone.WARN, Tone.GOOD, Tone.PLAIN]
    return Report(
        title=expand(settings.title, options),
        subject=expand(settings.subject, options)[:200],
        host=system.host,
        day=day,
        period=say("period", start=start, end=end, zone=zone),
        footer=say("made", time=f"{end} {zone}", host=system.host),
        attention=tuple(sorted(maker.attention, key=lambda each: severity.index(each[0]))),
        sections=tuple(made[key] for key in settings.sections),
        missing=say("not_available", list=", ".join(sorted(system.missing))) if system.missing else "",
        figures=maker.figures,
    )


# ---- system ----------------------------------------------------------------------------------------------------------


def _system(maker: _Maker) -> Section:
    system, say = maker.inputs.system, maker.say
    average = hours.cpu_average(maker.inputs.samples, maker.now - DAY_S)
    named = (("model", system.model), ("version", system.version), ("slot", system.slot))
    facts = [Fact(say(f"system.{key}"), value) for key, value in named if value]
    if system.uptime_s is not None:
        facts.append(Fact(say("system.uptime"), units.duration(system.uptime_s)))
    if average is not None:
        facts.append(maker.fact(say("system.cpu"), units.percent(average), round(average, 4), "cpu"))
    if system.load is not None:
        facts.append(Fact(say("system.load"), " · ".join(f"{each:.2f}" for each in system.load)))
    if system.memory_total and system.memory_available is not None:
        share = 1 - system.memory_available / system.memory_total
        value = say("system.used", used=units.size(system.memory_total - system.memory_available), total=units.size(
            system.memory_total), percent=units.percent(share))  # fmt: skip
        facts.append(maker.fact(say("system.memory"), value, round(share, 4), "memory", _fullness(share)))
        if share >= VERY_FULL:
            maker.notice(Tone.WARN, "memory", percent=units.percent(share))
    if system.temperature is not None:
        value = f"{system.temperature:.0f} °C"
        hot = system.temperature >= HOT
        facts.append(
            maker.fact(
                say("system.temperature"), value, system.temperature, "temperature", Tone.BAD if hot else Tone.PLAIN
            )
        )
        if hot:
            maker.notice(Tone.BAD, "temperature", value=value)
    facts += _sessions(maker)
    facts += _storage(maker)
    return Section("system", say("sections.system"), tuple(facts), *_cpu_chart(maker))


def _sessions(maker: _Maker) -> list[Fact]:
    system, say = maker.inputs.system, maker.say
    if system.sessions is None or not system.sessions_max:
        return []
    share = system.sessions / system.sessions_max
    if share >= ALMOST_FULL:
        maker.notice(Tone.WARN, "sessions", percent=units.percent(share))
    value = say("system.of", part=system.sessions, whole=system.sessions_max)
    return [maker.fact(say("system.sessions"), value, system.sessions, "sessions", _fullness(share))]


def _storage(maker: _Maker) -> list[Fact]:
    facts = []
    for each in maker.inputs.system.storage:
        if each.total < LEAST_STORAGE:
            continue
        share = 1 - each.free / each.total
        read_only_image = each.free == 0 and share == 1.0
        tone = Tone.PLAIN if read_only_image else _fullness(share)
        value = maker.say("system.used", used=units.size(each.total - each.free), total=units.size(each.total),
                          percent=units.percent(share))  # fmt: skip
        facts.append(
            maker.fact(
                maker.say("system.storage", mount=each.mount), value, round(share, 4), f"storage {each.mount}", tone
            )
        )
        if tone is Tone.BAD:
            maker.notice(Tone.BAD, "storage", mount=each.mount, percent=units.percent(share))
    return facts


def _fullness(share: float) -> Tone:
    return Tone.BAD if share >= VERY_FULL else Tone.WARN if share >= ALMOST_FULL else Tone.PLAIN


def _cpu_chart(maker: _Maker) -> tuple[tuple[Chart, ...], tuple[Table, ...], tuple[str, ...]]:
    if hours.covered_hours(maker.inputs.samples, maker.now) < 2:
        return (), (), (maker.say("no_curve"),)
    values = hours.cpu_by_hour(maker.inputs.samples, maker.now)
    top = hours.round_up(max(values))
    chart = _chart(maker, "cpu", maker.say("system.cpu_chart"), [values], [png.BLUE], top, units.percent(top), ())
    return (chart,), (), ()


# ---- traffic ---------------------------------------------------------------------------------------------------------


def _traffic(maker: _Maker) -> Section:
    say, inputs = maker.say, maker.inputs
    shown = [each for each in inputs.system.interfaces if each.up or each.rx_bytes or each.tx_bytes]
    start = maker.now - DAY_S
    if inputs.settings.reset_counters and inputs.days:
        start = inputs.days[-1].made_at
    moved = {each.name: hours.traffic_since(inputs.samples, each.name, start) for each in shown}
    covered = hours.covered_hours(inputs.samples, maker.now)
    facts, charts = [], []
    main = _main_interface(shown, moved)
    if main is not None and covered:
        rx, tx = moved[main.name]
        maker.figures["wan_tx"] = tx
        value = say("traffic.in_out", rx=units.size(rx), tx=units.size(tx))
        facts.append(maker.fact(say("traffic.wan", name=main.name), value, rx, "wan_rx"))
    if main is not None and covered >= 2:
        received, sent = hours.traffic_by_hour(inputs.samples, main.name, maker.now)
        top = hours.round_up(max(map(sum, zip(received, sent, strict=True))))
        legend = ((say("traffic.received"), _hex(png.BLUE)), (say("traffic.sent"), _hex(png.TEAL)))
        title = say("traffic.chart", name=main.name)
        charts.append(
            _chart(maker, "traffic", title, [received, sent], [png.BLUE, png.TEAL], top, f"{units.size(top)}/h", legend)
        )
    table = _interfaces_table(maker, shown, moved if covered else {})
    notes = () if covered >= 2 else (say("no_curve"),)
    return Section("traffic", say("sections.traffic"), tuple(facts), tuple(charts), table, notes)


def _main_interface(shown: Sequence[Interface], moved: Mapping[str, tuple[int, int]]) -> Interface | None:
    """The way to the internet, or else the busiest."""
    candidates = [each for each in shown if each.wan] or list(shown)
    return max(candidates, key=lambda each: sum(moved[each.name]), default=None)


def _interfaces_table(
    maker: _Maker, shown: Sequence[Interface], moved: Mapping[str, tuple[int, int]]
) -> tuple[Table, ...]:
    if not shown:
        return ()
    say = maker.say
    rows = []
    for each in shown[:MAX_ROWS]:
        rx, tx = moved.get(each.name, (each.rx_bytes, each.tx_bytes))
        state = say("traffic.up") if each.up else say("traffic.down")
        rows.append(
            (each.name, state, units.size(rx), units.size(tx), str(each.rx_errors + each.tx_errors), str(each.dropped))
        )
    keys = ("interface", "state", "received", "sent", "errors", "dropped")
    return (Table(say("traffic.table"), _columns(say, "traffic", keys), tuple(rows), frozenset({2, 3, 4, 5})),)


# ---- security --------------------------------------------------------------------------------------------------------


def _security(maker: _Maker) -> Section:
    say = maker.say
    failed = maker.events("auth.login_failed")
    counts = {
        "logins": len(maker.events("auth.login")),
        "failed": len(failed),
        "locked": len(maker.events("auth.locked")),
        "refused": len(maker.events("auth.refused", "signin.refused")),
    }
    if counts["failed"] >= MANY_FAILED_LOGINS or counts["locked"]:
        maker.notice(Tone.WARN, "logins", count=counts["failed"])
    facts = []
    for key, count in counts.items():
        tone = Tone.WARN if key != "logins" and count else Tone.PLAIN
        facts.append(maker.fact(say(f"security.{key}"), str(count), count, key, tone))
    where = Counter((_field(event, "remote"), _field(event, "user")) for event in failed)
    rows = tuple((address, user, str(count)) for (address, user), count in where.most_common(MAX_ROWS))
    columns = _columns(say, "security", ("address", "user", "count"))
    tables = (Table(say("security.where"), columns, rows, frozenset({2})),) if rows else ()
    return Section("security", say("sections.security"), tuple(facts), (), tables)


# ---- mail and token --------------------------------------------------------------------------------------------------


def _mail(maker: _Maker) -> Section:
    say, status = maker.say, maker.inputs.status
    facts = [*_token_facts(maker, status), *_mail_counts(maker, status)] if status is not None else []
    kinds = {"sent": png.TEAL, "deferred": png.AMBER, "failed": png.RED}
    series = [
        hours.counted_by_hour(
            (units.moment_of(str(event.get("time"))) for event in maker.events(f"mail.{kind}")), maker.now
        )
        for kind in kinds
    ]
    highest = max(map(sum, zip(*series, strict=True)))
    legend = tuple((say(f"mail.{kind}"), _hex(colour)) for kind, colour in kinds.items())
    charts: tuple[Chart, ...] = ()
    if highest:
        top = max(2.0, hours.round_up(highest))
        charts = (_chart(maker, "mail", say("mail.chart"), series, list(kinds.values()), top, f"{top:.0f}/h", legend),)
    return Section("mail", say("sections.mail"), tuple(facts), charts)


def _token_facts(maker: _Maker, status: Mapping[str, Any]) -> list[Fact]:
    say, state, problem = maker.say, str(status.get("state")), status.get("problem") or {}
    can_send = bool(status.get("can_send"))
    facts = []
    if maker.inputs.auth == "oauth2":
        facts.append(Fact(say("mail.state"), state, "", Tone.GOOD if state == "Valid" else Tone.BAD))
    facts.append(
        Fact(say("mail.can_send"), say("mail.yes" if can_send else "mail.no"), "", Tone.GOOD if can_send else Tone.BAD)
    )
    if not can_send and problem:
        maker.notice(Tone.BAD, "cannot_send", title=problem.get("title"), remedy=problem.get("remedy"))
    elif problem:
        maker.notice(Tone.WARN, "token", state=state, title=problem.get("title"), remedy=problem.get("remedy"))
    elif maker.inputs.auth == "oauth2" and state not in ("Valid", "Pending"):
        maker.notice(Tone.BAD, "no_token")
    if status.get("account"):
        facts.append(Fact(say("mail.account"), str(status["account"])))
    if status.get("access_expires_at"):
        facts.append(Fact(say("mail.valid_until"), units.clock(float(status["access_expires_at"]), maker.inputs.zone)))
    if maker.inputs.auth == "oauth2":
        renewed = len(maker.events("token.refreshed", "token.retrieved"))
        facts.append(maker.fact(say("mail.renewed"), str(renewed), renewed, "renewed"))
        facts.append(_secret(maker, status.get("secret_expires_on")))
    return facts


def _secret(maker: _Maker, expires_on: object) -> Fact:
    say = maker.say
    if not isinstance(expires_on, str):
        return Fact(say("mail.secret"), say("mail.secret_unknown"))
    today = datetime.fromtimestamp(maker.now, maker.inputs.zone).date()
    days = (date.fromisoformat(expires_on) - today).days
    if days < 0:
        maker.notice(Tone.BAD, "secret_over")
        return Fact(say("mail.secret"), say("mail.expired", date=expires_on), "", Tone.BAD)
    if days <= SECRET_SOON_DAYS:
        maker.notice(Tone.WARN, "secret_soon", days=days)
    tone = Tone.WARN if days <= SECRET_SOON_DAYS else Tone.PLAIN
    return Fact(say("mail.secret"), say("mail.days_left", days=days, date=expires_on), "", tone)


def _mail_counts(maker: _Maker, status: Mapping[str, Any]) -> list[Fact]:
    say, queue = maker.say, status.get("queue") or {}
    counts = {kind: len(maker.events(f"mail.{kind}")) for kind in ("sent", "deferred", "failed")}
    if counts["failed"]:
        maker.notice(Tone.BAD, "mail_failed", count=counts["failed"])
    if queue.get("held"):
        maker.notice(Tone.WARN, "mail_held", count=queue["held"])
    bad = {"failed": Tone.BAD, "deferred": Tone.WARN}
    facts = [
        maker.fact(
            say(f"mail.{kind}"), str(count), count, f"mail_{kind}", bad.get(kind, Tone.PLAIN) if count else Tone.PLAIN
        )
        for kind, count in counts.items()
    ]
    facts.append(Fact(say("mail.waiting"), str(queue.get("ready", 0))))
    held = queue.get("held", 0)
    return [*facts, Fact(say("mail.held"), str(held), "", Tone.WARN if held else Tone.PLAIN)]


# ---- events ----------------------------------------------------------------------------------------------------------


def _events(maker: _Maker) -> Section:
    say, events = maker.say, maker.inputs.events
    severe = [event for event in events if _level(event).at_least(Level.WARNING)]
    errors = [event for event in severe if _level(event).at_least(Level.ERROR)]
    if errors:
        maker.notice(Tone.WARN, "errors", count=len(errors))
    total = say("events.at_least", count=len(events)) if maker.inputs.truncated else str(len(events))
    warnings = len(severe) - len(errors)
    facts = (
        maker.fact(say("events.total"), total, len(events), "events"),
        maker.fact(say("events.errors"), str(len(errors)), len(errors), "errors", Tone.BAD if errors else Tone.PLAIN),
        maker.fact(say("events.warnings"), str(warnings), warnings, "warnings", Tone.WARN if warnings else Tone.PLAIN),
    )
    top = Counter((str(event.get("event")), _level(event).value) for event in events).most_common(MAX_ROWS)
    rows = tuple((name, level, str(count)) for (name, level), count in top)
    tables = (
        [Table(say("events.top"), _columns(say, "events", ("event", "level", "count")), rows, frozenset({2}))]
        if rows
        else []
    )
    latest = sorted(severe, key=lambda event: int(event.get("id", 0)), reverse=True)[:MAX_ROWS]
    if latest:
        columns = _columns(say, "events", ("time", "level", "message"))
        zone = maker.inputs.zone
        lines = tuple(
            (
                units.clock(units.moment_of(str(each.get("time"))), zone, "%H:%M"),
                _level(each).value,
                str(each.get("message"))[:300],
            )
            for each in latest
        )
        tables.append(Table(say("events.latest"), columns, lines))
    return Section("events", say("sections.events"), facts, (), tuple(tables))


# ---- services --------------------------------------------------------------------------------------------------------


def _services(maker: _Maker) -> Section:
    say, system = maker.say, maker.inputs.system
    facts, tables = [], []
    tunnels = [each for each in system.interfaces if each.kind in VPN_KINDS]
    if tunnels:
        up = sum(each.up for each in tunnels)
        tone = Tone.PLAIN if up == len(tunnels) else Tone.WARN
        facts.append(Fact(say("services.vpn"), say("services.of", up=up, all=len(tunnels)), "", tone))
        rows = tuple(
            (
                each.name,
                each.kind,
                say("traffic.up") if each.up else say("traffic.down"),
                units.size(each.rx_bytes + each.tx_bytes),
            )
            for each in tunnels[:MAX_ROWS]
        )
        columns = _columns(say, "services", ("tunnel", "kind", "state", "traffic"))
        tables.append(Table(say("services.vpn"), columns, rows, frozenset({3})))
    if system.leases is not None:
        facts.append(maker.fact(say("services.leases"), str(len(system.leases)), len(system.leases), "leases"))
        leases = [(each.address, each.name, each.mac) for each in system.leases[:MAX_ROWS]]
        more = len(system.leases) - len(leases)
        if more > 0:
            leases.append((say("more", count=more), "", ""))
        if leases:
            columns = _columns(say, "services", ("address", "name", "mac"))
            tables.append(Table(say("services.leases"), columns, tuple(leases)))
    return Section("services", say("sections.services"), tuple(facts), (), tuple(tables))


_SECTIONS = {
    "system": _system,
    "traffic": _traffic,
    "security": _security,
    "mail": _mail,
    "events": _events,
    "services": _services,
}


# ---- small things ----------------------------------------------------------------------------------------------------


def _chart(
    maker: _Maker, name: str, title: str, series: Sequence[Sequence[float]], colours: Sequence[png.Colour], top: float,
    scale: str, legend: tuple[tuple[str, str], ...],
) -> Chart:  # fmt: skip
    labels = tuple(
        units.clock(maker.now - hour * hours.HOUR_S, maker.inputs.zone, "%H:%M") for hour in (24, 18, 12, 6, 0)
    )
    height = maker.say("full_height", value=scale)
    return Chart(name, title, height, labels, legend, png.bars(series, colours, top), f"{title}, {height}")


def _columns(say: Strings, group: str, keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(
        say(f"{group}.{key}").capitalize() if say(f"{group}.{key}").islower() else say(f"{group}.{key}") for key in keys
    )


def _hex(colour: png.Colour) -> str:
    return "#" + bytes(colour).hex()


def _level(event: Mapping[str, Any]) -> Level:
    try:
        return Level(str(event.get("level")))
    except ValueError:
        return Level.INFO


def _field(event: Mapping[str, Any], name: str) -> str:
    fields = event.get("fields")
    return str(fields.get(name, "")) if isinstance(fields, Mapping) else ""
