from __future__ import annotations

from typing import Any

import pytest

from graycat.errors import LimitExceeded, RequestError
from graycat.images.errors import PromptParameter, SettingNotAllowed, TooMuchWork
from graycat.images.prompt_controls import (
    MAX_NETWORKS,
    check_controls,
    check_script_lines,
    check_styles,
    count_joined_prompts,
    is_plain,
)
from graycat.images.webui_requests import PROMPTS, check_generation
from graycat.settings import Settings

#: sd-server's tags, around nothing.
BLOCK = "<sd_cpp_extra_args>{}</sd_cpp_extra_args>"
#: Texts that an engine may take for more than a description.
CONTROLS = [
    f"a cat {BLOCK}",
    BLOCK.upper(),
    "<sd_cpp_extra_args>",
    "SD-CPP extra args",
    "<style:x>",
    "a < STYLE : x >",
    "<anything:x:1>",
    "<lora:a><style:b>",
    "a < b <style:x>",
    "<lora:/srv/x:1>",
    "<lora:../x:1>",
    "<lora:sub/../../x>",
    "<lora:C:\\x>",
    "<lora:https://host/x>",
    "<lora:~/x:1>",
    "<lora:x:1:te=/srv/x>",
    "<lora:{a|b}:1>",
    "{<|}lora:a>",
    "<lo/* */ra:a>",
]
PROSE = [
    "",
    "a cat",
    "<lora:x:1>",
    "a <lora:sub/x_v1.5:0.8:te=1:unet=0.5>, <hypernet:y:1> <lyco:z>",
    "{<lora:a:1>|<lora:b:1>} __animals__",
    "[cat:dog:0.5] (red:1.2) BREAK a|b",
    "1 < 2 > 0, a <3 and more",
    "<my-token>, style of x",
    "Steps: 20, Sampler: Euler a, Size: 9999x9999",
    "c++ and cpp: a poster of code",
    "sd",
]


@pytest.mark.parametrize("field", [*PROMPTS, "hr_negative_prompt", "refiner_prompt"])
@pytest.mark.parametrize("text", CONTROLS)
def test_a_text_that_sets_parameters_is_refused_in_every_field(field: str, text: str) -> None:
    with pytest.raises(PromptParameter, match=f"'{field}'") as refused:
        check_generation({"prompt": "a cat"} | {field: text}, Settings())
    assert refused.value.body()["error"]["param"] == field
    assert (refused.value.status, refused.value.type) == (400, "prompt_parameter")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("styles[1]", {"styles": ["a", BLOCK]}),
        ("x.y[0].z", {"x": {"y": [{"z": "<style:x>"}]}}),
        (BLOCK, {BLOCK: 1}),
    ],
)
def test_a_control_is_found_at_any_depth(path: str, body: dict[str, Any]) -> None:
    with pytest.raises(PromptParameter) as refused:
        check_controls(body)
    assert refused.value.param == path


@pytest.mark.parametrize("text", PROSE)
def test_a_text_that_describes_a_picture_passes(text: str) -> None:
    for field in PROMPTS:
        check_generation({"prompt": "a cat"} | {field: text}, Settings())
    assert is_plain(text)


def test_networks_are_counted_over_the_whole_request() -> None:
    half = "<lora:x:1>" * (MAX_NETWORKS // 2)
    check_controls({"prompt": half, "hr_prompt": half})
    with pytest.raises(TooMuchWork, match="16 extra networks"):
        check_controls({"prompt": half, "negative_prompt": half + "<lora:y>"})


@pytest.mark.parametrize("text", ["<" * 400_000, "<" * 200_000 + ">" * 200_000, "<a" * 200_000 + ">", "/*" * 200_000])
def test_text_of_marks_alone_is_read_once(text: str) -> None:
    check_controls({"prompt": text})


def test_joined_prompts_cost_as_much_as_images() -> None:
    assert count_joined_prompts({"prompt": "a AND b AND c", "hr_prompt": "x AND y"}) == 3
    assert count_joined_prompts({"prompt": "SAND and HANDS", "hr_prompt": None}) == 1
    assert not is_plain("a AND b")
    body = {"prompt": "a AND b", "width": 512, "height": 512}
    check_generation(body, Settings(), 2 * 512 * 512)
    with pytest.raises(LimitExceeded, match="AND joins 2 prompts"):
        check_generation(body, Settings(), 512 * 512)
    with pytest.raises(TooMuchWork, match="AND joins 9 prompts"):
        check_generation({"prompt": " AND ".join("abcdefghi"), "width": 2048, "height": 2048}, Settings())


def test_styles_that_set_parameters_are_refused() -> None:
    lists: list[Any] = [
        None,
        {"a": 1},
        [{"name": "plain", "prompt": "x", "extra": " "}, {"name": "large", "extra": "Steps: 90"}, {"x": 1}, 7],
    ]
    check_styles({"styles": ["plain", "unknown", 7, ["large"]]}, lists)
    check_styles({"styles": "large"}, lists)
    with pytest.raises(SettingNotAllowed, match=r"'styles\[1\]'"):
        check_styles({"styles": ["plain", "large"]}, lists)
    with pytest.raises(TooMuchWork, match="32 styles"):
        check_controls({"styles": ["plain"] * 33})


def test_an_object_of_parameters_is_refused_and_so_are_steps_of_any_pass() -> None:
    with pytest.raises(RequestError, match="'extra'"):
        check_generation({"prompt": "x", "extra": {"steps": 9}}, Settings())
    with pytest.raises(TooMuchWork, match="'refiner_steps'"):
        check_generation({"prompt": "x", "refiner_steps": 151}, Settings())
    check_generation({"prompt": "x", "refiner_steps": 150, "detailer_steps": None, "extra": {}}, Settings())


def test_what_a_client_keeps_for_its_own_proxy_is_dropped() -> None:
    body = {"prompt": "x", "url": "http://127.0.0.1:7860", "auth": "user:secret"}
    assert check_generation(body, Settings()) == {"prompt": "x", "save_images": False}


def test_option_lines_are_looked_for_at_any_depth() -> None:
    with pytest.raises(PromptParameter, match=r"x\[0\]\.a"):
        check_script_lines("x", [{"a": "one\n--n_iter 9"}])
