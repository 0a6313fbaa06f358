"""The report's content and forms, from an empty, a normal and a hostile day."""

from __future__ import annotations

import csv
import io
import json
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifyd.core.report_settings import (
    InvalidReportSettings,
    ReportSettings,
    expand,
    parse_report_settings,
    report_settings_from,
)
from notifyd.report import figures, hours, png, render, units
from notifyd.report.figures import Inputs
from notifyd.report.gather import gather
from notifyd.report.history import Day, History, Sample
from notifyd.report.model import Report, Tone
from notifyd.report.strings import LANGUAGES, Strings
from tests.report import examples

DAYS: list[Callable[[], Inputs]] = [examples.normal, examples.empty, examples.hostile]
VOID = {"meta", "br", "img", "link"}


class Page(HTMLParser):
    """What a browser would see: elements with attributes, and that each is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def section(report: Report, key: str) -> Any:
    return next(each for each in report.sections if each.key == key)


def value(report: Report, key: str, label: str) -> str:
    return next(fact.value for fact in section(report, key).facts if fact.label == label)


@pytest.mark.parametrize("day", DAYS)
def test_html_is_well_formed_and_made_for_mail_clients(day: Callable[[], Inputs]) -> None:
    """Every element closed, no script, no flex or grid, no foreign address, an alt for each picture."""
    report = figures.make(day())
    text = render.html(report, "en")
    page = Page(text)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "iframe", "object", "form", "svg", "link", "base"}
    assert "flex" not in text
    assert "grid" not in text
    assert not re.findall(r"(?:src|href)=[\"'](?!cid:)", text)
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        if tag == "img":
            assert attributes.get("alt")
    assert 'lang="en"' in text
    assert len(text) < 102_000, "Gmail cuts a message off there"


def test_hostile_words_stay_words() -> None:
    """Markup in names is shown as it is; nothing is evaluated; other scripts are kept."""
    report = figures.make(examples.hostile())
    page = Page(render.html(report, "en", embedded=True))
    assert {attributes.get("src", "x") for tag, attributes in page.elements if tag == "img"} <= {
        source for source in (attributes.get("src") for tag, attributes in page.elements if tag == "img")
        if str(source).startswith("data:image/png;base64,")
    }  # fmt: skip
    words = "".join(page.words)
    assert "<img src=x onerror=alert(1)>" in words
    assert "{{7*7}}" in words
    assert examples.SCRIPTS in words
    assert examples.SCRIPTS in render.text(report, "en")
    assert len(report.subject) <= 200
    assert "\n" not in report.subject


def test_a_cell_cannot_become_a_formula() -> None:
    """What a spreadsheet would compute is marked as text (names from DHCP clients, messages of servers)."""
    report = figures.make(examples.hostile())
    rows = list(csv.reader(io.StringIO(render.figures_csv(report) + render.events_csv(examples.hostile().events))))
    assert any("=HYPERLINK(1)" in cell for row in rows for cell in row)
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)


def test_the_text_stands_alone() -> None:
    """Everything that the HTML says is in the text, in lines that a terminal shows."""
    report = figures.make(examples.normal())
    text = render.text(report, "en")
    for each in report.sections:
        for fact in each.facts:
            assert fact.value in text
        for table in each.tables:
            assert all(row[0] in text for row in table.rows)
    for _, words in report.attention:
        assert words in text
    assert max(map(len, text.splitlines())) < 160


def test_figures_of_a_normal_day() -> None:
    """Numbers come from the right places, and yesterday's are compared with."""
    report = figures.make(examples.normal())
    assert value(report, "mail", "Sent") == "40"
    assert value(report, "mail", "Failed") == "1"
    assert value(report, "mail", "Client secret") == "expires in 14 days (2026-12-09)"
    assert value(report, "security", "Failed logins") == "3"
    assert value(report, "system", "Memory in use") == "1.5 GB of 4.1 GB (37 %)"
    assert value(report, "services", "VPN tunnels up") == "1 of 2"
    sent = next(fact for fact in section(report, "mail").facts if fact.label == "Sent")
    assert sent.change == "▲ 29 %"
    assert {chart.name for each in report.sections for chart in each.charts} == {"cpu", "traffic", "mail"}
    assert report.attention[0][0] is Tone.BAD
    assert report.figures["mail_sent"] == 40
    assert report.missing == ""


def test_a_quiet_day_says_that_all_is_well() -> None:
    """Without a finding there is one green line."""
    inputs = examples.normal(events=[], status=examples.status(secret_expires_on="2028-01-01"))
    report = figures.make(inputs)
    assert report.attention == ()
    assert "All is well." in render.text(report, "en")


def test_what_is_missing_is_said() -> None:
    """Without notifyd and without sources there is still a report, and it names what it lacks."""
    report = figures.make(examples.empty())
    assert report.attention == ((Tone.BAD, "notifyd did not answer: cannot reach notifyd"),)
    assert report.missing == "Not available on this gateway: cpu, interfaces."
    assert "No curve yet" in render.text(report, "en")


