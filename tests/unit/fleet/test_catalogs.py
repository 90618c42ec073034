from __future__ import annotations

import json
from dataclasses import replace

import pytest

from graycat.fleet.catalogs import Catalogs, requested_checkpoint, workers_with
from graycat.fleet.reports import WorkerStatus
from graycat.fleet.workers import WorkerRegistry
from tests.support.helpers import Valkey

STATUS = WorkerStatus("sd@a", ("sd",), "webui", "ready", True, 1, 0, "", catalog="v1")


def catalog(title: str) -> dict[str, bytes]:
    return {
        "sd-models": json.dumps([{"title": f"{title}.safetensors [abc]", "filename": f"C:\\m\\{title}.x"}]).encode()
    }


def test_catalogs_are_read_when_they_are_new(broker: Valkey) -> None:
    fleet = WorkerRegistry(broker.client)
    catalogs = Catalogs(fleet)
    fleet.report(STATUS, catalog("one"))
    assert list(catalogs.load([STATUS])) == ["sd@a"]
    newer = replace(STATUS, catalog="v2")
    fleet.report(newer, catalog("two"))
    assert workers_with("two.safetensors", catalogs.load([newer])) == ["sd@a"]
    assert workers_with("one.safetensors", catalogs.load([newer])) == []
    assert catalogs.load([]) == {}


@pytest.mark.parametrize("name", ["one.safetensors [abc]", "ONE.safetensors", "one.x"])
def test_a_checkpoint_has_several_names(name: str) -> None:
    models = json.loads(catalog("one")["sd-models"])
    assert workers_with(name, {"a": {"sd-models": models}, "b": {"sd-models": ["odd"]}, "c": {}}) == ["a"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"override_settings": {"sd_model_checkpoint": "x"}}, "x"),
        ({"override_settings": {"sd_model_checkpoint": 3}}, ""),
        ({"override_settings": []}, ""),
        ({}, ""),
    ],
)
def test_what_a_request_names(body: dict[str, object], expected: str) -> None:
    assert requested_checkpoint(body) == expected
