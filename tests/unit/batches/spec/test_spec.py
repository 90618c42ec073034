from __future__ import annotations

from typing import Any

import pytest

from graycat.batches import spec
from graycat.batches.errors import MAX_PROBLEMS, InvalidBatch
from graycat.settings import Settings

SETTINGS = Settings()
GOOD: dict[str, Any] = {"name": "tavern", "items": ["a knight"]}


def problems(document: Any, settings: Settings = SETTINGS, **options: Any) -> dict[str, str]:
    """Return what is wrong with a document, by path."""
    with pytest.raises(InvalidBatch) as caught:
        spec.parse(document, settings, **options)
    return dict(caught.value.problems)


def test_a_good_document_is_a_spec() -> None:
    parsed = spec.parse(GOOD, SETTINGS)
    assert (parsed.name, parsed.total, parsed.prompt_request, parsed.document) == ("tavern", 1, None, GOOD)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('name = "tavern"\nitems = ["a knight"]', "toml"),
        ("name: tavern\nitems:\n- a knight", "yaml"),
        ('{"name": "tavern", "items": ["a knight"]}', "json"),
    ],
)
def test_the_same_document_in_every_format(text: str, kind: str) -> None:
    assert spec.load(text, kind) == GOOD


@pytest.mark.parametrize("kind", spec.FORMATS)
def test_a_text_that_is_no_document_is_refused(kind: str) -> None:
    with pytest.raises(InvalidBatch):
        spec.load("[1, 2", kind)


@pytest.mark.parametrize("text", ["- a", "3", "!!python/object/apply:os.system ['true']"])
def test_yaml_makes_nothing_but_plain_objects(text: str) -> None:
    with pytest.raises(InvalidBatch):
        spec.load(text, "yaml")


def test_all_problems_are_reported_at_once_with_their_paths() -> None:
    found = problems(
        {
            "items": [{"prompt": "a", "width": 99999, "steps": "many"}, 3, {}],
            "defaults": {"steps": 9999},
            "output": {"folder": "../elsewhere", "pattern": "{a.b}", "store": "mine", "typo": 1},
            "window": "5-6",
            "timezone": "Nowhere",
            "max_gpus": 0,
            "max_failures": -1,
            "deadline": "soon",
            "webhook": {"url": "ftp://x"},
            "seeds": {"policy": "fixed"},
            "typo": 1,
        }
    )
    assert set(found) == {
        *("name", "items[0].width", "items[0].steps", "items[1]", "items[2]", "defaults.steps"),
        *("output.folder", "output.pattern", "output.store", "output.typo"),
        *("window", "timezone", "max_gpus", "max_failures", "deadline", "webhook", "seeds.seed", "typo"),
    }


def test_a_refusal_tells_so_many_problems_and_how_many_more() -> None:
    error = InvalidBatch([(f"items[{n}]", "no") for n in range(MAX_PROBLEMS + 5)])
    assert str(error).endswith("and 5 more")
    assert len(error.body()["error"]["problems"]) == MAX_PROBLEMS


@pytest.mark.parametrize("document", [[], "text", None, {"name": {1: 2}}, {"name": object()}])
def test_what_is_no_document_is_refused(document: Any) -> None:
    assert problems(document)


def test_limits_of_the_server_and_of_the_token_hold_for_every_item() -> None:
    assert "items[0]" in problems(GOOD | {"defaults": {"width": 1024}}, token_max_pixels=1000)
    small = Settings(batch_max_items=3)
    assert "items" in problems({"name": "x", "items": ["a"] * 4}, small)
    assert "matrix" in problems({"name": "x", "matrix": {"prompt": ["a"] * 4}}, small)
    assert "" in problems({"name": "x", "items": ["a", "b"], "count": 2}, small)


def test_the_digest_is_of_the_images_alone() -> None:
    one = spec.parse(GOOD, SETTINGS)
    assert spec.parse(GOOD | {"name": "other", "deadline": 5}, SETTINGS).digest == one.digest
    assert spec.parse(GOOD | {"count": 2}, SETTINGS).digest != one.digest


def test_dates_of_toml_are_refused_with_a_reason() -> None:
    assert "write it as a text" in str(problems(spec.load("name = 2026-01-01", "toml")))


HALF = "half \ud83d"


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (GOOD | {"name": HALF}, "name"),
        (GOOD | {"items": ["a knight", HALF]}, "items[1]"),
        (GOOD | {"items": [{"prompt": "a", "styles": [HALF]}]}, "items[0].styles[0]"),
        (GOOD | {"defaults": {"negative_prompt": HALF}}, "defaults.negative_prompt"),
        (GOOD | {"defaults": {"a \ud83d": 1}}, "defaults.a \\ud83d"),
        ({"name": "x", "matrix": {"prompts": [HALF]}}, "matrix.prompts[0]"),
        ({"name": "x", "prompts": {"ask": HALF, "count": 1}}, "prompts.ask"),
        (GOOD | {"output": {"pattern": "{item}-\udc00"}}, "output.pattern"),
        (GOOD | {"webhook": {"url": "https://a.example/", "secret": HALF}}, "webhook.secret"),
    ],
)
def test_half_a_character_is_refused_with_its_path(document: Any, path: str) -> None:
    assert list(problems(document)) == [path]
    assert "unpaired surrogate" in problems(document)[path]


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (GOOD | {"name": "a\0b"}, "name"),
        (GOOD | {"items": ["a knight", "\0"]}, "items[1]"),
        (GOOD | {"items": [{"prompt": "a", "styles": ["b\0"]}]}, "items[0].styles[0]"),
        (GOOD | {"defaults": {"negative_prompt": "a\0b"}}, "defaults.negative_prompt"),
        (GOOD | {"defaults": {"a\0": 1}}, "defaults.a\\x00"),
        ({"name": "x", "matrix": {"prompts": ["a\0b"]}}, "matrix.prompts[0]"),
        ({"name": "x", "prompts": {"ask": "a\0b", "count": 1}}, "prompts.ask"),
    ],
)
def test_nul_is_refused_with_its_path(document: Any, path: str) -> None:
    assert list(problems(document)) == [path]
    assert problems(document)[path].startswith("holds the character U+0000 (NUL), ")


def test_nul_in_what_an_earlier_release_accepted_stays() -> None:
    document = GOOD | {"items": ["a\0b"]}
    assert spec.parse(document, SETTINGS, is_accepted=True).images.bodies[0]["prompt"] == "a\0b"


def test_a_whole_character_in_two_escapes_is_one() -> None:
    document = spec.load(r'{"name": "x", "items": ["\ud83d\ude00"]}', "json")
    assert spec.parse(document, SETTINGS).images.bodies[0]["prompt"] == "😀"


def test_a_document_that_is_too_deep_is_refused() -> None:
    deep: Any = "x"
    for _ in range(900):
        deep = [deep]
    with pytest.raises(InvalidBatch):
        spec.parse(GOOD | {"defaults": {"alwayson_scripts": deep}, "mood": 1}, SETTINGS)


@pytest.mark.parametrize("field", ["kind", "workflow"])
def test_a_batch_of_a_workflow_is_told_what_does_that(field: str) -> None:
    with pytest.raises(InvalidBatch, match=f"^{field}: batches make images by txt2img and img2img; a workflow's task"):
        spec.parse({"name": "x", "items": ["a"], field: "sd.workflow/fox"}, Settings())
