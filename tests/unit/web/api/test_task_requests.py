from __future__ import annotations

import io
import json
from hashlib import sha256
from typing import Any

import gevent
import pytest
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder, run_wsgi_app

from graycat.auth.minted import Grant
from graycat.errors import GraycatError, PromptTooLarge, RequestError, TooComplex, UnsupportedParameter
from graycat.images.errors import TooMuchWork
from graycat.queue import kinds
from graycat.queue.topology import BATCH_QUEUE_TTL_S
from graycat.web.api.task_requests import KINDS, batch_queue, digest, parse_task_request, scoped_ids
from graycat.web.encoding import JsonWriter
from graycat.web.services import services_of
from tests.support.helpers import BEARER

pytestmark = pytest.mark.usefixtures("as_caller")

NO_PRIORITIES: tuple[Any, ...] = ([], {}, 0, False, "", ["batch"], 1, "Batch")
COMPLETION: dict[str, Any] = {"kind": "llm.completion", "input": {"prompt": "Hi"}}


def test_a_body_becomes_a_submission() -> None:
    submission = parse_task_request(COMPLETION | {"queue_ttl_s": 5, "exec_timeout_s": 2.5}).submission
    assert (submission.kind, submission.queue, submission.mode) == (kinds.COMPLETION, "llm", "live")
    assert json.loads(submission.body) == {"prompt": "Hi", "stream": True}
    assert (submission.owner, submission.request_id) == ("tests", "r-1")
    assert (submission.queue_ttl_s, submission.exec_timeout_s) == (5.0, 2.5)
    assert submission.shown == {"priority": "interactive"}


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ({"prompt": "Hi", "stream": True}, "stream"),
        ({"prompt": "Hi"}, "live"),
        # Its whole answer cannot be put together from a stream.
        ({"prompt": ["a", "b"]}, "plain"),
    ],
)
def test_a_completion_is_followed_live_wherever_that_is_exact(given: dict[str, Any], mode: str) -> None:
    assert parse_task_request({"kind": "llm.completion", "input": given}).submission.mode == mode


def test_images_are_submitted_by_their_kind() -> None:
    submission = parse_task_request({"kind": "sd.txt2img", "input": {"prompt": "a fox"}}).submission
    assert (submission.kind, submission.queue, submission.mode) == (kinds.TXT2IMG, "sd", "plain")
    assert json.loads(submission.body)["prompt"] == "a fox"


@pytest.mark.parametrize("kind", ["sd.txt2img", "sd.img2img"])
def test_a_misspelt_field_of_an_image_is_refused_with_its_path(kind: str) -> None:
    with pytest.raises(UnsupportedParameter, match=r"did you mean 'cfg_scale'\?") as caught:
        parse_task_request({"kind": kind, "input": {"prompt": "a fox", "cfg_scal": 5}})
    assert caught.value.param == "input.cfg_scal"


@pytest.mark.parametrize(
    ("kind", "field"),
    [("sd.extra_single", "upscaler_11"), ("sd.extra_batch", "upscaler_11"), ("sd.interrogate", "modell")],
)
def test_a_misspelt_field_of_another_image_call_is_refused_with_its_path(kind: str, field: str) -> None:
    with pytest.raises(UnsupportedParameter, match=r"did you mean '(upscaler_1|model)'\?") as caught:
        parse_task_request({"kind": kind, "input": {"image": "", field: 5}})
    assert caught.value.param == f"input.{field}"


