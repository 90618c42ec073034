"""The bare engine and graycat are asked the same: the answers are equal, but where docs/differences.md says so."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from graycat.redaction.answers import hide
from graycat.worker.engine_slots import REFRESH_INTERVAL_S
from graycat.worker.maintenance import REPORT_INTERVAL_S
from tests.support.llama_wire import SETTLED, Ask, Wire, read
from tests.support.processes import SLACK_S, eventually
from tests.support.stack import ROOT, Client, Stack

CHAT = [{"role": "user", "content": "1, 2, 3,"}]
SAID: dict[str, Any] = {"messages": CHAT, "max_tokens": 3}
SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
LONG = "recommendations for characteristics " * 100
#: More tokens than the context has, in fewer characters than graycat takes.
TOO_LONG = "word " * 9000

#: Requests that stream or not, as they are asked: path and body.
BOTH: dict[str, tuple[str, dict[str, Any]]] = {
    "a completion": ("/completion", {"prompt": "1, 2,", "n_predict": 3}),
    "a completion by its other name": ("/completions", {"prompt": "1, 2,", "n_predict": 3}),
    "token ids": ("/completion", {"prompt": [504, 22881, 9301], "n_predict": 3}),
    "several prompts": ("/completion", {"prompt": ["1, 2,", [504, 22881]], "n_predict": 1}),
    "a prompt as media have it": ("/completion", {"prompt": {"prompt_string": "1, 2,"}, "n_predict": 3}),
    "stop words": ("/completion", {"prompt": "1, 2, 3, 4,", "n_predict": 8, "stop": ["6"]}),
    "a grammar": ("/completion", {"prompt": "Is it?", "n_predict": 3, "grammar": 'root ::= "yes" | "no"'}),
    "a schema": ("/completion", {"prompt": "JSON:", "n_predict": 16, "json_schema": SCHEMA}),
    "probabilities": ("/completion", {"prompt": "The", "n_predict": 3, "n_probs": 3}),
    "progress": ("/completion", {"prompt": "1, 2,", "n_predict": 2, "return_progress": True}),
    "a bad field": ("/completion", {"prompt": "x", "n_predict": 1, "repeat_last_n": -1}),
    "a bad grammar": ("/completion", {"prompt": "x", "n_predict": 1, "grammar": "root ::= ("}),
    "no prompts": ("/completion", {"prompt": [], "n_predict": 1}),
    "tokens that do not exist": ("/completion", {"prompt": [99999999], "n_predict": 1}),
    "too long a prompt": ("/completion", {"prompt": TOO_LONG, "n_predict": 1}),
    "openai: a completion": ("/v1/completions", {"prompt": "1, 2,", "max_tokens": 3}),
    "openai: log probabilities": ("/v1/completions", {"prompt": "1, 2,", "max_tokens": 2, "logprobs": 2}),
    "openai: too long a prompt": ("/v1/completions", {"prompt": TOO_LONG, "max_tokens": 1}),
    "a chat": ("/v1/chat/completions", SAID),
    "a chat by its other name": ("/chat/completions", SAID),
    "a chat's log probabilities": ("/v1/chat/completions", SAID | {"logprobs": True, "top_logprobs": 2}),
    "a chat with a count": ("/v1/chat/completions", SAID | {"stream_options": {"include_usage": True}}),
    "a chat after a schema": (
        "/v1/chat/completions",
        SAID | {"max_tokens": 16, "response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
    ),
    "a chat of nothing": ("/v1/chat/completions", {"max_tokens": 1}),
    "a chat of a string": ("/v1/chat/completions", {"messages": "Hi", "max_tokens": 1}),
    "a chat of nobody": ("/v1/chat/completions", {"messages": [{"role": "user"}], "max_tokens": 1}),
    "a chat too long": ("/v1/chat/completions", {"messages": [{"role": "user", "content": TOO_LONG}]}),
    "a response by its other name": ("/responses", {"input": "1, 2,", "max_output_tokens": 3}),
    "a response": ("/v1/responses", {"input": "1, 2, 3,", "max_output_tokens": 3}),
    "a response to nothing": ("/v1/responses", {}),
    "a message": ("/v1/messages", SAID),
    "infill": ("/infill", {"input_prefix": "def f(", "input_suffix": "return", "n_predict": 3}),
}  # fmt: skip

WORDS = 'root ::= "one two END off"'

WHOLE: dict[str, Ask] = {
    "several answers to several prompts": Ask("/v1/completions", {"prompt": ["1, 2,", "a b"], "max_tokens": 2, "n": 2}),
    "token ids too": Ask(
        "/completion", {"prompt": "x", "grammar": 'root ::= "𓀀"', "n_predict": 9, "return_tokens": True}
    ),
    "fields of an answer": Ask("/completion", {"prompt": "x", "n_predict": 2, "response_fields": ["content"]}),
    "a stop word": Ask("/completion", {"prompt": "x", "grammar": WORDS, "n_predict": 9, "stop": ["END"]}),
    "a stop word's probabilities": Ask(
        "/completion", {"prompt": "x", "grammar": WORDS, "n_predict": 9, "stop": ["END"], "n_probs": 1}
    ),
    "half a stop word": Ask("/completion", {"prompt": "x", "grammar": WORDS, "n_predict": 6, "stop": ["ENDX"]}),
    "openai: half a stop word": Ask(
        "/v1/completions", {"prompt": "x", "grammar": WORDS, "max_tokens": 6, "stop": "ENDX"}
    ),
    "a chat with half a stop word": Ask(
        "/v1/chat/completions", SAID | {"grammar": WORDS, "max_tokens": 6, "stop": "ENDX"}
    ),
    "a chat with a stop word": Ask("/v1/chat/completions", SAID | {"grammar": WORDS, "max_tokens": 9, "stop": "END"}),
    "a chat's last probability": Ask("/v1/chat/completions", SAID | {"grammar": 'root ::= "1"', "logprobs": True}),
    "a chat that goes on": Ask(
        "/v1/chat/completions", SAID | {"messages": [*CHAT, {"role": "assistant", "content": "4, 5,"}]}
    ),
    "a chat of an empty answer": Ask("/v1/chat/completions", SAID | {"grammar": 'root ::= ""'}),
    "a message with a stop word": Ask("/v1/messages", SAID | {"stop_sequences": ["6"]}),
    "several responses": Ask("/v1/responses", {"input": "1, 2, 3,", "max_output_tokens": 2, "n": 2}),
    "several answers": Ask("/completion", {"prompt": "1, 2,", "n_predict": 2, "n": 2}),
    "several choices": Ask("/v1/chat/completions", SAID | {"n": 2}),
    "several prompts of openai": Ask("/v1/completions", {"prompt": ["1, 2,", "a b"], "max_tokens": 2}),
    "a stream of null": Ask("/v1/chat/completions", SAID | {"stream": None}),
    "tokenize": Ask("/tokenize", {"content": "naïve", "with_pieces": True}),
    "tokenize a mix": Ask("/tokenize", {"content": [1, "a"]}),
    "detokenize": Ask("/detokenize", {"tokens": [504, 22881]}),
    "a template": Ask("/apply-template", {"messages": CHAT}),
    "embeddings off": Ask("/embeddings", {"content": "x"}),
    "embeddings off by their other name": Ask("/embedding", {"content": "x"}),
    "openai: embeddings off": Ask("/v1/embeddings", {"input": "x"}),
    **{f"{path} off": Ask(path, {"query": "x", "documents": ["a"]}) for path in ("/rerank", "/reranking")},
    **{f"{path} off": Ask(path, {"query": "x", "documents": ["a"]}) for path in ("/v1/rerank", "/v1/reranking")},
    "a chat's tokens": Ask("/v1/chat/completions/input_tokens", {"messages": CHAT}),
    "a chat's tokens by its other name": Ask("/chat/completions/input_tokens", {"messages": CHAT}),
    "a response's tokens": Ask("/v1/responses/input_tokens", {"input": "1, 2,"}),
    "a response's tokens by its other name": Ask("/responses/input_tokens", {"input": "1, 2,"}),
    "a message's tokens": Ask("/v1/messages/count_tokens", {"messages": CHAT}),
    **{f"get {path}": Ask(path, method="GET") for path in ("/health", "/v1/health", "/models", "/v1/models")},
    "get /lora-adapters": Ask("/lora-adapters", method="GET"),
}  # fmt: skip

HALF_CUT: dict[str, Any] = {"grammar": 'root ::= "𓀀𓀀𓀀𓀀"', "n_predict": 2, "max_tokens": 2, "max_output_tokens": 2}
#: Each line of "Whole answers" in the document: what is asked for plainly.
PLAIN: dict[str, Ask] = {
    "completion: return_tokens": Ask("/completion", {"prompt": "x", "return_tokens": True}),
    "completion: response_fields": Ask("/completion", {"prompt": "x", "response_fields": ["content"]}),
    "completion: n_probs and stop": Ask("/completion", {"prompt": "x", "n_probs": 1, "stop": ["q"]}),
    "openai completion: logprobs and stop": Ask("/v1/completions", {"prompt": "x", "logprobs": 1, "stop": "q"}),
    "chat: logprobs": Ask("/v1/chat/completions", {"messages": CHAT, "logprobs": True}),
    "chat: deepseek-legacy": Ask("/v1/chat/completions", {"messages": CHAT, "reasoning_format": "deepseek-legacy"}),
    "chat: the assistant's last message": Ask(
        "/v1/chat/completions", {"messages": [*CHAT, {"role": "assistant", "content": "4, 5,"}]}
    ),
    "response: stop": Ask("/v1/responses", {"input": "x", "stop": "q"}),
    "message: stop_sequences": Ask("/v1/messages", {"messages": CHAT, "stop_sequences": ["q"]}),
}  # fmt: skip

#: How an answer differs, by the row of the document that says so.
Differs = Callable[[Wire, Wire], object]


def becomes(status: int, kind: str = "") -> Differs:
    """Return a check: the engine would answer something else, graycat says this."""

    def check(bare: Wire, given: Wire) -> None:
        assert given.status == status
        assert (bare.status, bare.content) != (given.status, given.content)
        assert not kind or given.error == kind

    return check


def loses_the_prompt(bare: Wire, given: Wire) -> None:
    """Check that a last event is without its prompt, and the rest is equal."""
    assert bare.content[-2][1].pop("prompt").endswith(LONG)
    assert given == bare


def loses_the_half_character(bare: Wire, given: Wire) -> None:
    """Check that half a character is not there, and the rest is equal."""
    bare_parts, given_parts = bare.content, given.content
    if "choices" in bare.content:
        bare_parts, given_parts = (wire.content["choices"][0] for wire in (bare, given))
        bare_parts, given_parts = (choice.get("message", choice) for choice in (bare_parts, given_parts))
    field = "text" if "text" in bare_parts else "content"
    assert (bare_parts.pop(field), given_parts.pop(field)) == ("\ufffd", "")
    assert given == bare


def loses_the_half_item(bare: Wire, given: Wire) -> None:
    """Check that an item of half a character is not there, and the rest is equal."""
    assert bare.content.pop("output")[0]["content"][0]["text"] == "\ufffd"
    assert given.content.pop("output") == []
    assert given == bare


def gains_the_mark(bare: Wire, given: Wire) -> None:
    """Check that an error has Anthropic's mark, and the rest is equal."""
    assert given.content.pop("type") == "error"
    assert given == bare


