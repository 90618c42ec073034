from __future__ import annotations

import json
from typing import Any

import pytest

from graycat.errors import UnsupportedParameter
from graycat.fleet.reports import WorkerStatus
from graycat.queue.kinds import CHAT, COMPLETION, COUNT_MESSAGES, INFILL, MESSAGES, OPENAI_COMPLETION, RESPONSES, Kind
from graycat.web.compat.unsupported import check_supported

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def having(model: str, caps: Any) -> WorkerStatus:
    props = json.dumps({"chat_template_caps": caps})
    return WorkerStatus(f"llm@{model}", ("llm",), "e", "ready", True, 4, 0, props, models=(model,))


PLAIN = having("plain", {"supports_tools": False})
ABLE = having("able", {"supports_tools": True})
OLD = having("old", None)


@pytest.mark.parametrize("kind", [CHAT, RESPONSES, MESSAGES, COUNT_MESSAGES])
def test_tools_that_the_template_would_leave_out_are_refused(kind: Kind) -> None:
    with pytest.raises(UnsupportedParameter, match="the chat template of plain has no place for tools") as refused:
        check_supported(kind, {"tools": TOOLS}, [PLAIN])
    assert (refused.value.status, refused.value.type, refused.value.param) == (400, "unsupported_parameter", "tools")


def test_where_another_model_knows_tools_it_is_named() -> None:
    with pytest.raises(UnsupportedParameter, match=r"name a model that has one \(able\)"):
        check_supported(CHAT, {"tools": TOOLS}, [PLAIN, ABLE])


@pytest.mark.parametrize(
    ("body", "workers"),
    [
        ({"tools": TOOLS}, [ABLE]),
        # An older engine does not tell, and nobody has told anything.
        ({"tools": TOOLS}, [OLD]),
        ({"tools": TOOLS}, []),
        ({"tools": []}, [PLAIN]),
        ({"tools": TOOLS, "tool_choice": "none"}, [PLAIN]),
        ({"tools": TOOLS, "tool_choice": {"type": "none"}}, [PLAIN]),
        # The engine has its own words for what is no list.
        ({"tools": "all"}, [PLAIN]),
        ({"response_format": {"type": "json_object"}, "modalities": ["text"]}, [PLAIN]),
    ],
)
def test_what_is_not_left_out_passes(body: dict[str, Any], workers: list[WorkerStatus]) -> None:
    check_supported(CHAT, body, workers)


@pytest.mark.parametrize(
    "body", [{"response_format": "json"}, {"response_format": 1}, {"modalities": ["text", "audio"]}]
)
def test_outputs_that_an_engine_leaves_out_of_a_chat_are_refused(body: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedParameter):
        check_supported(CHAT, body, [ABLE])


@pytest.mark.parametrize("kind", [COMPLETION, INFILL, OPENAI_COMPLETION])
def test_a_completion_knows_no_response_format(kind: Kind) -> None:
    check_supported(kind, {"response_format": {"type": "text"}, "tools": TOOLS}, [PLAIN])
    with pytest.raises(UnsupportedParameter, match="'json_schema'"):
        check_supported(kind, {"response_format": {"type": "json_object"}}, [PLAIN])


@pytest.mark.parametrize("fields", [{"echo": True}, {"suffix": "b"}, {"best_of": 2}])
def test_what_openai_s_completions_have_and_llama_cpp_has_not_is_refused(fields: dict[str, Any]) -> None:
    (name,) = fields
    with pytest.raises(UnsupportedParameter, match=f"'{name}'"):
        check_supported(OPENAI_COMPLETION, fields, [ABLE])
    check_supported(COMPLETION, fields, [ABLE])
    check_supported(OPENAI_COMPLETION, {"echo": False, "suffix": None, "best_of": 1}, [ABLE])


def test_functions_of_the_time_before_tools_are_refused() -> None:
    with pytest.raises(UnsupportedParameter, match="send 'tools'"):
        check_supported(CHAT, {"functions": [{"name": "f"}]}, [ABLE])


def test_a_document_in_a_message_is_named_by_its_path() -> None:
    parts = [{"type": "text", "text": "x"}, {"type": "document", "source": {}}]
    messages = [{"role": "user", "content": "a"}, {"role": "user", "content": parts}]
    with pytest.raises(UnsupportedParameter) as refused:
        check_supported(MESSAGES, {"messages": messages}, [ABLE])
    assert refused.value.param == "messages[1].content[1]"
    for odd in (None, "x", [None], [{"content": [None, "x"]}]):
        check_supported(MESSAGES, {"messages": odd}, [ABLE])


@pytest.mark.parametrize("props", ["", "[]", "{", '{"chat_template_caps": [1]}'])
def test_properties_that_say_nothing_refuse_nothing(props: str) -> None:
    worker = WorkerStatus("llm@a", ("llm",), "e", "ready", True, 4, 0, props)
    check_supported(CHAT, {"tools": TOOLS}, [worker])


@pytest.mark.parametrize("part", [{"type": "search_result"}, {"text": "x"}, {"type": ["text"]}])
def test_parts_of_messages_that_the_engine_passes_over_are_refused(part: dict[str, Any]) -> None:
    known = [{"type": "text", "text": "x"}, {"type": "redacted_thinking", "data": "x"}]
    check_supported(MESSAGES, {"messages": [{"role": "user", "content": known}]}, [ABLE])
    with pytest.raises(UnsupportedParameter) as refused:
        check_supported(MESSAGES, {"messages": [{"role": "user", "content": [*known, part]}]}, [ABLE])
    assert refused.value.param == "messages[0].content[2].type"