def test_every_kind_that_runs_without_the_admin_scope_can_be_submitted() -> None:
    assert {"llm.completion", "llm.chat", "llm.embeddings", "llm.tokenize", "sd.txt2img", "sd.img2img"} <= set(KINDS)
    assert not {"llm.set_lora_adapters", "sd.set_options", "llm.slots"} & set(KINDS)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({}, "'kind' must be one of"),
        ({"kind": "llm.nothing", "input": {}}, "'kind' must be one of"),
        ({"kind": "sd.txt2im", "input": {}}, "did you mean 'sd.txt2img'?"),
        ({"kind": "sd.workflows/fox", "input": {}}, "sd.workflow/NAME"),
        ({"kind": ["llm.completion"], "input": {}}, "'kind' must be one of"),
        ({"kind": "sd.set_options", "input": {}}, "'kind' must be one of"),
        *(({**COMPLETION, "priority": priority}, "'priority' must be one of") for priority in NO_PRIORITIES),
        ({"kind": "llm.completion"}, "'input' is required"),
        ({"kind": "llm.completion", "input": "Hi"}, "'input' is required"),
        ({"kind": "llm.completion", "input": {}}, "'prompt' is required"),
        (COMPLETION | {"prompt": "Hi"}, "unknown field 'prompt'"),
        (COMPLETION | {"priority": "urgent"}, "'priority' must be one of"),
        (COMPLETION | {"priority": ["batch"]}, "'priority' must be one of"),
        (COMPLETION | {"queue_ttl_s": 0}, "'queue_ttl_s' must be a number"),
        (COMPLETION | {"queue_ttl_s": True}, "'queue_ttl_s' must be a number"),
        (COMPLETION | {"queue_ttl_s": "5"}, "'queue_ttl_s' must be a number"),
        (COMPLETION | {"exec_timeout_s": -1}, "'exec_timeout_s' must be a number"),
        (COMPLETION | {"exec_timeout_s": 8 * 24 * 3600}, "'exec_timeout_s' must be a number"),
        (COMPLETION | {"metadata": "mine"}, "'metadata' must be an object"),
        (COMPLETION | {"metadata": {"x": "y" * 20_000}}, "'metadata' may have"),
    ],
)
def test_a_body_that_cannot_be_used_is_refused_with_its_reason(body: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RequestError, match=complaint):
        parse_task_request(body)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"kind": "llm.completion", "input": {"prompt": "x" * 400_001}}, PromptTooLarge),
        ({"kind": "sd.txt2img", "input": {"prompt": "x" * 400_001}}, PromptTooLarge),
        ({"kind": "llm.chat", "input": {"messages": [], "tools": [{}] * 257}}, TooComplex),
        ({"kind": "llm.tokenize", "input": {"content": ["x"] * 4097}}, TooComplex),
        ({"kind": "sd.txt2img", "input": {"prompt": "x", "width": 8192, "height": 8192}}, TooMuchWork),
    ],
)
def test_what_the_kind_s_own_route_refuses_is_refused(body: dict[str, Any], error: type[GraycatError]) -> None:
    with pytest.raises(error):
        parse_task_request(body)


@pytest.mark.parametrize(
    ("queue", "batch"),
    [
        ("llm", "llm.batch"),
        ("llm:a-model", "llm.batch:a-model"),
        ("sd:@sd@box", "sd.batch:@sd@box"),
        ("llm.quick", "llm.quick"),
    ],
)
def test_batch_work_has_a_queue_beside_each_that_needs_the_gpu(queue: str, batch: str) -> None:
    assert batch_queue(queue) == batch


def test_a_batch_task_may_wait_long_unless_it_sets_a_ttl() -> None:
    submission = parse_task_request(COMPLETION | {"priority": "batch"}).submission
    assert (submission.queue, submission.queue_ttl_s) == ("llm.batch", BATCH_QUEUE_TTL_S)
    assert parse_task_request(COMPLETION | {"priority": "batch", "queue_ttl_s": 9}).submission.queue_ttl_s == 9


def test_metadata_travels_with_the_task() -> None:
    shown = parse_task_request(COMPLETION | {"metadata": {"player": 7, "ü": None}}).submission.shown
    assert shown is not None
    assert json.loads(shown["metadata"]) == {"player": 7, "ü": None}


def test_the_order_of_fields_does_not_make_another_request() -> None:
    one = parse_task_request({"kind": "llm.completion", "input": {"prompt": "Hi", "n_predict": 1}})
    same = parse_task_request({"input": {"n_predict": 1, "prompt": "Hi"}, "kind": "llm.completion"})
    other = parse_task_request({"kind": "llm.completion", "input": {"prompt": "Hi", "n_predict": 2}})
    assert one.digest == same.digest != other.digest


