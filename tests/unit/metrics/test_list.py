"""The list of metrics in docs/monitoring.md is the code's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import NamedTuple

import pytest
from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase

from graycat.metrics import usage, web, worker
from graycat.status import gauges
from tests.support.helpers import ROOT
from tests.support.looks import LOOK

ROW = re.compile(r"^\| `(graycat_\w+)` \| (\w+) \| ([^|]*) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


class Listed(NamedTuple):
    name: str
    type: str
    labels: tuple[str, ...]
    help: str
    where: str


def of_module(module: ModuleType, where: str) -> Iterator[Listed]:
    for metric in vars(module).values():
        if isinstance(metric, MetricWrapperBase):
            # prometheus_client has no public way to a metric's labels.
            name = metric._name + ("_total" if metric._type == "counter" else "")
            yield Listed(name, str(metric._type), tuple(metric._labelnames), str(metric._documentation), where)


def of_families(families: Iterable[Metric], where: str) -> Iterator[Listed]:
    for family in families:
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {tuple(sample.labels) for sample in family.samples}
        assert len(labels) == 1, f"{name}: {labels}"
        yield Listed(name, family.type, labels.pop(), family.documentation, where)


def in_code() -> list[Listed]:
    found = [*of_module(web, "web"), *of_module(worker, "worker"), *of_module(usage, "worker")]
    found += of_families(gauges.FleetGauges(lambda: LOOK).collect(), "web (broker)")
    found += of_families(worker.EngineCounts(lambda: 1, lambda: 1.0).collect(), "worker")
    return found


def in_docs() -> list[Listed]:
    text = (ROOT / "docs" / "monitoring.md").read_text()
    rows = ROW.findall(text)
    return [Listed(n, t, tuple(filter(None, labels.split(", "))), h, w) for n, t, labels, h, w in rows]


@pytest.mark.parametrize("metric", in_code(), ids=lambda metric: f"{metric.where} {metric.name}")
def test_a_metric_has_help_text_and_its_row(metric: Listed) -> None:
    assert metric.help.endswith(".")
    assert metric in in_docs(), f"docs/monitoring.md lacks the row of {metric}"


def test_the_list_has_nothing_else() -> None:
    assert sorted(in_docs()) == sorted(in_code())


def test_names_follow_prometheus() -> None:
    for metric in in_code():
        assert metric.name.endswith("_total") is (metric.type == "counter")
        assert not metric.name.endswith(("_ms", "_count", "_sum", "_bucket"))
