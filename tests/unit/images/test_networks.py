from __future__ import annotations

from typing import Any

import pytest

from graycat.images.engine_names import Unknown
from graycat.images.networks import find_unknown_networks, is_listed

WEBUI: dict[str, Any] = {
    "loras": [{"name": "knights_v2", "alias": "Knights", "path": "C:\\m\\Lora\\old\\knights_v2.safetensors"}, "odd", 5],
    "hypernetworks": [{"name": "ink", "path": "/m/ink.pt"}],
}
COMFYUI: dict[str, Any] = {"engine": {"api": "comfyui"}, "loras": []}


@pytest.mark.parametrize(
    "tag",
    [
        *("lora:knights_v2:1", "lora:Knights", "lora:KNIGHTS:0.5:te=1", "lora:old/knights_v2"),
        *("lora:knights_v2.safetensors",),
        *("lyco:Knights:1", "hypernet:ink:1", "lora:__all__:1"),
    ],
)  # fmt: skip
def test_a_network_is_known_by_each_of_its_names(tag: str) -> None:
    assert find_unknown_networks({"prompt": f"a fox <{tag}>"}, WEBUI) == []


@pytest.mark.parametrize(
    ("body", "unknown"),
    [
        ({"prompt": "a <lora:knight:1> fox"}, Unknown("prompt", "LoRA", "knight", ("knights_v2",))),
        ({"hr_prompt": "<hypernet:zzz>"}, Unknown("hr_prompt", "hypernetwork", "zzz")),
    ],
)
def test_a_network_that_the_engine_does_not_list_is_told(body: dict[str, Any], unknown: Unknown) -> None:
    assert find_unknown_networks(body, WEBUI) == [unknown]


@pytest.mark.parametrize("catalog", [{}, {"loras": []}, {"loras": {"odd": 1}}])
def test_an_engine_that_lists_none_cannot_tell(catalog: dict[str, Any]) -> None:
    assert find_unknown_networks({"prompt": "<lora:x:1>"}, catalog) == []


def test_a_comfyui_without_loras_has_none_and_reads_both_prompts() -> None:
    body = {"prompt": "<lora:x:1>", "negative_prompt": "<lora:y>"}
    assert [unknown.path for unknown in find_unknown_networks(body, COMFYUI)] == ["prompt", "negative_prompt"]
    assert find_unknown_networks({"negative_prompt": "<lora:y>", "hr_prompt": None, "prompt": 5}, WEBUI) == []


def test_entries_of_any_form_are_looked_at() -> None:
    assert is_listed("odd", WEBUI["loras"])
    assert not is_listed("even", [*WEBUI["loras"], None, {"name": 3}])
