"""Log collectors as the service serves them: configured in notifyd.toml, a real rsyslog at the other end."""

from __future__ import annotations

from pathlib import Path

from tests.collectors import daemons
from tests.support.stack import Stack


def test_collectors_of_the_configuration_get_every_event_of_a_run(valid: Stack, tmp_path: Path) -> None:
    """Over TLS and UDP, from the first event on, also what happened before a collector was there."""
    collector = daemons.make("rsyslog", tmp_path / "rsyslog")
    (valid.etc / "notifyd.toml").write_text(
        f"""
        [syslog]
        facility = "local3"
        [[syslog.collectors]]
        url = "tls://127.0.0.1:{collector.port["tls"]}"
        ca_file = "{collector.directory / "ca.pem"}"
        [[syslog.collectors]]
        url = "udp://127.0.0.1:{collector.port["udp"]}"
        level = "notice"
        categories = ["service"]
        format = "family"
        """
    )
    valid.stop()
    valid.start()
    valid.wait(lambda: valid.events(event="syslog.unreachable"), bool, "the outage to be told")
    collector.start()
    try:
        valid.wait(
            lambda: {message["msgid"] for message in collector.received},
            lambda seen: {"service.started", "syslog.unreachable", "syslog.restored"} <= seen,
            "every event",
        )
        started = next(message for message in collector.received if message["msgid"] == "service.started")
        assert started["pri"] == str(19 * 8 + 5)
        metrics = valid.call("GET", "/metrics").document.decode()
        assert f'notifyd_collector_up{{collector="tls://127.0.0.1:{collector.port["tls"]}"}} 1' in metrics
    finally:
        collector.stop()
        (valid.etc / "notifyd.toml").unlink()
