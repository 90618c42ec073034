"""Names of samplers and others, held against the lists of engines: A1111's, sd-server's, xinference's."""

from __future__ import annotations

from typing import Any

import pytest

from graycat.images.engine_names import NAMED_FIELDS, SAMPLER, Unknown, fold, resolve

A1111: dict[str, Any] = {
    "samplers": [
        {"name": "DPM++ 2M", "aliases": ["k_dpmpp_2m"], "options": {}},
        {"name": "DPM++ 2M SDE", "aliases": ["k_dpmpp_2m_sde"], "options": {}},
        {"name": "Euler a", "aliases": ["k_euler_a", "k_euler_ancestral"], "options": {}},
        {"name": "Euler", "aliases": ["k_euler"], "options": {}},
        {"name": "DDIM", "aliases": ["ddim"], "options": {}},
    ],
    "schedulers": [
        {"name": "automatic", "label": "Automatic", "aliases": None},
        {"name": "karras", "label": "Karras", "aliases": None},
        {"name": "sgm_uniform", "label": "SGM Uniform", "aliases": ["SGMUniform"]},
    ],
    "upscalers": [{"name": "None"}, {"name": "Lanczos"}],
    "latent-upscale-modes": [{"name": "Latent"}, {"name": "Latent (nearest-exact)"}],
    "sd-vae": [{"model_name": "kl-f8.pt", "filename": "/m/kl-f8.pt"}],
    "prompt-styles": [{"name": "ink"}],
}
#: As the real one lists them (stable-diffusion-cpp-python 0.4.7).
SD_SERVER: dict[str, Any] = {
    "samplers": [
        {"name": name, "aliases": [name], "options": {}}
        for name in ("default", "euler", "euler_a", "dpm2", "dpm++2s_a", "dpm++2m", "ddim_trailing")
    ],
    "schedulers": [{"name": name, "label": name} for name in ("default", "discrete", "karras", "ays", "sgm_uniform")],
}
#: It parts no sampler from its scheduler, and lists no schedulers.
XINFERENCE: dict[str, Any] = {
    "samplers": [{"name": name, "alias": [], "options": {}} for name in ("default", "DPM++ 2M", "DPM++ 2M Karras")]
}


def sent(catalog: dict[str, Any], **body: Any) -> dict[str, Any]:
    resolved = resolve(body, catalog)
    assert resolved.unknown == []
    return resolved.body


@pytest.mark.parametrize("name", ["Euler a", "EULER A", "euler_a", "k_euler_a", "k_euler_ancestral", "Euler-A"])
@pytest.mark.parametrize(("catalog", "own"), [(A1111, "Euler a"), (SD_SERVER, "euler_a")])
def test_a_sampler_is_spelt_as_its_engine_spells_it(catalog: dict[str, Any], own: str, name: str) -> None:
    assert sent(catalog, sampler_name=name) == {"sampler_name": own}


@pytest.mark.parametrize(
    ("catalog", "body", "expected"),
    [
        (A1111, {"sampler_name": "DPM++ 2M Karras"}, ("DPM++ 2M", "karras")),
        (A1111, {"sampler_name": "DPM++ 2M Karras", "scheduler": "automatic"}, ("DPM++ 2M", "karras")),
        (A1111, {"sampler_name": "DPM++ 2M Karras", "scheduler": "SGM Uniform"}, ("DPM++ 2M", "sgm_uniform")),
        (A1111, {"sampler_name": "DPM++ 2M SDE SGM Uniform"}, ("DPM++ 2M SDE", "sgm_uniform")),
        (A1111, {"sampler_index": "Euler"}, ("Euler", None)),
        (A1111, {"sampler_name": "default", "scheduler": "Automatic"}, (None, "automatic")),
        (SD_SERVER, {"sampler_name": "DPM++ 2M Karras"}, ("dpm++2m", "karras")),
        (SD_SERVER, {"sampler_name": "DPM++ 2S a", "scheduler": "automatic"}, ("dpm++2s_a", None)),
        (SD_SERVER, {"sampler_name": "DDIM", "scheduler": "Align Your Steps"}, ("ddim_trailing", "ays")),
        (SD_SERVER, {"sampler_index": "Euler", "sampler_name": ""}, ("euler", None)),
        (XINFERENCE, {"sampler_name": "dpm++ 2m karras", "scheduler": "Karras"}, ("DPM++ 2M Karras", "Karras")),
    ],
    ids=str,
)
def test_a_sampler_s_old_name_is_parted_from_its_scheduler(
    catalog: dict[str, Any], body: dict[str, Any], expected: tuple[str | None, str | None]
) -> None:
    resolved = sent(catalog, **body)
    assert (resolved.get("sampler_name"), resolved.get("scheduler")) == expected


