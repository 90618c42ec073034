"""What monitoring/ says: its rules, its dashboards' queries, and the metrics that both name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from monitoring.dashboards.__main__ import DASHBOARDS
from tests.support.stack import ROOT

FOLDER = ROOT / "monitoring"
RULES = FOLDER / "prometheus" / "rules" / "graycat.yml"
#: Which metrics are whose, by their first word.
METRIC = re.compile(r"\b(?:graycat|redis|celery|node|nvidia_smi|probe)_[a-z0-9_A-Z]+\b|\bup\b")
#: What a histogram's or counter's samples end in.
SUFFIX = re.compile(r"_(?:bucket|sum|count)$")


@cache
def read(path: Path) -> Any:
    """Return a YAML file's content, which nobody changes."""
    return yaml.safe_load(path.read_text())


def rules() -> list[dict[str, Any]]:
    """Return all rules, those that record with them."""
    return [rule for group in read(RULES)["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """Return the rules that alert."""
    return [rule for rule in rules() if "alert" in rule]


def queries(interval: str = "1m") -> Iterator[tuple[str, str]]:
    """Yield each dashboard's queries, with the panel they belong to, Grafana's variables filled in."""
    for dashboard in DASHBOARDS:
        for panel in dashboard.panels:
            for query in panel.queries:
                yield f"{dashboard.title}: {panel.title}", query.expr.replace("$__rate_interval", interval)


def named(expr: str) -> set[str]:
    """Return the metrics that an expression names; what is between quotes is none."""
    return set(METRIC.findall(re.sub(r'"[^"]*"', '""', expr)))


def all_named() -> set[str]:
    """Return the metrics that rules and dashboards name, without those that rules record."""
    exprs = [rule["expr"] for rule in rules()] + [expr for _, expr in queries()]
    return {name for expr in exprs for name in named(re.sub(r"graycat:\w+", "", expr))}