def test_the_message_carries_each_picture_that_the_html_shows() -> None:
    """Content-IDs in the HTML and in the attachments are the same."""
    report = figures.make(examples.normal())
    body = render.message(report, "en", ["a@b.example"], {"x.csv": "a"})
    shown = set(re.findall(r'src="cid:([^"]+)"', body["html"]))
    assert shown == {each["content_id"] for each in body["attachments"] if each.get("inline")}
    assert [each["filename"] for each in body["attachments"] if not each.get("inline")] == ["x.csv"]


def test_sections_that_were_not_chosen_are_left_out() -> None:
    """The order stays, the rest goes."""
    settings = parse_report_settings({"sections": ["mail", "system"]}, ReportSettings())
    report = figures.make(examples.normal(settings=settings))
    assert [each.key for each in report.sections] == ["system", "mail"]


@given(
    series=st.lists(st.lists(st.floats(0, 1e13), min_size=1, max_size=24), min_size=1, max_size=3),
    top=st.floats(0, 1e13),
)
def test_a_chart_is_a_png_that_decodes(series: list[list[float]], top: float) -> None:
    """Every chunk has its checksum, and the pixels are as many as the head says, within the palette."""
    colours = [png.BLUE, png.TEAL, png.RED][: len(series)]
    data = png.bars(series, colours, top)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        chunks[kind], at = body, at + 12 + length
    width, height, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert (depth, colour) == (8, 3)
    pixels = zlib.decompress(chunks[b"IDAT"])
    assert len(pixels) == height * (width + 1)
    assert max(pixels) < len(chunks[b"PLTE"]) // 3


def sample(at: float, boot: str, rx: int, busy: int = 0, total: int = 0) -> Sample:
    return Sample(at, boot, cpu_busy=busy, cpu_total=total, traffic={"wan": (rx, 0)})


def test_a_counter_that_begins_anew_is_not_negative_traffic() -> None:
    """After a restart the counter counts from nothing."""
    samples = [sample(0, "a", 1000), sample(3600, "a", 1500), sample(7200, "b", 200), sample(10800, "b", 300)]
    assert hours.traffic_since(samples, "wan", 0) == (800, 0)
    received, _ = hours.traffic_by_hour(samples, "wan", 10800)
    assert received[-3:] == [500, 200, 100]


def test_a_clock_that_jumps_makes_no_wild_bars() -> None:
    """Pairs that lie years apart, or backwards, are left out."""
    samples = [
        sample(0, "a", 0),
        sample(1.8e9, "a", 10**12),
        sample(1.7e9, "a", 10**12 + 5),
        sample(1.7e9 + 3600, "a", 10**12 + 9),
    ]
    assert sum(hours.traffic_by_hour(samples, "wan", 1.7e9 + 3600)[0]) == 4


@given(
    st.lists(st.tuples(st.floats(0, 2e9), st.sampled_from("ab"), st.integers(0, 10**15)), max_size=30),
    st.floats(0, 2e9),
)
def test_curves_are_never_negative(points: list[tuple[float, str, int]], end: float) -> None:
    """Whatever the samples are."""
    samples = [sample(at, boot, rx, rx, rx * 2 + 1) for at, boot, rx in points]
    for curve in (*hours.traffic_by_hour(samples, "wan", end), hours.cpu_by_hour(samples, end)):
        assert len(curve) == 24
        assert min(curve) >= 0
    assert min(hours.traffic_since(samples, "wan", end)) >= 0


def test_history_is_bounded_and_survives_damage(tmp_path: Path) -> None:
    """Three days of hours and 400 days; a damaged file begins anew instead of ending the report."""
    history = History(tmp_path / "report")
    for number in range(100):
        history.add_sample(sample(number * 3600.0, "a", number))
    assert len(history.samples()) == 72
    assert history.samples()[-1] == sample(99 * 3600.0, "a", 99)
    for number in range(3):
        history.add_day(Day("2026-11-25", number, {"x": number}))
    assert history.days() == [Day("2026-11-25", 2, {"x": 2})]
    for damage in ("", "{", "[1, {}]", '[{"day": 1}]', "null"):
        (tmp_path / "report" / "days.json").write_text(damage)
        (tmp_path / "report" / "samples.json").write_text(damage)
        assert history.days() == []
        assert history.samples() == []
    history.add_day(Day("2026-11-26", 1, {}))
    assert len(history.days()) == 1