INVALID, UNKNOWN = "invalid_request_error", "not_found_error"
LAST_EVENT = "streamed `/completion`, last event over 3,000 bytes"
HALF = "whole answers cut in the middle of a character, but those asked for plainly (below)"
MESSAGES = "errors of `/v1/messages`"
HEALTH, PROPS = "`GET /health`", "`POST /props`"
TEMPLATE = "`/props`, `/template`, `/v1/models`"
BODY = "a body that is no JSON object in UTF-8, no `prompt`, a `stream` that is no bool"
LIMITS, MODEL = "a body or a text over graycat's limits", "`model` that no worker has"
METHOD, NOWHERE = "a route asked with another method", "a route that nobody has"
OTHER_MODELS = "`/v1/audio/transcriptions`, `/audio/transcriptions`, `/v1/systemone`"
LEFT_OUT, UNUSABLE = "a field that the engine leaves out without a word", "`json_schema` that the engine cannot use"
TYPED = "a field of a wrong type"
BLAMED = "500 of the engine for what is wrong with the body"
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
UNSUPPORTED = "unsupported_parameter"
USELESS_SCHEMAS: list[Any] = [{"$ref": "#/nowhere"}, {"type": "banana"}, {"enum": []}, "banana"]
SHORT: dict[str, Any] = {"prompt": "x", "n_predict": 1, "max_tokens": 1}
CLOSED = (
    "routes that load models, change properties, save slots, proxy, read others' streams or count for the operator "
    "(`/metrics`)"
)
OWN = "routes of graycat's own: `/ready`, `/docs`, `/openapi.json`, `/tasks/{id}`; `Prefer: respond-async`"

