from __future__ import annotations

from dataclasses import replace

import pytest

from graycat.fleet.model_names import choose_model, has_model
from graycat.fleet.reports import WorkerStatus
from graycat.settings import Settings

ALIASES = Settings(model_aliases="gpt-4o-mini=small,gpt-4o=large,gone=nowhere")
SERVE = Settings(unknown_model="serve")


def having(*models: str, name: str = "llm@a") -> WorkerStatus:
    return WorkerStatus(name, ("llm", "llm.batch"), "e", "ready", True, 4, 0, "{}", models=models)


ONE = [having("small"), having("small", name="llm@b")]
TWO = [having("small"), having("large", name="llm@b")]


@pytest.mark.parametrize(
    ("wanted", "fleet", "settings", "chosen"),
    [
        ("", TWO, ALIASES, ("", True, True)),
        ("small", ONE, ALIASES, ("small", True, True)),
        ("/models/small", ONE, ALIASES, ("small", True, True)),
        ("large", TWO, ALIASES, ("large", False, True)),
        ("gpt-4o-mini", ONE, ALIASES, ("small", True, True)),
        ("gpt-4o-mini", TWO, ALIASES, ("small", False, True)),
        ("gpt-4o", ONE, ALIASES, ("large", False, False)),
        ("gone", TWO, ALIASES, ("nowhere", False, False)),
        ("gpt-3", ONE, ALIASES, ("gpt-3", False, False)),
        # A model's own name goes before an alias.
        ("gpt-4o", [having("gpt-4o")], ALIASES, ("gpt-4o", True, True)),
        # Any name is the one model that all have; with two models nobody can tell which.
        ("gpt-3", ONE, SERVE, ("small", True, True)),
        ("gpt-3", TWO, SERVE, ("gpt-3", False, False)),
        ("gpt-3", [having("small", "large")], SERVE, ("gpt-3", False, False)),
        # Nobody has told what there is.
        ("gpt-4o-mini", [], ALIASES, ("small", True, True)),
        ("gpt-3", [having()], SERVE, ("gpt-3", True, True)),
    ],
)
def test_which_model_a_name_means(wanted, fleet, settings, chosen) -> None:
    found = choose_model(wanted, "llm", fleet, settings)
    assert (found.name, found.is_everywhere, found.is_known) == chosen


LOADING = replace(having(name="llm@b"), engine_state="loading")


def test_a_model_that_nobody_ready_has_may_come_with_an_engine_that_loads() -> None:
    assert choose_model("large", "llm", [*ONE[:1], LOADING], Settings()).may_come
    assert choose_model("small", "llm", [*ONE[:1], LOADING], Settings()).is_known
    for other in (having(name="llm@b"), replace(LOADING, crash_loop=True), replace(LOADING, queues=("sd",))):
        assert not choose_model("large", "llm", [*ONE[:1], other], Settings()).may_come


def test_an_engine_has_a_model_by_its_name_its_file_or_its_path() -> None:
    assert all(has_model(name, ("small",)) for name in ("small", "small.gguf", "/m/small.gguf"))
    assert has_model("large", ())
    assert not has_model("large", ("small",))


def test_workers_of_other_queues_do_not_count() -> None:
    images = WorkerStatus("sd@a", ("sd",), "e", "ready", True, 1, 0, "{}", models=("small",))
    assert [worker.name for worker in choose_model("small", "llm", [*TWO, images], SERVE).workers] == ["llm@a"]
