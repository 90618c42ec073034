from __future__ import annotations

from typing import Any

import pytest

from graycat.engines.placeholder import catalog
from graycat.fleet.offers import Offers, loras_in

SAMPLERS = [sampler.to_dict() for sampler in catalog.SAMPLERS.values()]
LISTS: dict[str, Any] = {
    "samplers": SAMPLERS,
    "schedulers": [{"name": "karras", "label": "Karras", "aliases": None}],
    "upscalers": [{"name": "None"}, {"name": "R-ESRGAN 4x+", "model_name": "x4"}],
    "latent-upscale-modes": [{"name": "Latent (nearest)"}],
    "sd-models": [{"title": "one.safetensors [abc]", "model_name": "one"}],
    "sd-vae": [{"model_name": "sharp.pt"}],
    "prompt-styles": [{"name": "oil", "prompt": "x"}],
    "loras": [{"name": "knights_v2", "alias": "knights"}],
}
CHECKPOINT, VAE, LORA = "override_settings.sd_model_checkpoint", "override_settings.sd_vae", "lora in the prompt"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sampler_name", "Euler a"),
        ("sampler_name", "k_euler_a"),
        ("sampler_name", ""),
        ("sampler_name", "DPM++ 2M Karras"),
        ("hr_sampler_name", "Use same sampler"),
        ("scheduler", "karras"),
        ("scheduler", "Karras"),
        ("scheduler", "automatic"),
        ("hr_upscaler", "Latent (nearest)"),
        ("hr_upscaler", "R-ESRGAN 4x+"),
        (CHECKPOINT, "ONE.safetensors"),
        (CHECKPOINT, "one.safetensors [abc]"),
        ("refiner_checkpoint", "None"),
        (VAE, "Automatic"),
        (VAE, "sharp.pt"),
        ("styles", "oil"),
        (LORA, "knights"),
        (LORA, "knights_v2"),
    ],
)
def test_what_an_engine_lists_is_taken(field: str, value: str) -> None:
    assert Offers({"sd@a": {}, "sd@b": LISTS}).complain(field, value) == ""


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("sampler_name", "Eular a", "no engine has the sampler 'Eular a'; did you mean 'Euler a'?"),
        ("sampler_name", "Euler a Karos", "no engine has the sampler 'Euler a Karos'; did you mean 'Euler a'?"),
        ("scheduler", "karas", "no engine has the scheduler 'karas'; did you mean 'Karras'?"),
        ("hr_upscaler", "zzz", "no engine has the upscaler 'zzz'"),
        (CHECKPOINT, "two", "no engine has the checkpoint 'two'"),
        (VAE, "sharp", "no engine has the VAE 'sharp'; did you mean 'sharp.pt'?"),
        ("styles", "olive oil", "no engine has the style 'olive oil'"),
        (LORA, "knight", "no engine has the LoRA 'knight'; did you mean 'knights'?"),
    ],
)
def test_what_no_engine_lists_is_named_with_the_nearest(field: str, value: str, complaint: str) -> None:
    assert Offers({"sd@a": LISTS, "sd@b": {"samplers": "odd"}}).complain(field, value) == complaint


@pytest.mark.parametrize("catalogs", [{}, {"sd@a": {}}, {"sd@a": {"samplers": []}}, {"sd@a": {"samplers": [3, {}]}}])
def test_engines_that_list_nothing_refuse_nothing(catalogs: dict[str, Any]) -> None:
    offers = Offers(catalogs)
    assert (offers.can_tell("sampler_name"), offers.complain("sampler_name", "zzz")) == (False, "")


def test_a_lora_is_known_by_its_file_as_well() -> None:
    offers = Offers({"sd@a": {"loras": [{"name": "knights", "path": "/m/old/knights_v1.safetensors"}]}})
    assert [offers.complain(LORA, name) for name in ("Knights", "old/knights_v1", "knights_v1.safetensors")] == [""] * 3


def test_loras_in_a_prompt() -> None:
    assert list(loras_in("a <lora:knights:0.8> and <lora:b> <lora::1> <hypernet:c:1>")) == ["knights", "b"]
