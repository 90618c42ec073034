"""Prometheus' and Alertmanager's own words on our configuration, and each alert tried in both directions."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest

from graycat.cli import cli
from tests.support.helpers import PATIENCE_S
from tests.support.programs import program
from tests.support.stack import ROOT
from tests.support.watching import FOLDER, RULES, alerts, named, queries, read

TESTS = sorted((FOLDER / "prometheus" / "tests").glob("*.yml"))
CASES = [case for path in TESTS for case in read(path)["tests"]]
GUIDE = (ROOT / "docs" / "alerts.md").read_text()


def promtool(*arguments: str | Path) -> str:
    """Run promtool and return what it says. Raises AssertionError where it does not like what it sees."""
    command = [program("promtool", "prometheus"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_the_rules() -> None:
    assert f"{len(alerts()) + 3} rules found" in promtool("check", "rules", RULES)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.stem))
def test_alerts_fire_when_they_should_and_stay_quiet_when_they_should(path: Path) -> None:
    promtool("test", "rules", path)


def test_promtool_accepts_the_configuration_and_its_targets(tmp_path: Path) -> None:
    here = shutil.copytree(FOLDER / "prometheus", tmp_path / "prometheus")
    (tmp_path / "metrics-token").write_text("a token")
    config = here / "prometheus.yml"
    config.write_text(config.read_text().replace("/run/secrets/", f"{tmp_path}/"))
    assert "SUCCESS" in promtool("check", "config", config)


def test_promtool_reads_every_query_of_the_dashboards(tmp_path: Path) -> None:
    rows = [f"  - {{record: 'panel:{number}', expr: {expr!r}}}" for number, (_, expr) in enumerate(queries())]
    file = tmp_path / "queries.yml"
    file.write_text("groups:\n- name: panels\n  rules:\n" + "\n".join(rows) + "\n")
    assert f"{len(rows)} rules found" in promtool("check", "rules", file)


def test_alertmanager_accepts_its_configuration(tmp_path: Path) -> None:
    # Older ones than ours, Debian's among them, cannot read a receiver's address from a file.
    text = (FOLDER / "alertmanager" / "alertmanager.yml").read_text()
    config = tmp_path / "alertmanager.yml"
    config.write_text(text.replace("url_file: /run/secrets/alert-webhook", "url: http://127.0.0.1:1/"))
    command = [program("amtool", "prometheus-alertmanager"), "check-config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    known = {alert["alert"] for alert in alerts()}
    assert set(re.findall(r"Graycat\w+", text)) <= known


def test_the_prober_accepts_its_configuration() -> None:
    name = program("prometheus-blackbox-exporter", "prometheus-blackbox-exporter")
    command = [name, f"--config.file={FOLDER}/blackbox/blackbox.yml", "--config.check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_an_alert_says_what_is_wrong_and_what_to_do(alert: dict[str, Any]) -> None:
    notes = alert["annotations"]
    assert set(notes) == {"summary", "description", "runbook", "command", "runbook_url"}
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert notes["runbook_url"] == f"docs/alerts.md#{alert['alert'].lower()}"
    _, heading, section = GUIDE.partition(f"\n## {alert['alert']}\n")
    assert heading, "docs/alerts.md has no section of this name"
    section = section.partition("\n## ")[0]
    assert notes["runbook"] in section
    assert re.sub(r"\{\{.*?\}\}", "", notes["command"]).split()[0] in section


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_an_alert_is_tried_in_both_directions(alert: dict[str, Any]) -> None:
    name = alert["alert"]
    fires = quiet = False
    for case in CASES:
        # It can only be quiet, rather than blind, where there is something to see.
        sees = any(named(series["series"]) & named(alert["expr"]) for series in case["input_series"])
        for check in case["promql_expr_test"]:
            here = any(f'alertname="{name}"' in sample["labels"] for sample in check["exp_samples"])
            fires, quiet = fires or here, quiet or (sees and not here)
    assert fires, f"no test has {name} fire"
    assert quiet, f"no test has {name} stay quiet"


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_a_command_of_ours_is_one_that_there_is(alert: dict[str, Any]) -> None:
    words = re.sub(r"\{\{.*?\}\}", "X", alert["annotations"]["command"]).split()
    if words[0] != "graycat":
        return
    found: click.Command | None = cli
    context = click.Context(cli)
    for word in words[1:]:
        if isinstance(found, click.Group):
            found = found.get_command(context, word)
            assert found is not None, word
