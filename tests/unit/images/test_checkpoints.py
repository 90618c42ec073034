from __future__ import annotations

from typing import Any

import pytest

from graycat.images.checkpoints import find_checkpoint, title_of

MODELS: list[Any] = [
    {
        "title": "people/dreamy_v8.safetensors [0123456789]",
        "model_name": "people_dreamy_v8",
        "hash": "0123456789",
        "filename": "/models/people/dreamy_v8.safetensors",
    },
    {"title": "dreamy_v8_inpaint.safetensors", "model_name": "dreamy_v8_inpaint", "hash": None},
    {"model_name": "dogs", "config": None},
    "odd",
]


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("0123456789", "people/dreamy_v8.safetensors [0123456789]"),
        ("dreamy_v8.safetensors", "people/dreamy_v8.safetensors [0123456789]"),
        ("people/dreamy_v8", "people/dreamy_v8.safetensors [0123456789]"),
        # Parts: of two titles the shorter one.
        ("dreamy", "dreamy_v8_inpaint.safetensors"),
        ("INPAINT", "dreamy_v8_inpaint.safetensors"),
        ("people/", "people/dreamy_v8.safetensors [0123456789]"),
        ("dogs", "dogs"),
        *((name, "") for name in ("cats", "dr", ".safetensors", "odd", "")),
    ],
)
def test_a_checkpoint_is_found_as_a_webui_finds_it(name: str, title: str) -> None:
    assert find_checkpoint(name, MODELS) == title


def test_an_entry_has_a_title_or_a_name() -> None:
    assert [title_of(model) for model in MODELS] == [
        *("people/dreamy_v8.safetensors [0123456789]", "dreamy_v8_inpaint.safetensors", "dogs", "")
    ]