DIFFERENT: list[tuple[Ask, Differs]] = [
    (Ask("/completion", {"prompt": LONG, "n_predict": 1, "stream": True}, row=LAST_EVENT), loses_the_prompt),
    (Ask("/completion", {"prompt": "x"} | HALF_CUT, row=HALF), loses_the_half_character),
    (Ask("/v1/completions", {"prompt": "x"} | HALF_CUT, row=HALF), loses_the_half_character),
    (Ask("/v1/chat/completions", {"messages": CHAT} | HALF_CUT, row=HALF), loses_the_half_character),
    (Ask("/v1/responses", {"input": "x"} | HALF_CUT, row=HALF), loses_the_half_item),
    (Ask("/v1/messages", {"messages": [{}]}, row=MESSAGES), gains_the_mark),
    (Ask("/v1/messages", {"messages": [{}], "stream": True}, row=MESSAGES), gains_the_mark),
    (Ask("/v1/messages/count_tokens", {"messages": [{}]}, row=MESSAGES), gains_the_mark),
    *(
        (Ask(path, body, row=BLAMED), becomes(400, INVALID))
        for path, body in (
            *(("/v1/messages", {"max_tokens": 3}), ("/v1/messages", {"max_tokens": 3, "stream": True})),
            *(("/v1/messages/count_tokens", {}), ("/detokenize", {"tokens": [2**31 - 1]})),
            ("/v1/chat/completions", {"messages": [{"content": "x"}]}),
            ("/v1/chat/completions", SAID | {"tools": 5}),
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": [PICTURE]}]}),
        )
    ),
    *(
        (Ask("/completion", SHORT | fields, row=TYPED), becomes(400, INVALID))
        for fields in ({"n_predict": "many"}, {"stop": 5}, {"lora": [5]}, {"grammar": 5}, {"response_fields": 5})
    ),
    *(
        (Ask("/v1/chat/completions", SAID | fields, row=TYPED), becomes(400, INVALID))
        for fields in (
            *({"stop": 5}, {"logit_bias": 5}, {"samplers": 5}, {"tool_choice": 5}, {"tools": "all"}),
            {"temperature": "hot"},
            *({"response_format": {"type": "json_schema"}}, {"logprobs": True, "top_logprobs": "x"}),
        )
    ),
    *(
        (Ask(path, body, row=TYPED), becomes(400, INVALID))
        for path, body in (
            *(("/tokenize", {"content": 7}), ("/detokenize", {"tokens": None}), ("/apply-template", {"messages": 5})),
            ("/apply-template", {"messages": [{"role": 1, "content": "x"}]}),
        )
    ),
    *(
        (Ask("/v1/messages", SAID | fields, row=TYPED), becomes(400, INVALID))
        for fields in ({"system": 5}, {"tools": 5}, {"messages": 5})
    ),
    (Ask("/health", row=HEALTH), becomes(200)),
    (Ask("/v1/health", row=HEALTH), becomes(200)),
    (Ask("/props", {"stream": False}, row=PROPS), becomes(200)),
    (Ask("/template", {}, row=TEMPLATE), becomes(200)),
    (Ask("/completion", {}, row=BODY), becomes(400, INVALID)),
    (Ask("/v1/completions", {}, row=BODY), becomes(400, INVALID)),
    (Ask("/completion", {"prompt": 7}, row=BODY), becomes(400, INVALID)),
    (Ask("/completion", data=b"{", row=BODY), becomes(400, INVALID)),
    (Ask("/tokenize", [], row=BODY), becomes(400, INVALID)),
    (Ask("/tokenize", data='{"content": "x"}'.encode("utf-16"), row=BODY), becomes(400, INVALID)),
    (Ask("/v1/chat/completions", data=b"", row=BODY), becomes(400, INVALID)),
    (Ask("/v1/chat/completions", SAID | {"stream": 1}, row=BODY), becomes(400, INVALID)),
    (Ask("/tokenize", {"content": "x" * 400_001}, row=LIMITS), becomes(413, "prompt_too_large")),
    (Ask("/tokenize", {"other": "x" * 4_200_000}, row=LIMITS), becomes(413, "body_too_large")),
    (Ask("/v1/chat/completions", SAID | {"model": "nobody's"}, row=MODEL), becomes(404, "model_not_found")),
    (Ask("/v1/chat/completions", SAID | {"model": "?", "stream": True}, row=MODEL), becomes(404, "model_not_found")),
    *(
        (Ask(path, method=method, row=METHOD), becomes(405, "method_not_allowed"))
        for method, path in (("GET", "/completion"), ("GET", "/v1/responses"), ("POST", "/models"), ("PUT", "/slots"))
    ),
    *((Ask(path, {}, row=NOWHERE), becomes(404, UNKNOWN)) for path in ("/nowhere", "/api/chat")),
    *(
        (Ask(path, {}, method, row=CLOSED), becomes(404, UNKNOWN))
        for method, path in (
            *(("POST", "/models/load"), ("POST", "/slots/0?action=erase"), ("GET", "/cors-proxy")),
            *(("GET", "/v1/stream/1"), ("POST", "/tools"), ("POST", "/v1/chat/completions/control")),
        )
    ),
    *(
        (Ask(path, {}, row=OTHER_MODELS), becomes(404, UNKNOWN))
        for path in ("/v1/audio/transcriptions", "/v1/systemone")
    ),
    (Ask("/audio/transcriptions", {}, row=OTHER_MODELS), becomes(404, UNKNOWN)),
    *(
        (Ask(path, body | {"tools": [TOOL]}, row=LEFT_OUT), becomes(400, UNSUPPORTED))
        for path, body in (
            *(("/v1/chat/completions", SAID), ("/apply-template", {"messages": CHAT})),
            ("/v1/chat/completions/input_tokens", {"messages": CHAT}),
        )
    ),
    *(
        (Ask(path, {"max_tokens": 1, "messages": CHAT} | fields, row=LEFT_OUT), becomes(400, UNSUPPORTED))
        for path, fields in (
            ("/v1/chat/completions", {"functions": [{"name": "f"}]}),
            ("/v1/chat/completions", {"response_format": "json"}),
            ("/v1/chat/completions", {"modalities": ["audio"]}),
            ("/v1/messages", {"tools": [{"name": "f", "input_schema": {"type": "object"}}]}),
            ("/v1/messages", {"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]}),
            ("/v1/responses", {"input": "x", "max_output_tokens": 1, "tools": [{"type": "function", "name": "f"}]}),
        )
    ),
    *(
        (Ask("/v1/completions", SHORT | fields, row=LEFT_OUT), becomes(400, UNSUPPORTED))
        for fields in ({"echo": True}, {"suffix": "y"}, {"best_of": 2}, {"response_format": {"type": "json_object"}})
    ),
    *(
        (Ask(path, SHORT | {"json_schema": schema}, row=UNUSABLE), becomes(400, INVALID))
        for path in ("/completion", "/v1/completions")
        for schema in USELESS_SCHEMAS
    ),
    (Ask("/lora-adapters", [], row=CLOSED), becomes(403, "permission_error")),
    (Ask("/metrics", method="GET", row=CLOSED), becomes(403, "permission_error")),
    *((Ask(path, method="GET", row=OWN), becomes(200)) for path in ("/ready", "/docs", "/openapi.json")),
    (Ask("/tasks/1", method="GET", row=OWN), becomes(404, "task_not_found")),
    (Ask("/tokenize", {"content": "x"}, headers={"Prefer": "respond-async"}, row=OWN), becomes(202)),
]

#: Rows that one request and its answer cannot show, and the test that shows them.
ELSEWHERE = {
    "streamed native routes, `data: ` inside a text": "test_differences.py::test_data_inside_a_text_",
    "`/` is graycat's own page for browsers, and a short JSON for others ([page.md](page.md))": (
        "../unit/web/page/test_page.py::test_any_other_client_gets_a_short_json"
    ),
    "`GET /v1/models/NAME`": "../unit/web/compat/test_openai.py::test_one_model_is_the_entry_of_the_list",
    "`GET /slots`": "test_differences.py::test_the_slots_are_",
    "file paths of the box, in `/props`, `/v1/models`, `/lora-adapters`, lists and `options` of `/sdapi`, and "
    "wherever an answer names its model": "test_differences.py::test_the_properties_are_the_engine_s_own_but_for_",
    "file paths of the box in an engine's error": "../unit/tasks/test_base.py::test_an_engine_s_error_names_no_path",
    "`/slots`, `/props`: what others ask": "test_differences.py::test_the_slots_are_",
    "`/v1/models` of a router, `/sdapi/v1/loras`": "../unit/redaction/test_answers.py::test_a_list_of_models_has_no_",
    "an engine's stream in any form of the standard (CR, CRLF, comments, several lines of data, ids)": (
        "../unit/engines/test_sse.py::test_every_form_of_the_standard_is_read_wherever_"
    ),
    "an engine's error, in its stream or with status 200, in any dialect": (
        "../unit/tasks/test_llm.py::test_an_error_among_named_events_is_the_task_s_"
    ),
    "an answer that is no JSON, no stream where one was asked for, or a stream without its last event from an engine "
    "that runs on": "../unit/tasks/test_llm.py::test_an_answer_that_is_none_fails_once_",
    "streams that wait": "test_quick_lane.py::test_streams_that_wait_",
    "`/props`, `/v1/models`": "../unit/engines/test_llama_info.py::test_what_an_engine_tells_besides_",
    "llama.cpp's router (`llama-server` without a model)": (
        "../unit/engines/test_llama_router.py::test_a_request_without_a_model_"
    ),
    "`/embeddings` for `UnityPlayer/` agents": "test_openai_client.py::test_embeddings_",
    "no API token, or an unknown one": "test_differences.py::test_without_an_api_token_",
    "an API token over one of its limits, or without the scope": (
        "../unit/web/test_limits.py::test_rate_limit_headers_count_down"
    ),
    "`n_predict`, `max_tokens` or `max_output_tokens` that is absent, negative or no number, for an API token with a "
    "`max_tokens` limit": "../unit/web/test_limits.py::test_the_token_limit_is_written_into_",
    "request headers": "test_differences.py::test_a_header_of_the_caller_",
    "answer headers": "test_differences.py::test_a_header_of_the_engine_",
    "`/sdapi`: limits, images by address": "test_image_errors.py::test_a_refused_request_never_",
    "`/sdapi`: the API token": "test_image_errors.py::test_without_a_token_",
    "`/sdapi`: `progress`, `interrupt`, `skip`": "test_image_sharing.py::test_an_interrupt_of_who_has_nothing_",
    "`/sdapi`: lists, `GET options`, `png-info`": "test_webuiapi.py::test_a_list_is_",
    "`/sdapi`: calls that change an engine": "test_image_errors.py::test_what_changes_an_engine_",
    "`/sdapi`: what would stay behind": "test_image_errors.py::test_a_setting_that_is_open_",
    "`/sdapi`: parameters in texts, scripts that are asked for nothing, `url` and `auth`": (
        "test_client_shapes.py::test_a_generation_of_another_"
    ),
    "`/sdapi`: a checkpoint by its name": "test_image_errors.py::test_a_refused_request_never_",
    "`/sdapi`: a mask of another size than its image": "../unit/images/test_masks.py::test_an_engine_gets_a_mask_",
    "`/sdapi`: calls about the engine's host": "test_image_errors.py::test_a_route_that_is_not_there_",
}


def settle(body: Any) -> Any:
    """Return a body whose answer does not depend on the run, where it is one that generates."""
    generates = isinstance(body, dict) and {"n_predict", "max_tokens", "max_output_tokens"} & set(body)
    return SETTLED | body if generates else body


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", BOTH)
def test_an_answer_is_that_of_the_bare_engine(api: Client, engine: Client, name: str, stream: bool) -> None:
    path, body = BOTH[name]
    ask = Ask(path, settle(body) | {"stream": stream})
    bare, given = read(ask.send(engine)), read(ask.send(api))
    assert given == bare
    assert (given.kind == "text/event-stream") == (stream and given.status == 200)


@pytest.mark.parametrize("name", WHOLE)
def test_an_answer_that_never_streams_is_that_of_the_bare_engine(api: Client, engine: Client, name: str) -> None:
    ask = Ask(WHOLE[name].path, settle(WHOLE[name].body), WHOLE[name].method)
    assert read(ask.send(api)) == read(ask.send(engine))


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_asked_for_plainly_ends_as_the_engine_ends_it(api: Client, engine: Client, name: str) -> None:
    ask = Ask(PLAIN[name].path, SETTLED | HALF_CUT | PLAIN[name].body)
    bare, given = read(ask.send(engine)), read(ask.send(api))
    assert given == bare


@pytest.mark.parametrize(
    ("ask", "differs"), DIFFERENT, ids=[f"{a.method} {a.path} {place}" for place, (a, _) in enumerate(DIFFERENT)]
)
def test_what_differs_differs_as_the_document_says(api: Client, engine: Client, ask: Ask, differs: Differs) -> None:
    sent = Ask(ask.path, settle(ask.body), ask.method, ask.data, ask.headers)
    differs(read(sent.send(engine)), read(sent.send(api)))


def test_each_row_of_the_document_has_its_test_and_no_test_is_without_its_row() -> None:
    lines = (ROOT / "docs" / "differences.md").read_text().splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("|")][2:]
    shown = {ask.row for ask, _ in DIFFERENT}
    assert set(rows) == shown | set(ELSEWHERE)
    assert not shown & set(ELSEWHERE)
    for place in ELSEWHERE.values():
        name, _, test = place.partition("::")
        assert re.search(rf"^def {test}", (ROOT / "tests" / "integration" / name).read_text(), re.MULTILINE), place


def test_data_inside_a_text_is_written_so_that_unity_does_not_split_there(api: Client, engine: Client) -> None:
    body = SETTLED | {"prompt": "Say data: 1", "n_predict": 1, "stream": True}
    bare, given = Ask("/completion", body).send(engine), Ask("/completion", body).send(api)
    assert (b"Say data: 1" in bare.content, b"Say data: 1" in given.content) == (True, False)
    assert rb"Say data\u003a 1" in given.content
    last = (answer.text.split("\n\n")[-2].removeprefix("data: ") for answer in (bare, given))
    assert len({re.search(r'"prompt":"(.*?)"', text.replace(r"\u003a", ":"))[1] for text in last}) == 1  # type: ignore[index]


def test_the_properties_are_the_engine_s_own_but_for_the_path(api: Client, engine: Client) -> None:
    ask = Ask("/props", method="GET")
    bare, given = ask.send(engine).json(), ask.send(api).json()
    assert bare["model_path"] != given["model_path"] == Path(bare["model_path"]).name
    # What its page in a browser begins with is nobody's business here.
    del bare["ui_settings"]
    assert given == bare | {"model_path": given["model_path"]}


def test_the_slots_are_the_engine_s_own_as_they_were_a_few_seconds_ago(api: Client, engine: Client) -> None:
    ask = Ask("/slots", method="GET")
    eventually(lambda: ask.send(api).json() == hide("/slots", ask.send(engine).json()), SLACK_S)
    # A report may be late on a busy machine; one that is never newer stays too old.
    eventually(lambda: 0 <= age_s(ask.send(api)) <= REFRESH_INTERVAL_S + REPORT_INTERVAL_S, SLACK_S)


def age_s(answer: requests.Response) -> int:
    """Return how many seconds ago an answer was true."""
    return int(answer.headers["Graycat-Answer-Age"])


@pytest.mark.parametrize(("method", "path"), [("POST", "/completion"), ("GET", "/props"), ("GET", "/v1/models")])
def test_without_an_api_token_nothing_is_told(stack: Stack, method: str, path: str) -> None:
    for token, kind in (("", "authentication_error"), ("unknown", "token_unknown")):
        client = Client(stack.url, token)
        with client.session:
            answer = client.request(method, path, json={"prompt": "x"} if method == "POST" else None)
        assert (answer.status_code, answer.json()["error"]["type"]) == (401, kind)


def test_a_header_of_the_caller_does_not_reach_the_engine(api: Client, engine: Client) -> None:
    body = SETTLED | SAID | {"stream": True}
    for name, client in (("bare", engine), ("given", api)):
        assert client.post("/v1/chat/completions", body, headers={"X-Conversation-Id": name}).status_code == 200
    kept = engine.post("/v1/streams/lookup", {"conversation_ids": ["bare", "given"]}).json()
    assert [stream["conversation_id"] for stream in kept] == ["bare"]


def test_a_header_of_the_engine_does_not_reach_the_caller(api: Client, engine: Client, stack: Stack) -> None:
    for path in ("/tokenize", "/v1/models"):
        bare = engine.request("OPTIONS", path, headers={"Origin": "http://page"})
        given = api.request("OPTIONS", path, headers={"Origin": "http://page"})
        assert "Access-Control-Allow-Origin" in bare.headers
        assert not [name for name in given.headers if name.startswith("Access-Control")]
        assert given.headers["Server"] != bare.headers["Server"]
    eventually(lambda: stack.busy() == 0, SLACK_S)
