"""What a dashboard is made of, and its JSON (Grafana 11 and 12)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

#: Columns of Grafana's grid.
GRID = 24
#: The JSON's version: Grafana 11.0's, which later ones read.
SCHEMA_VERSION = 39
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

# Grafana's names of units.
SECONDS, BYTES, RATIO, COUNT, CELSIUS, WATTS = "s", "bytes", "percentunit", "short", "celsius", "watt"
PER_SECOND, OPS, BYTES_PER_SECOND = "reqps", "ops", "Bps"


@dataclass(frozen=True)
class Query:
    """A query in PromQL; ``legend`` names its lines by their labels (``{{queue}}``)."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """A panel. ``red_from``, ``red_below``: where its value is bad. ``names``: words instead of values."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    width: int = 8
    height: int = 7
    red_from: float | None = None
    red_below: float | None = None
    names: dict[str, str] = field(default_factory=dict)
    stacked: bool = False

    def json(self, number: int, x: int, y: int) -> dict[str, Any]:
        """Return Grafana's JSON of this panel at a place of the grid."""
        defaults: dict[str, Any] = {"unit": self.unit, "min": 0, "thresholds": self._thresholds()}
        if self.names:
            options = {value: {"text": text, "index": place} for place, (value, text) in enumerate(self.names.items())}
            defaults["mappings"] = [{"type": "value", "options": options}]
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": DATASOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "fieldConfig": {"defaults": defaults | self._look(), "overrides": []},
            "options": self._options(),
            "targets": [
                {
                    "refId": chr(ord("A") + place),
                    "datasource": DATASOURCE,
                    "expr": query.expr,
                    "legendFormat": query.legend or "__auto",
                    # A number of now needs no history; a line does.
                    "instant": self.kind == "stat",
                    "range": self.kind != "stat",
                }
                for place, query in enumerate(self.queries)
            ],
        }

    def _thresholds(self) -> dict[str, Any]:
        steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
        if self.red_from is not None:
            steps.append({"color": "red", "value": self.red_from})
        if self.red_below is not None:
            steps = [{"color": "red", "value": None}, {"color": "green", "value": self.red_below}]
        return {"mode": "absolute", "steps": steps}

    def _look(self) -> dict[str, Any]:
        if self.kind != "timeseries":
            return {"color": {"mode": "thresholds"}}
        marked = self.red_from is not None or self.red_below is not None
        custom: dict[str, Any] = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": False}
        custom |= {"thresholdsStyle": {"mode": "line" if marked else "off"}}
        custom |= {"stacking": {"mode": "normal" if self.stacked else "none", "group": "A"}}
        return {"color": {"mode": "palette-classic"}, "custom": custom}

    def _options(self) -> dict[str, Any]:
        if self.kind == "stat":
            reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
            return {"reduceOptions": reduce, "colorMode": "background", "graphMode": "none", "textMode": "auto"}
        legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
        return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}


@dataclass(frozen=True)
class Dashboard:
    """A dashboard: its panels flow into rows of the grid in their order."""

    uid: str
    title: str
    description: str
    panels: Sequence[Panel]
    refresh: str = "10s"
    span: str = "now-1h"

    def json(self) -> dict[str, Any]:
        """Return Grafana's JSON."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["graycat"],
            "schemaVersion": SCHEMA_VERSION,
            "editable": False,
            "graphTooltip": 1,
            "refresh": self.refresh,
            "time": {"from": self.span, "to": "now"},
            "timezone": "browser",
            "links": [
                {"type": "dashboards", "title": "graycat", "tags": ["graycat"], "asDropdown": False, "keepTime": True}
            ],
            "annotations": {"list": [ALERTS]},
            "templating": {"list": [CHOICE]},
            "panels": self._placed(),
        }

    def text(self) -> str:
        """Return the file's text."""
        return json.dumps(self.json(), indent=1) + "\n"

    def _placed(self) -> list[dict[str, Any]]:
        placed, x, y, row_height = [], 0, 0, 0
        for number, panel in enumerate(self.panels, 1):
            if x + panel.width > GRID:
                x, y, row_height = 0, y + row_height, 0
            placed.append(panel.json(number, x, y))
            x, row_height = x + panel.width, max(row_height, panel.height)
        return placed


#: Which Prometheus is asked; the first one, where there is one.
CHOICE = {
    "name": "datasource",
    "label": "Prometheus",
    "type": "datasource",
    "query": "prometheus",
    "current": {},
    "hide": 0,
    "refresh": 1,
}
#: Alerts that fire are marked in every graph.
ALERTS = {
    "name": "Alerts",
    "enable": True,
    "iconColor": "red",
    "datasource": DATASOURCE,
    "expr": 'ALERTS{alertstate="firing", alertname=~"Graycat.+"}',
    "titleFormat": "{{alertname}}",
    "textFormat": "{{queue}}{{worker}}{{instance}}",
    "step": "15s",
}


def stat(title: str, description: str, unit: str, expr: str, legend: str = "", **options: Any) -> Panel:
    """Return a number of now."""
    return Panel(title, description, unit, (Query(expr, legend),), "stat", **{"width": 4, "height": 4} | options)


def graph(title: str, description: str, unit: str, *queries: tuple[str, str], **options: Any) -> Panel:
    """Return lines over time."""
    return Panel(title, description, unit, tuple(Query(*query) for query in queries), **options)


def quantiles(title: str, description: str, metric: str, where: str = "", by: str = "", **options: Any) -> Panel:
    """Return the 50th and 95th percentile of a histogram, by a label where one is given."""
    labels, name = (f"le, {by}", f"{{{{{by}}}}} ") if by else ("le", "")
    rate = f"sum by ({labels}) (rate({metric}_bucket{where}[$__rate_interval]))"
    unit = options.pop("unit", SECONDS)
    both = [(f"histogram_quantile({q}, {rate})", f"{name}p{q * 100:.0f}") for q in (0.5, 0.95)]
    return graph(title, description, unit, *both, **options)