@pytest.mark.parametrize(
    ("catalog", "body", "unknown"),
    [
        (A1111, {"sampler_name": "Euler b"}, Unknown("sampler_name", "sampler", "Euler b", ("Euler a", "Euler"))),
        (A1111, {"sampler_name": "DPM++ 2M Carras"}, Unknown("sampler_name", "sampler", "DPM++ 2M Carras")),
        (SD_SERVER, {"sampler_name": "DPM2 a"}, Unknown("sampler_name", "sampler", "DPM2 a")),
        (SD_SERVER, {"scheduler": "KL Optimal"}, Unknown("scheduler", "scheduler", "KL Optimal")),
        (A1111, {"hr_sampler_name": "Nothing"}, Unknown("hr_sampler_name", "sampler", "Nothing")),
        (A1111, {"hr_upscaler": "ESRGAN"}, Unknown("hr_upscaler", "upscaler", "ESRGAN")),
        (A1111, {"styles": ["ink", "oil"]}, Unknown("styles", "style", "oil")),
        (
            A1111,
            {"override_settings": {"sd_vae": "none.pt"}},
            Unknown("override_settings.sd_vae", "VAE", "none.pt"),
        ),
    ],
    ids=str,
)
def test_a_name_that_the_engine_would_replace_is_found(
    catalog: dict[str, Any], body: dict[str, Any], unknown: Unknown
) -> None:
    (found,) = resolve(body, catalog).unknown
    assert (found.path, found.what, found.name) == (unknown.path, unknown.what, unknown.name)
    assert set(unknown.nearest) <= set(found.nearest)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"sampler_name": None, "scheduler": 5, "styles": [], "override_settings": []},
        {"hr_sampler_name": "Use same sampler", "hr_scheduler": "Use same scheduler", "hr_upscaler": "Latent"},
        {"override_settings": {"sd_vae": "Automatic"}},
        {"upscaler_1": "None", "upscaler_2": ""},
        {"styles": ["ink"]},
    ],
    ids=str,
)
def test_what_names_nothing_or_what_is_there_stays(body: dict[str, Any]) -> None:
    assert resolve(body, A1111).body == body
    assert resolve(body, A1111).unknown == []


@pytest.mark.parametrize("catalog", [{}, {"samplers": {}, "schedulers": None}])
def test_an_engine_without_lists_is_not_second_guessed(catalog: dict[str, Any]) -> None:
    body = {"sampler_name": "anything", "scheduler": "any", "hr_upscaler": "x", "styles": ["y"]}
    assert resolve(body, catalog).body == body
    assert resolve(body, catalog).unknown == []


def test_lists_of_any_form_are_read() -> None:
    entries = ["Euler", 5, {"name": 3}, {"aliases": "x"}, {"name": "", "aliases": ["k_lms"]}]
    assert SAMPLER.known({"samplers": entries}) == {"euler": "Euler", "x": "x", "lms": "k_lms"}


def test_all_named_fields_are_different() -> None:
    assert len({named.path for named in NAMED_FIELDS}) == len(NAMED_FIELDS)


def test_spellings_of_other_things_stay_apart() -> None:
    names = ["Euler", "Euler a", "DPM2", "DPM2 a", "DPM++ 2M", "dpm++2mv2", "DPM++ 2M SDE", "Heun", "LMS", "LCM"]
    assert len({fold(name) for name in names}) == len(names)


@pytest.mark.parametrize("name", ["DPM++ 2M Karras", "dpm++_2m_karras", "dpmpp_2m_karras", "k_dpmpp_2m_karras"])
def test_a_scheduler_behind_a_sampler_is_found_in_any_spelling(name: str) -> None:
    lists = {"samplers": [{"name": "DPM++ 2M"}], "schedulers": [{"name": "karras", "label": "Karras"}]}
    resolved = resolve({"sampler_name": name}, lists)
    assert resolved.unknown == []
    assert resolved.body == {"sampler_name": "DPM++ 2M", "scheduler": "karras"}