def test_the_system_is_read_from_its_files(tmp_path: Path) -> None:
    """Every source where Linux has it; what is not there is missing with a reason, and nothing raises."""
    files = {
        "proc/stat": "cpu  100 0 50 800 50 0 0 0 0 0\n",
        "proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 400 kB\n",
        "proc/loadavg": "0.5 0.4 0.3 1/100 5\n",
        "proc/uptime": "1234.5 99\n",
        "proc/cmdline": "root=/dev/x uos.slot=b quiet\n",
        "proc/sys/kernel/hostname": "usg\n",
        "proc/sys/net/netfilter/nf_conntrack_count": "7\n",
        "proc/sys/net/netfilter/nf_conntrack_max": "70\n",
        "proc/device-tree/model": "USG FLEX 200HP\0",
        "etc/os-release": 'PRETTY_NAME="uOS 1.36"\n',
        "sys/class/thermal/thermal_zone0/temp": "48500\n",
        "sys/class/thermal/thermal_zone1/temp": "garbage\n",
        "var/lib/misc/dnsmasq.leases": "1795572000 aa:bb:cc:dd:ee:ff 192.168.1.33 pc *\nduid 00:01\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    system = gather(tmp_path, links=lambda: [])
    assert (system.cpu_busy, system.cpu_total) == (150, 1000)
    assert (system.memory_total, system.memory_available) == (1_024_000, 409_600)
    assert (system.sessions, system.sessions_max) == (7, 70)
    assert (system.model, system.version, system.slot, system.host) == ("USG FLEX 200HP", "uOS 1.36", "B", "usg")
    assert system.temperature == 48.5
    assert system.leases is not None
    assert [lease.address for lease in system.leases] == ["192.168.1.33"]
    assert set(system.missing) == {"boot", "kernel", "storage"}
    bare = gather(tmp_path / "nothing", links=lambda: (_ for _ in ()).throw(OSError("no netlink")))
    assert bare.missing["interfaces"] == "no netlink"
    json.dumps(bare.as_json())


def test_this_machine_is_read_for_real() -> None:
    """On the machine that runs the test, over real netlink."""
    system = gather()
    assert system.memory_total
    assert system.cpu_total
    assert "interfaces" not in system.missing


def test_options_in_subject_and_title() -> None:
    """Known ones are put in, %% is a percent sign, unknown ones stay, line ends do not pass."""
    assert expand("%hostname 100%% %date %nope %", {"hostname": "a\r\nb", "date": "D"}) == "a b 100% D %nope %"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"recipients": "a@b.example; nobody"}, "/recipients"),
        ({"recipients": ["a@b.example\r\nBcc: x@y.example"]}, "/recipients"),
        ({"subject": "a\r\nBcc: x@y.example"}, "/subject"),
        ({"subject": " "}, "/subject"),
        ({"time": "7"}, "/time"),
        ({"time_zone": "../../etc/passwd"}, "/time_zone"),
        ({"weekdays": [0]}, "/weekdays"),
        ({"weekdays": [True]}, "/weekdays"),
        ({"language": "../en"}, "/language"),
        ({"sections": ["weather"]}, "/sections"),
        ({"attach_csv": "yes"}, "/attach_csv"),
        ({"enabled": True}, "/recipients"),
        ({"colour": 1}, "/colour"),
    ],
)
def test_settings_are_refused_by_field(change: dict[str, Any], pointer: str) -> None:
    """Each wrong value is named, and none gets through."""
    with pytest.raises(InvalidReportSettings) as caught:
        parse_report_settings(change, ReportSettings())
    assert [each for each, _ in caught.value.errors] == [pointer]


def test_settings_survive_storing_and_a_newer_version() -> None:
    """What was stored comes back; what this version does not know becomes its default."""
    settings = parse_report_settings(
        {"recipients": "a@b.example, c@d.example", "time": "6:05", "weekdays": [5, 1, 5]}, ReportSettings()
    )
    assert settings.recipients == ("a@b.example", "c@d.example")
    assert (settings.time, settings.minute_of_day, settings.weekdays) == ("06:05", 365, (1, 5))
    assert report_settings_from(settings.as_json()) == settings
    assert report_settings_from({**settings.as_json(), "language": "tlh", "new": 1}) == settings
    assert report_settings_from({}) == ReportSettings()


def test_every_word_that_is_asked_for_is_there() -> None:
    """No key of the code is missing in English, and no language has keys that English lacks."""
    english = Strings("en")._words
    source = "".join(path.read_text() for path in Path(figures.__file__).parent.rglob("*.py"))
    asked = set(re.findall(r'say\("([a-z_.]+)"', source)) | {
        f"notice.{key}" for key in re.findall(r'notice\(Tone\.\w+, "(\w+)"', source)
    }
    assert asked
    assert asked <= set(english)
    for path in LANGUAGES.glob("*.json"):
        assert set(Strings(path.stem)._words) == set(english)


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (123_456, "123 kB"), (1e9, "1.0 GB"), (5e15, "5000 TB")],
)
def test_sizes(count: float, shown: str) -> None:
    """Decimal units with at most three digits that mean something."""
    assert units.size(count) == shown


def test_a_temperature_that_is_too_high_is_told_first() -> None:
    """Bad findings stand before warnings."""
    inputs = examples.normal(system=replace(examples.system(), temperature=95.0))
    tones = [tone for tone, _ in figures.make(inputs).attention]
    assert tones == sorted(tones, key=[Tone.BAD, Tone.WARN].index)
    assert "95 °C" in str(figures.make(inputs).attention)
