"""What image tasks tell of their pictures; the rest of their answers is in test_sd.py."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.helpers import Valkey
from tests.support.servers import reply
from tests.support.webuis import API, TXT2IMG, accept, answer_of, encoded, image_worker_on
from tests.unit.images.test_made import A1111, SD_SERVER, png

pytestmark = pytest.mark.usefixtures("impatient")

SD_SERVER_LISTS = {
    f"GET {API}progress?skip_current_image=true": reply(404, {}),
    f"GET {API}sd-models": reply(200, [{"title": "tiny", "model_name": "tiny", "hash": "8888888888"}]),
    f"GET {API}samplers": reply(200, [{"name": "default"}, {"name": "euler_a"}, {"name": "dpm++2m"}]),
    f"GET {API}schedulers": reply(200, [{"name": "karras", "label": "karras"}]),
}


def made(picture: bytes, info: Any = "") -> Any:
    return reply(200, {"images": [encoded(picture)], "parameters": {}, "info": info})


def run(broker: Valkey, answers: dict[str, Any], **body: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a render on a scripted engine; return the body that the engine got, and the task's answer."""
    with image_worker_on(broker, answers) as worker:
        task_id = accept(worker, body=json.dumps({"prompt": "a cat"} | body).encode())
        worker.run(task_id)
        assert worker.ended(task_id) == ("succeeded", "200")
        sent = [raw for method, path, raw in worker.seen.requests if f"{method} {path}" == TXT2IMG]
        return json.loads(sent[0]), answer_of(worker, task_id)[1]


def test_an_answer_tells_what_was_made_otherwise(broker: Valkey) -> None:
    _, answer = run(broker, {TXT2IMG: made(png(A1111), '{"seed": 42}')}, seed=7, sampler_name="Euler", steps=20)
    told = [(warning["field"], warning["asked"], warning["made"]) for warning in answer["warnings"]]
    assert told == [("seed", 7, 42), ("sampler_name", "Euler", "DPM++ 2M")]
    assert answer["info"] == '{"seed": 42}'


def test_an_answer_as_asked_has_no_warnings(broker: Valkey) -> None:
    _, answer = run(broker, {TXT2IMG: made(png(A1111), "{}")}, seed=42, sampler_name="DPM++ 2M Karras", steps=20)
    assert "warnings" not in answer


def test_sd_server_is_asked_in_its_own_words_and_its_info_is_its_picture_s(broker: Valkey) -> None:
    answers = SD_SERVER_LISTS | {TXT2IMG: made(png(SD_SERVER))}
    body = {"seed": 2**32 - 1, "sampler_name": "Euler a Karras", "steps": 2, "prompt": "a <lora:ink:1> cat"}
    sent, answer = run(broker, answers, **body)
    assert (sent["seed"], sent["sampler_name"], sent["scheduler"]) == (2**31 - 1, "euler_a", "karras")
    assert [warning["field"] for warning in answer["warnings"]] == ["seed", "prompt"]
    info = json.loads(answer["info"])
    assert (info["seed"], info["sampler_name"], info["sd_model_name"]) == (2**31 - 1, "euler_a", "tiny.safetensors")


def test_sd_server_never_draws_a_seed(broker: Valkey) -> None:
    sent, _ = run(broker, SD_SERVER_LISTS | {TXT2IMG: made(png())}, seed=-1)
    assert 0 <= sent["seed"] < 2**31
