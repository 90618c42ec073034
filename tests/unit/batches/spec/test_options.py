from __future__ import annotations

from typing import Any

import pytest

from graycat.batches.spec.options import BatchOptions, parse_stores, read_options
from graycat.batches.spec.reader import FieldReader, Problems
from graycat.settings import Settings


def read_document(settings: Settings = Settings(), **document: Any) -> tuple[BatchOptions, list[str]]:  # noqa: B008 (frozen)
    problems = Problems()
    return read_options(FieldReader(document, "", problems), settings), [path for path, _ in problems.found]


def test_defaults() -> None:
    assert read_document() == (BatchOptions(), [])
    assert BatchOptions().parse_window() is None


def test_all_options_survive_their_record() -> None:
    found, wrong = read_document(
        output={"folder": "x/{date}", "pattern": "{item}"},
        deadline="6h",
        max_failures=3,
        window="01:00-06:00",
        timezone="Europe/Berlin",
        max_gpus=2,
        webhook={"url": "https://a.example/"},
    )
    assert wrong == []
    assert BatchOptions.from_json(found.to_json()) == found
    assert (found.deadline_s, str(found.parse_window())) == (21600.0, "01:00-06:00 Europe/Berlin")
    assert "a.example" not in repr(found)


def test_a_folder_may_stand_alone() -> None:
    assert read_document(output="tavern")[0].folder == "tavern"


@pytest.mark.parametrize(("store", "wrong"), [("art", []), ("other", ["output.store"])])
def test_a_store_is_one_that_the_operator_names(store: str, wrong: list[str]) -> None:
    settings = Settings(batch_stores="art=s3://bucket/art,wall=file:///srv/wall")
    assert read_document(settings, output={"store": store})[1] == wrong
    assert parse_stores(settings) == {"art": "s3://bucket/art", "wall": "file:///srv/wall"}