def test_a_chosen_id_is_its_owner_s_own() -> None:
    assert scoped_ids("tests", "mine") == scoped_ids("tests", "mine")
    each = [scoped_ids("tests", "mine"), scoped_ids("game", "mine"), scoped_ids("tests", "mine", space="key")]
    ids = {task_id for found in each for task_id in found.values()}
    assert len(ids) == 6
    assert all(len(task_id) == 32 for task_id in ids)


@pytest.mark.parametrize("chosen", ["", "x" * 65, "a/b", "a b", "ü", "a\n", "a\0b"])
def test_an_id_that_cannot_be_in_an_address_is_refused(chosen: str) -> None:
    with pytest.raises(RequestError, match="1 to 64"):
        scoped_ids("tests", chosen)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_text_kind_may_have_the_bytes_of_its_own_route(web_with, method: str) -> None:
    web = web_with(max_body_bytes=1000, max_image_body_bytes=10_000)
    path = "/tasks"
    if method == "PUT":
        path = "/tasks/mine"
    text = {"kind": "llm.completion", "input": {"prompt": "Hi", "unknown": "x" * 1000}}
    refused = web.open(path, method=method, json=text)
    assert (refused.status_code, refused.json["error"]["type"]) == (413, "body_too_large")
    assert "may have 1000 bytes, GRAYCAT_MAX_BODY_BYTES" in refused.json["error"]["message"]
    image = {"kind": "sd.txt2img", "input": {"prompt": "a fox", "negative_prompt": "x" * 1000}}
    assert web.open(path, method=method, json=image).status_code == 202


def test_a_caller_who_may_not_make_images_sends_no_more_than_a_text(web_with) -> None:
    web = web_with(max_body_bytes=1000)
    secret, _ = services_of(web.application).authenticator.mint(Grant("texts", frozenset({"llm"})))
    caller = {"Authorization": f"Bearer {secret}"}
    for headers, code in ((caller, "413"), (BEARER, "400")):
        # Its length is announced; what there is of it says nothing.
        builder = EnvironBuilder("/tasks", method="POST", input_stream=io.BytesIO(b"{}"), headers=Headers(headers))
        _, status, _ = run_wsgi_app(web.application, builder.get_environ() | {"CONTENT_LENGTH": "10000"})
        assert status.startswith(code)


@pytest.mark.parametrize("path", ["/tasks", "/completion"])
def test_others_run_between_the_steps_with_a_big_body(web, path: str) -> None:
    loop_turns: list[int] = []
    timer = gevent.get_hub().loop.timer(0.0, repeat=0.0001)
    timer.start(lambda: loop_turns.append(1))
    body: dict[str, Any] = {"prompt": "x", "n_predict": -2, "junk": "x" * 300_000, "stop": 7}
    sent: dict[str, Any] = {"kind": "llm.completion", "input": body}
    if path == "/completion":
        # It waits for its answer otherwise.
        sent = body | {"stream": "no"}
    try:
        assert web.post(path, json=sent).status_code in (202, 400)
    finally:
        timer.stop()
        timer.close()
    assert loop_turns


def test_a_digest_is_that_of_the_sorted_json() -> None:
    """Earlier versions have stored it: the same request has to be known after an upgrade."""
    body = {
        "kind": "llm.completion",
        "input": {"prompt": "ü\n", "b": [{"d": 1, "c": 2}], "a": "x"},
        "metadata": {"k": 1},
    }
    expected = sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    for raw in (json.dumps(body).encode(), json.dumps(body, ensure_ascii=False).encode(), b""):
        assert parse_task_request(body, raw).digest == expected
    assert digest({"retry_of": "1"}, JsonWriter()) == sha256(b'{"retry_of": "1"}').hexdigest()


@pytest.mark.parametrize("given", [{"prompt": "ü\t"}, {"stream": False, "prompt": "a"}, {"prompt": ["a", "b"]}])
def test_the_engine_gets_the_input_as_json_dumps_writes_it(given: dict[str, Any]) -> None:
    body = {"kind": "llm.completion", "input": given}
    submission = parse_task_request(body, json.dumps(body, ensure_ascii=False).encode()).submission
    expected = given | {"stream": True} if submission.mode == "live" else given
    assert submission.body == json.dumps(expected).encode()
