from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from graycat.errors import ModelNotFound, RequestError, UnsupportedParameter
from graycat.fleet.catalogs import (
    Catalogs,
    find_unsupported,
    requested_checkpoint,
    seed_limit,
    workers_for,
    workers_with,
)
from graycat.fleet.reports import WorkerStatus
from graycat.fleet.workers import WorkerRegistry
from graycat.images.errors import UnknownName
from tests.support.helpers import Valkey

STATUS = WorkerStatus("sd@a", ("sd",), "webui", "ready", True, 1, 0, "", catalog="v1")


def catalog(title: str) -> dict[str, bytes]:
    return {
        "sd-models": json.dumps([{"title": f"{title}.safetensors [abc]", "filename": f"C:\\m\\{title}.x"}]).encode()
    }


def test_catalogs_are_read_when_they_are_new(broker: Valkey) -> None:
    fleet = WorkerRegistry(broker.client)
    catalogs = Catalogs(fleet)
    fleet.report(STATUS, catalog("one"))
    assert list(catalogs.load([STATUS])) == ["sd@a"]
    newer = replace(STATUS, catalog="v2")
    fleet.report(newer, catalog("two"))
    assert workers_with("two.safetensors", catalogs.load([newer])) == ["sd@a"]
    assert workers_with("one.safetensors", catalogs.load([newer])) == []
    assert catalogs.load([]) == {}


@pytest.mark.parametrize("name", ["one.safetensors [abc]", "ONE.safetensors", "one.x"])
def test_a_checkpoint_has_several_names(name: str) -> None:
    models = json.loads(catalog("one")["sd-models"])
    assert workers_with(name, {"a": {"sd-models": models}, "b": {"sd-models": ["odd"]}, "c": {}}) == ["a"]


SAMPLERS: dict[str, Any] = {
    "samplers": [{"name": "Euler a", "aliases": []}],
    "schedulers": [{"name": "karras", "label": "Karras"}],
}
OTHERS: dict[str, Any] = {"samplers": [{"name": "euler_a"}, {"name": "lcm"}], "schedulers": [{"name": "karras"}]}
FLEET: dict[str, dict[str, Any]] = {
    "a": SAMPLERS | {"sd-models": [{"title": "one"}, {"title": "dreamy_v8"}]},
    "b": OTHERS | {"sd-models": [{"title": "one"}, {"title": "dreamy_v8_inpaint"}]},
    "c": {"sd-models": [{"title": "one"}]},
}


