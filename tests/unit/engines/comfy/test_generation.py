from __future__ import annotations

from typing import Any

import pytest

from graycat.engines.comfy.catalog import ComfyCatalog
from graycat.engines.comfy.generation import MAX_SEED, Generation, check_prompt, read_generation, seed_of_task
from graycat.engines.comfy.samplers import SamplerNames
from graycat.errors import ModelNotFound, RequestError

NAMES = SamplerNames(["euler", "dpmpp_2m"], ["normal", "karras"])
CATALOG = ComfyCatalog({}, NAMES, ["one.safetensors", "two.ckpt"], ["look.safetensors"], ["fine.pt"], [], [])


def read(**body: Any) -> Generation:
    return read_generation({"prompt": "a fox"} | body, CATALOG, "one.safetensors", "8" * 32)


def test_what_is_left_out_is_a_webui_s_default() -> None:
    made = read()
    assert (made.steps, made.cfg_scale, made.width, made.checkpoint) == (50, 7.0, 512, "one.safetensors")
    assert (made.sampler_label, made.scheduler_label) == ("Euler", "Normal")


def test_a_seed_that_is_left_open_is_the_same_in_each_attempt() -> None:
    assert read(seed=-1).seeds == read(seed=None).seeds == [seed_of_task("8" * 32)]
    assert seed_of_task("9" * 32) != seed_of_task("8" * 32)


def test_seeds_stay_exact_beyond_what_a_float_holds() -> None:
    assert read(seed=2**60 + 1, batch_size=2).seeds == [2**60 + 1, 2**60 + 2]
    assert read(seed=MAX_SEED).seeds == [MAX_SEED]


@pytest.mark.parametrize(
    "body",
    [
        {"seed": MAX_SEED + 1},
        {"seed": True},
        {"seed": "x"},
        {"seed": []},
        {"cfg_scale": "nan"},
        {"cfg_scale": -1},
        {"sampler_name": 5},
        {"override_settings": {"sd_vae": "none.pt"}},
        {"denoising_strength": 2, "init_images": ["x"]},
    ],
)
def test_values_that_it_cannot_take_are_refused(body: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        read(**body)


def test_an_unknown_checkpoint_is_not_replaced() -> None:
    assert read(override_settings={"sd_model_checkpoint": "two"}).checkpoint == "two.ckpt"
    with pytest.raises(ModelNotFound):
        read(override_settings={"sd_model_checkpoint": "three"})


def test_networks_stand_between_the_checkpoint_and_who_uses_it() -> None:
    overrides = {"CLIP_stop_at_last_layers": 2, "sd_vae": "fine.pt"}
    made = read(prompt="a <lora:look:0.5> fox <lora:LOOK>", override_settings=overrides, batch_size=2)
    workflow, saved = made.build({}, "here")
    assert workflow["positive"]["inputs"] == {"clip": ["clip-skip", 0], "text": "a  fox "}
    assert workflow["clip-skip"]["inputs"] == {"clip": ["lora-1", 1], "stop_at_clip_layer": -2}
    assert workflow["lora-1"]["inputs"]["model"] == ["lora-0", 0]
    assert workflow["lora-0"]["inputs"]["model"] == ["checkpoint", 0]
    assert workflow["lora-0"]["inputs"]["strength_clip"] == 0.5
    assert workflow["decoded-1"]["inputs"]["vae"] == ["vae", 0]
    assert saved == ["saved-0", "saved-1"]
    assert workflow["saved-1"]["inputs"]["filename_prefix"] == "here/1"


@pytest.mark.parametrize("text", ["embedding:../x", "embedding:/etc/x", "embedding:C:\\x", "embedding:~/x"])
def test_a_prompt_opens_no_file_elsewhere(text: str) -> None:
    with pytest.raises(RequestError):
        check_prompt(f"a fox, {text}")
    check_prompt("a fox, embedding:easynegative, (embedding:two:1.2)".replace(":1.2", ""))
