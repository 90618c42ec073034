from __future__ import annotations

import pytest

from graycat.metrics import usage
from tests.support.metered import value


def count(token: str) -> None:
    usage.count(token, "sd", prompt_tokens=0, completion_tokens=0, images=3, engine_ms=1500)


def test_an_ended_task_counts_for_its_token() -> None:
    count("artist")
    count("artist")
    assert value(usage, "graycat_usage_images_total", token="artist") == 6
    assert value(usage, "graycat_usage_gpu_seconds_total", token="artist", family="sd") == 3.0


def test_so_many_api_tokens_are_told_apart_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_tokens", set())
    monkeypatch.setattr(usage, "MAX_TOKENS", 2)
    for name in ("one", "two", "three", "four", "one"):
        count(name)
    names = ("one", "two", "three", usage.OTHER)
    counts = [value(usage, "graycat_usage_requests_total", token=name, family="sd") for name in names]
    assert counts == [2, 1, 0, 2]
