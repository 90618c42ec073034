"""Grafana's dashboards: what is checked in is what the code makes, and every panel says what it shows."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import combinations
from typing import Any

import pytest

from monitoring.dashboards import __main__ as generator
from monitoring.dashboards.panels import GRID, graph, stat
from tests.support.stack import ROOT
from tests.support.watching import FOLDER, named, queries, read

FILES = sorted((FOLDER / "grafana" / "dashboards").glob("*.json"))
BOARDS: list[dict[str, Any]] = [json.loads(path.read_text()) for path in FILES]
PANELS = [(board["title"], panel) for board in BOARDS for panel in board["panels"]]


def test_what_is_checked_in_is_what_the_code_makes() -> None:
    assert generator.stale() == [], "run python -m monitoring.dashboards"
    command = [sys.executable, "-m", "monitoring.dashboards", "--check"]
    assert subprocess.run(command, cwd=ROOT, timeout=60, check=False).returncode == 0


def test_a_changed_a_missing_and_an_unknown_file_are_stale(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(generator, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["dashboards"])
    (tmp_path / "old.json").write_text("{}")
    generator.main()
    assert generator.stale() == []
    assert not (tmp_path / "old.json").exists()
    (tmp_path / "graycat-games.json").write_text("{}")
    (tmp_path / "graycat-fleet.json").unlink()
    (tmp_path / "mine.json").write_text("{}")
    assert [path.name for path in generator.stale()] == ["graycat-fleet.json", "graycat-games.json", "mine.json"]
    monkeypatch.setattr(sys, "argv", ["dashboards", "--check"])
    with pytest.raises(SystemExit, match="mine.json"):
        generator.main()


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: str(board["title"]))
def test_a_dashboard_can_be_provisioned(board: dict[str, Any]) -> None:
    assert board["uid"]
    assert board["description"]
    assert board["schemaVersion"] >= 39  # Grafana 11
    assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.mark.parametrize(
    ("title", "panel"), PANELS, ids=lambda value: value if isinstance(value, str) else value["title"]
)
def test_a_panel_has_title_unit_and_description(title: str, panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith((".", "?", ")"))
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == panel["datasource"]["uid"] == "${datasource}"
        assert named(target["expr"]), "asks for no metric"


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: str(board["title"]))
def test_no_panel_covers_another(board: dict[str, Any]) -> None:
    places = [panel["gridPos"] for panel in board["panels"]]
    assert all(place["x"] + place["w"] <= GRID for place in places)
    for a, b in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        below = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or below, (a, b)


def test_titles_are_unique_within_a_dashboard() -> None:
    titles = [(board, panel["title"]) for board, panel in PANELS]
    assert len(set(titles)) == len(titles)


def test_a_threshold_is_a_line_in_a_graph_and_a_colour_of_a_number() -> None:
    line = graph("A", "A.", "s", ("up", ""), red_from=3).json(1, 0, 0)["fieldConfig"]["defaults"]
    assert line["custom"]["thresholdsStyle"] == {"mode": "line"}
    assert line["thresholds"]["steps"][-1] == {"color": "red", "value": 3}
    number = stat("A", "A.", "s", "up", red_below=1).json(1, 0, 0)
    assert [step["color"] for step in number["fieldConfig"]["defaults"]["thresholds"]["steps"]] == ["red", "green"]
    assert number["targets"][0]["instant"] is True


def test_the_provisioned_data_sources_are_ours() -> None:
    sources = read(FOLDER / "grafana" / "provisioning" / "datasources" / "graycat.yml")["datasources"]
    assert {source["type"] for source in sources} == {"prometheus", "loki", "alertmanager"}
    assert len(list(queries())) >= len(PANELS)