@pytest.mark.parametrize(
    ("body", "workers"),
    [
        ({}, ["a", "b", "c"]),
        ({"sampler_name": "Euler a Karras"}, ["a", "b", "c"]),
        # Nobody knows which samplers the third engine has.
        ({"sampler_name": "LCM"}, ["b", "c"]),
        ({"override_settings": {"sd_model_checkpoint": "dreamy"}}, ["a"]),
        ({"override_settings": {"sd_model_checkpoint": "inpaint"}, "sampler_name": "lcm"}, ["b"]),
        ({"hr_checkpoint_name": "dreamy_v8", "refiner_checkpoint": "None"}, ["a"]),
    ],
    ids=str,
)
def test_work_goes_to_the_engines_that_have_all_that_it_names(body: dict[str, Any], workers: list[str]) -> None:
    assert list(workers_for(body, FLEET)) == workers
    assert workers_for(body, {}) == []


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"override_settings": {"sd_model_checkpoint": "cats"}}, ModelNotFound),
        ({"refiner_checkpoint": "cats"}, ModelNotFound),
        ({"override_settings": {"sd_model_checkpoint": "dreamy_v8"}, "sampler_name": "LCM"}, UnknownName),
        ({"override_settings": {"sd_model_checkpoint": "inpaint"}, "refiner_checkpoint": "dreamy_v8"}, RequestError),
    ],
    ids=str,
)
def test_what_no_engine_has_is_refused(body: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        workers_for(body, FLEET)


@pytest.mark.parametrize("field", ["hr_checkpoint_name", "refiner_checkpoint"])
def test_an_unknown_checkpoint_of_a_further_pass_is_told_with_its_field(field: str) -> None:
    with pytest.raises(ModelNotFound, match=f"^'{field}': no engine serves the model 'cats'"):
        workers_for({field: "cats"}, FLEET)


@pytest.mark.parametrize("body", [{"sampler_index": "Euler b"}, {"sampler_index": "Euler b", "sampler_name": ""}])
def test_an_unknown_sampler_in_the_old_field_is_told_with_that_field(body: dict[str, Any]) -> None:
    with pytest.raises(UnknownName, match="^'sampler_index': no image engine has the sampler 'Euler b'") as caught:
        workers_for(body, {"a": SAMPLERS})
    assert caught.value.path == "sampler_index"


def test_an_unknown_name_is_told_with_the_nearest_ones() -> None:
    with pytest.raises(UnknownName, match="'sampler_name': no image engine has the sampler 'Euler b'; did you mean"):
        workers_for({"sampler_name": "Euler b"}, {"a": SAMPLERS, "b": OTHERS})
    with pytest.raises(UnknownName) as caught:
        workers_for({"hr_scheduler": "zzz"}, {"a": SAMPLERS})
    assert (caught.value.path, caught.value.type, caught.value.status) == ("hr_scheduler", "unknown_name", 400)


def test_a_lora_that_some_engines_have_goes_to_these_and_another_is_refused() -> None:
    fleet = {"a": {"loras": [{"name": "knights"}]}, "b": {"loras": [{"name": "cats"}]}}
    assert list(workers_for({"prompt": "<lora:knights:1>"}, fleet)) == ["a"]
    with pytest.raises(UnknownName, match="^'prompt': no image engine has the LoRA 'knight'; did you mean 'knights'"):
        workers_for({"prompt": "<lora:knight:1>"}, fleet)


@pytest.mark.parametrize(
    ("props", "limit"),
    [('{"engine": "sd-server"}', 2**31), ('{"engine": "new"}', None), ("{}", None), ("[]", None), ("", None)],
)
def test_an_engine_that_loses_large_seeds_is_known_by_its_report(props: str, limit: int | None) -> None:
    assert seed_limit(replace(STATUS, props=props)) == limit


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"override_settings": {"sd_model_checkpoint": "x"}}, "x"),
        ({"override_settings": {"sd_model_checkpoint": 3}}, ""),
        ({"override_settings": []}, ""),
        ({}, ""),
    ],
)
def test_what_a_request_names(body: dict[str, object], expected: str) -> None:
    assert requested_checkpoint(body) == expected


COMFYUI: dict[str, dict[str, Any]] = {"engine": {"api": "comfyui"}}
HIRES = {"prompt": "a fox", "enable_hr": True}


def test_what_a_comfyui_cannot_do_goes_to_another_engine() -> None:
    assert workers_for(HIRES, {"a": COMFYUI, "b": {}}) == ["b"]
    assert workers_for({"image": "x"}, {"a": COMFYUI, "b": {}}, "interrogate") == ["b"]
    assert workers_for({"prompt": "a fox"}, {"a": COMFYUI, "b": {}}) == ["a", "b"]


def test_what_no_engine_can_do_is_refused() -> None:
    for body, call, param in ((HIRES, "txt2img", "enable_hr"), ({"image": "x"}, "interrogate", "interrogate")):
        with pytest.raises(UnsupportedParameter) as refused:
            workers_for(body, {"a": COMFYUI, "b": COMFYUI}, call)
        assert refused.value.param == param
    refusal = find_unsupported(HIRES, {"a": COMFYUI})
    assert refusal is not None
    assert refusal.param == "enable_hr"
    assert find_unsupported(HIRES, {}) is None
    # A box may tell anything.
    odd: dict[str, Any] = {"engine": ["comfyui"]}
    assert find_unsupported(HIRES, {"a": COMFYUI, "b": odd}) is None
