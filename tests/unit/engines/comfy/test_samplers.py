from __future__ import annotations

import pytest

from graycat.engines.comfy.samplers import SAMPLERS, SCHEDULERS, SamplerNames, label_of_sampler, label_of_scheduler

NAMES = SamplerNames(
    ["euler", "euler_ancestral", "dpmpp_2m", "dpmpp_3m_sde", "uni_pc", "res_own"],
    ["normal", "karras", "exponential", "simple"],
)


@pytest.mark.parametrize(
    ("sampler", "scheduler", "own"),
    [
        ("", "", ("euler", "normal")),
        ("Euler a", "", ("euler_ancestral", "normal")),
        ("euler A", "Automatic", ("euler_ancestral", "normal")),
        ("DPM++ 2M", "", ("dpmpp_2m", "karras")),
        ("DPM++ 2M Karras", "", ("dpmpp_2m", "karras")),
        ("DPM++ 2M Karras", "Simple", ("dpmpp_2m", "simple")),
        ("DPM++ 3M SDE", "automatic", ("dpmpp_3m_sde", "exponential")),
        ("dpmpp_2m", "normal", ("dpmpp_2m", "normal")),
        ("res_own", "Uniform", ("res_own", "normal")),
    ],
)
def test_names_of_a_webui_and_comfyui_s_own_are_found(sampler: str, scheduler: str, own: tuple[str, str]) -> None:
    assert NAMES.find(sampler, scheduler) == own


@pytest.mark.parametrize(
    ("sampler", "scheduler", "wrong"),
    [
        ("Restart", "", "sampler_name"),
        ("Heun", "", "sampler_name"),
        ("Euler", "Beta", "scheduler"),
        ("Karras", "", "sampler_name"),
    ],
)
def test_a_name_that_the_engine_has_not_is_told_by_its_field(sampler: str, scheduler: str, wrong: str) -> None:
    with pytest.raises(KeyError, match=wrong):
        NAMES.find(sampler, scheduler)


def test_the_lists_lead_back_to_the_same_names() -> None:
    for row, own in zip(NAMES.list_samplers(), NAMES.samplers, strict=True):
        assert NAMES.find(row["name"], row["options"]["scheduler"])[0] == own == row["aliases"][0]
    assert [row["label"] for row in NAMES.list_schedulers()] == [
        "Automatic",
        "Normal",
        "Karras",
        "Exponential",
        "Simple",
    ]


def test_each_label_has_a_name_of_its_own() -> None:
    assert len(set(SAMPLERS.values())) == len(SAMPLERS)
    assert [label_of_sampler(own) for own in SAMPLERS.values()] == list(SAMPLERS)
    # "Uniform" is another word for "Normal".
    assert [label_of_scheduler(own) for own in SCHEDULERS.values()] == ["Normal", *list(SCHEDULERS)[1:]]
