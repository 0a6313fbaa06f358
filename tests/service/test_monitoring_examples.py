"""The examples for monitoring: Prometheus' own checker takes the rules, and every figure they name exists."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.stack import REPOSITORY, Stack

EXAMPLES = REPOSITORY / "docs" / "examples"
PROMTOOL = REPOSITORY / "build" / "collectors" / "usr" / "bin" / "promtool"
COLLECTOR = '[[syslog.collectors]]\nurl = "udp://127.0.0.1:9"\n'


@pytest.mark.parametrize("command", [("check", "prometheus-alerts.yml"), ("test", "prometheus-alerts-test.yml")])
def test_the_alert_rules_pass_prometheus_own_tool(command: tuple[str, str]) -> None:
    """Their syntax is right, and each fires when it should and not before."""
    assert PROMTOOL.exists(), "run `make setup`: promtool is not unpacked"
    verb, file = command
    done = subprocess.run([PROMTOOL, verb, "rules", file], cwd=EXAMPLES, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def queries(path: Path) -> str:
    """Every query of an example, in one text."""
    if path.suffix == ".json":
        dashboard = json.loads(path.read_text())
        assert {panel["type"] for panel in dashboard["panels"]} <= {"stat", "timeseries"}
        assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
        variables = [variable["query"] for variable in dashboard["templating"]["list"]]
        return "\n".join(variables + [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]])
    return "\n".join(re.findall(r"expr: (.*)", path.read_text()))


@pytest.mark.parametrize("name", ["prometheus-alerts.yml", "grafana-dashboard.json"])
def test_every_figure_of_the_examples_exists(valid: Stack, name: str) -> None:
    """A renamed metric cannot leave an alert that never fires or an empty panel."""
    (valid.etc / "notifyd.toml").write_text("[syslog]\n" + COLLECTOR)
    valid.stop()
    valid.start()
    valid.apply(secret_expires_on="2030-01-01")
    families = text_string_to_metric_families(valid.call("GET", "/metrics").document.decode())
    known = {sample.name for family in families for sample in family.samples}
    asked = set(re.findall(r"notifyd_[a-z_]+", queries(EXAMPLES / name)))
    assert asked
    assert asked <= known


def test_a_table_that_cannot_be_used_is_an_event_and_no_end(valid: Stack) -> None:
    """A wrong key in notifyd.toml is named, and the gateway runs on."""
    (valid.etc / "notifyd.toml").write_text("[syslog]\n" + COLLECTOR + 'colour = "red"\n')
    valid.stop()
    valid.start()
    reason = valid.events(event="service.config_invalid")[-1]["fields"]["reason"]
    assert "syslog.collectors[0].colour" in reason
    assert valid.status()["state"] == "Valid"
    (valid.etc / "notifyd.toml").unlink()
