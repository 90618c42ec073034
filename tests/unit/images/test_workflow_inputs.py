from __future__ import annotations

from typing import Any

import pytest

from graycat.errors import LimitExceeded, PromptTooLarge, RequestError
from graycat.images.errors import TooMuchWork
from graycat.images.workflow_inputs import check_input
from graycat.settings import Settings
from tests.support.webuis import encoded, picture

SCHEMA: dict[str, Any] = {
    "properties": {
        "prompt": {"type": "string", "format": "text"},
        "name": {"type": "string"},
        "steps": {"type": "integer", "minimum": 1, "maximum": 20},
        "cfg": {"type": "number", "minimum": 0.5, "maximum": 9},
        "on": {"type": "boolean"},
        "kind": {"enum": ["a", "b"]},
        "picture": {"type": "string", "contentEncoding": "base64"},
        "w": {"type": "integer", "x-input": "width", "default": 64},
        "h": {"type": "integer", "x-input": "height", "default": 64},
    },
    "required": ["prompt"],
}


def check(token_max_pixels: int | None = None, **given: Any) -> dict[str, Any]:
    return check_input(SCHEMA, {"prompt": "a fox"} | given, Settings(), token_max_pixels)


def test_a_well_input_passes() -> None:
    image = encoded(picture())
    given: dict[str, Any] = {
        "steps": 2.0,
        "cfg": 1,
        "on": False,
        "kind": "b",
        "picture": f"data:image/png;base64,{image}",
        "name": None,
    }
    checked = check(**given)
    assert checked == {
        "prompt": "a fox", "steps": 2, "cfg": 1, "on": False, "kind": "b", "picture": image,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"prompt": None}, "input.prompt"),
        ({"prompt": 5}, "input.prompt"),
        ({"prompt": "embedding:/x"}, "input.prompt"),
        ({"name": "/etc/passwd"}, "input.name"),
        ({"name": "http://x"}, "input.name"),
        ({"steps": 0}, "1 to 20"),
        ({"steps": 1.5}, "whole"),
        ({"steps": "5"}, "input.steps"),
        ({"steps": True}, "input.steps"),
        ({"steps": 10**5000}, "input.steps"),
        ({"cfg": float("nan")}, "input.cfg"),
        ({"cfg": float("inf")}, "input.cfg"),
        ({"on": "yes"}, "input.on"),
        ({"kind": "c"}, "'a', 'b'"),
        ({"kind": []}, "input.kind"),
        ({"kind": {}}, "input.kind"),
        ({"picture": "http://x/a.png"}, "input.picture"),
        ({"promt": "x"}, "did you mean 'prompt'"),
    ],
)
def test_a_wrong_input_is_told_by_its_path(given: dict[str, Any], path: str) -> None:
    with pytest.raises(RequestError, match=path):
        check(**given)


@pytest.mark.parametrize("given", [None, [], "x", 5])
def test_an_input_is_an_object(given: Any) -> None:
    with pytest.raises(RequestError, match="object"):
        check_input(SCHEMA, given, Settings())


def test_limits_hold() -> None:
    with pytest.raises(TooMuchWork):
        check(w=100_000, h=100_000)
    with pytest.raises(LimitExceeded):
        check(64 * 64 - 1)
    check(64 * 64)
    with pytest.raises(PromptTooLarge):
        check_input(SCHEMA, {"prompt": "x" * 11}, Settings(max_prompt_chars=10))
