from __future__ import annotations

from typing import Any

import pytest

from graycat.batches import spec
from graycat.batches.labels import MAX_PROMPT_CHARS, MAX_SLUG_CHARS, Labels
from graycat.batches.plan import expand
from graycat.settings import Settings

DWARF, BARD = "a dwarf at the bar", "a bard by the fire"
LONG = "masterpiece, best quality, highly detailed, dramatic light, oil on canvas, "


def labels(*bodies: dict[str, Any]) -> list[str]:
    names = Labels(bodies)
    return [names.label(body) for body in bodies]


def slugs(*bodies: dict[str, Any]) -> list[str]:
    names = Labels(bodies)
    return [names.slug(body) for body in bodies]


@pytest.mark.parametrize(
    ("bodies", "expected"),
    [
        ([{"prompt": DWARF}], [DWARF]),
        ([{"prompt": DWARF, "steps": 20}, {"prompt": BARD, "steps": 20}], [DWARF, BARD]),
        ([{"prompt": DWARF, "steps": 20}, {"prompt": DWARF, "steps": 40}], ["steps 20", "steps 40"]),
        ([{"prompt": DWARF}, {"prompt": DWARF, "cfg_scale": 7.5}], [DWARF, "cfg_scale 7.5"]),
        (
            [{"prompt": DWARF, "sampler_name": "Euler a"}, {"prompt": BARD, "sampler_name": "DPM++ 2M"}],
            [f"{DWARF}, Euler a", f"{BARD}, DPM++ 2M"],
        ),
        (
            [{"prompt": "x", "width": 512, "height": 768}, {"prompt": "x", "width": 768, "height": 768}],
            ["512x768", "768x768"],
        ),
        (
            [{"prompt": "x", "override_settings": {"sd_model_checkpoint": name}} for name in ("a.gguf", "b.gguf")],
            ["a.gguf", "b.gguf"],
        ),
        # The seed has a place of its own, and an image has no words.
        ([{"prompt": "x", "seed": n, "init_images": [str(n)]} for n in range(2)], ["x", "x"]),
        ([{"prompt": "x", "alwayson_scripts": {"a": {}}}, {"prompt": "x", "alwayson_scripts": {}}], ["x", "x"]),
    ],
    ids=lambda value: "",
)
def test_a_label_shows_what_differs(bodies: list[dict[str, Any]], expected: list[str]) -> None:
    assert labels(*bodies) == expected


def test_prompts_that_differ_behind_a_long_beginning_differ_in_names() -> None:
    bodies = [{"prompt": LONG + "a dwarf"}, {"prompt": LONG + "a bard"}]
    assert slugs(*bodies) == ["dwarf", "bard"]
    assert labels(*bodies) == ["dwarf", "bard"]
    # One of them is the beginning of the other.
    assert slugs({"prompt": LONG}, {"prompt": LONG + "a bard"})[1].endswith("a-bard")


def test_a_long_prompt_is_cut_and_stays_on_one_line() -> None:
    (label,) = labels({"prompt": "two\nlines " * 40})
    assert len(label) == MAX_PROMPT_CHARS
    assert "\n" not in label
    assert label.endswith("…")


def test_names_of_files_have_what_differs() -> None:
    document = {"name": "x", "defaults": {"steps": 20}, "seeds": {"policy": "fixed", "seed": 7}}
    document["matrix"] = {"prompts": [DWARF, BARD], "sampler_name": ["Euler a", "DPM++ 2M"]}
    items = expand(spec.parse(document, Settings()), "b1", "e")
    assert [item.file for item in items] == [
        *("1-7-a-dwarf-at-the-bar-euler-a", "2-7-a-dwarf-at-the-bar-dpm-2m"),
        *("3-7-a-bard-by-the-fire-euler-a", "4-7-a-bard-by-the-fire-dpm-2m"),
    ]
    assert items[1].label == f"{DWARF}, DPM++ 2M"


def test_a_name_has_a_bound() -> None:
    bodies = [{"prompt": "x", "negative_prompt": "n" * 900, "styles": "s", f"f{n}": "v" * 99} for n in range(40)]
    assert max(map(len, slugs(*bodies))) <= MAX_SLUG_CHARS + 48
