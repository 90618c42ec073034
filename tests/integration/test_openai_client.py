"""OpenAI's own client: through graycat it gets what the bare engine gives it, and errors as its exceptions."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from graycat.engines.models.packaged import assemble_gemma
from tests.support.llama_wire import settled
from tests.support.stack import REQUEST_S, ROOT, Client, Stack, running

MODEL = "SmolLM2-135M-Instruct.Q4_1"
#: The other packaged model. SmolLM2 calls no tools.
GEMMA = "gemma-3-270m-q4_k_m"
CHAT: list[Any] = [{"role": "user", "content": "1, 2, 3,"}]
#: Fields that the client takes by name, and those that it passes on.
SAID: dict[str, Any] = {"model": MODEL, "messages": CHAT, "max_tokens": 4, "temperature": 0, "seed": 1}
ASKED: dict[str, Any] = {"model": MODEL, "prompt": "1, 2, 3,", "max_tokens": 4, "temperature": 0, "seed": 1}
ANEW = {"extra_body": {"cache_prompt": False}}
SCHEMA = {"type": "object", "properties": {"color": {"enum": ["red", "green"]}}, "required": ["color"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "choice", "schema": SCHEMA}}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Rome", "Oslo"]}},
            "required": ["city"],
        },
    },
}

#: Clients of the bare engine and of graycat. What a call returns depends on a `stream` that types cannot see.
Pair = tuple[Any, Any]


def client(url: str, token: str) -> OpenAI:
    """Return OpenAI's client of an address; it tries once."""
    return OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0, timeout=REQUEST_S)


def pair_of(stack: Stack) -> Iterator[Pair]:
    """Yield clients of a stack's bare engine and of graycat."""
    with client(stack.llm_url, "any") as bare, client(stack.url, stack.token) as given:
        yield bare, given


@pytest.fixture(scope="module")
def both(stack: Stack) -> Iterator[Pair]:
    """Yield clients of the bare engine and of graycat."""
    yield from pair_of(stack)


@pytest.fixture(scope="module")
def both_embedding(embedding: Stack) -> Iterator[Pair]:
    """Yield the same where the engine serves embeddings."""
    yield from pair_of(embedding)


@pytest.fixture(scope="module")
def both_with_tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Yield the same where the model's chat template knows tools, and the model calls one if it has to."""
    home = tmp_path_factory.mktemp("tools")
    assemble_gemma(home / "models" / "text")
    script = ROOT / "tests" / "support" / "tools_engine.py"
    command = f"{shlex.quote(sys.executable)} {shlex.quote(str(script))} --port {{port}}"
    command += f" --slots 2 --context 4096 --models {shlex.quote(str(home / 'models' / 'text'))} --model {{model}}"
    with running(Stack(home, env={"STARTUP_COMMAND": command})) as stack:
        yield from pair_of(stack)


def plain(answer: Any) -> Any:
    """Return what the client made of an answer, without what differs between two runs."""
    return settled(answer.model_dump(mode="json"))


def test_a_chat_is_answered_as_by_the_bare_engine(both: Pair) -> None:
    bare, given = (c.chat.completions.create(**SAID, **ANEW) for c in both)
    assert plain(given) == plain(bare)
    assert given.choices[0].message.content
    assert (given.model, given.usage and given.usage.completion_tokens) == (MODEL, 4)


def test_a_chat_streams_as_from_the_bare_engine(both: Pair) -> None:
    bare, given = (
        list(c.chat.completions.create(**SAID, stream=True, stream_options={"include_usage": True}, **ANEW))
        for c in both
    )
    assert [plain(chunk) for chunk in given] == [plain(chunk) for chunk in bare]
    assert len(given) >= 4
    assert given[-1].usage is not None


def test_several_answers_and_their_probabilities_come_through(both: Pair) -> None:
    bare, given = (
        c.chat.completions.create(**SAID | {"n": 2, "logprobs": True, "top_logprobs": 2}, **ANEW) for c in both
    )
    assert [choice.message.content for choice in given.choices] == [choice.message.content for choice in bare.choices]
    assert [choice.index for choice in given.choices] == [0, 1]
    logprobs = given.choices[1].logprobs
    assert logprobs is not None
    assert [len(token.top_logprobs) for token in logprobs.content or []] == [2] * 4


def test_a_completion_is_answered_and_streamed_as_by_the_bare_engine(both: Pair) -> None:
    bare, given = (c.completions.create(**ASKED, **ANEW) for c in both)
    assert plain(given) == plain(bare)
    streams = [list(c.completions.create(**ASKED, stream=True, **ANEW)) for c in both]
    assert [plain(chunk) for chunk in streams[1]] == [plain(chunk) for chunk in streams[0]]
    assert "".join(chunk.choices[0].text for chunk in streams[1]) == given.choices[0].text


def test_several_prompts_have_an_answer_each(both: Pair) -> None:
    bare, given = (c.completions.create(**ASKED | {"prompt": ["1, 2, 3,", "a b c"]}, **ANEW) for c in both)
    assert [choice.text for choice in given.choices] == [choice.text for choice in bare.choices]
    assert len(given.choices) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_follows_its_schema(both: Pair, stream: bool) -> None:
    said = SAID | {"max_tokens": 24, "response_format": FORMAT, "stream": stream}
    texts = []
    for c in both:
        answer: Any = c.chat.completions.create(**said, **ANEW)
        whole = not stream and answer.choices[0].message.content
        texts.append(whole or "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices))
    assert texts[1] == texts[0]
    assert json.loads(texts[1])["color"] in ("red", "green")


def test_the_responses_api_answers_and_streams(both: Pair) -> None:
    asked: dict[str, Any] = {"model": MODEL, "input": "1, 2, 3,", "max_output_tokens": 4, "temperature": 0} | ANEW
    bare, given = (c.responses.create(**asked) for c in both)
    assert plain(given) == plain(bare)
    assert given.output_text
    streams = [list(c.responses.create(**asked, stream=True)) for c in both]
    assert [plain(event) for event in streams[1]] == [plain(event) for event in streams[0]]
    assert streams[1][-1].type == "response.completed"


def test_the_models_are_listed(both: Pair) -> None:
    bare, given = ([plain(model) for model in c.models.list()] for c in both)
    assert given == bare
    assert [model["id"] for model in given] == [MODEL]


def test_one_model_is_found_by_its_name(both: Pair) -> None:
    _, given = both
    assert given.models.retrieve(MODEL) == given.models.list().data[0]
    error = raised(lambda: given.models.retrieve("gpt-9"))
    assert isinstance(error, openai.NotFoundError)
    assert kind_of(error) == "model_not_found"


def tool_talk() -> list[Any]:
    """Return a chat in which a tool has been called for two cities, and might be for a third."""
    talk: list[Any] = []
    for city in ("Rome", "Oslo"):
        function = {"name": "weather", "arguments": json.dumps({"city": city})}
        call = {"id": city, "type": "function", "function": function}
        talk.append({"role": "user", "content": f"Weather in {city}?"})
        talk.append({"role": "assistant", "content": "", "tool_calls": [call]})
        talk.append({"role": "tool", "tool_call_id": city, "content": "Sun."})
    return [*talk, {"role": "user", "content": "Weather in Paris?"}]


def test_a_tool_is_called(both_with_tools: Pair) -> None:
    said = SAID | {
        "model": GEMMA,
        "messages": tool_talk(),
        "tools": [TOOL],
        "tool_choice": "required",
        "max_tokens": 26,
    }
    bare, given = (c.chat.completions.create(**said, **ANEW) for c in both_with_tools)
    assert plain(given) == plain(bare)
    call = given.choices[0].message.tool_calls[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Paris"})
    streams = [list(c.chat.completions.create(**said, stream=True, **ANEW)) for c in both_with_tools]
    assert [plain(chunk) for chunk in streams[1]] == [plain(chunk) for chunk in streams[0]]
    parts = [
        part
        for chunk in streams[1]
        for choice in chunk.choices
        for part in choice.delta.tool_calls or []
        if part.index == 0
    ]
    assert "".join(part.function.arguments or "" for part in parts) == call.function.arguments


@pytest.mark.parametrize("texts", ["one text", ["one", "two texts"]], ids=["one", "two"])
@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_are_those_of_the_bare_engine(both_embedding: Pair, texts: Any, encoding: Any) -> None:
    bare, given = (c.embeddings.create(model=MODEL, input=texts, encoding_format=encoding) for c in both_embedding)
    assert [item.embedding for item in given.data] == [item.embedding for item in bare.data]
    assert (given.usage, given.model, len(given.data)) == (bare.usage, bare.model, 1 if texts == "one text" else 2)


def test_embeddings_of_older_unity_games_are_an_object(embedding: Stack) -> None:
    engine, api, body = embedding.engine(), embedding.client(), {"content": "one text"}
    bare = engine.post("/embeddings", body).json()
    assert api.post("/embeddings", body).json() == api.post("/embedding", body).json() == bare
    old = {"User-Agent": "UnityPlayer/2022.3.1f1 (UnityWebRequest/1.0, libcurl/8.1.1-DEV)"}
    (vector,) = bare[0]["embedding"]
    assert api.post("/embeddings", body, headers=old).json() == {"embedding": vector}


def raised(call: Any) -> openai.APIStatusError:
    """Return the exception that a call raises; its body is an error as the client reads it."""
    with pytest.raises(openai.APIStatusError) as caught:
        call()
    return caught.value


def kind_of(error: openai.APIStatusError) -> Any:
    """Return the type that an error's body names."""
    assert isinstance(error.body, dict)
    return error.body["type"]


def test_an_unknown_api_key_is_said_to_be_one(stack: Stack) -> None:
    with client(stack.url, "unknown") as c:
        error = raised(lambda: c.chat.completions.create(**SAID))
        assert isinstance(error, openai.AuthenticationError)
        assert kind_of(error) == "token_unknown"
        assert isinstance(raised(c.models.list), openai.AuthenticationError)


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model_is_not_found(both: Pair, stream: bool) -> None:
    _, given = both
    for call in (
        lambda: given.chat.completions.create(**SAID | {"model": "gpt-9", "stream": stream}),
        lambda: given.completions.create(**ASKED | {"model": "gpt-9", "stream": stream}),
        lambda: given.embeddings.create(model="gpt-9", input="x"),
    ):
        error = raised(call)
        assert isinstance(error, openai.NotFoundError)
        assert kind_of(error) == "model_not_found"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"messages": "Hi"}, "invalid_request_error"),
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, "exceed_context_size_error"),
    ],
    ids=["messages", "context"],
)
def test_what_cannot_be_used_is_a_bad_request(both: Pair, fields: dict[str, Any], kind: str, stream: bool) -> None:
    errors = [raised(lambda c=c: c.chat.completions.create(**SAID | fields | {"stream": stream})) for c in both]
    assert all(isinstance(error, openai.BadRequestError) for error in errors)
    assert (errors[1].body, kind_of(errors[1])) == (errors[0].body, kind)


@pytest.mark.parametrize("stream", [False, True])
def test_a_field_of_a_wrong_type_is_named(both: Pair, stream: bool) -> None:
    bare, given = (
        raised(lambda c=c: c.chat.completions.create(**SAID | {"temperature": "hot", "stream": stream})) for c in both
    )
    for error in (bare, given):
        assert isinstance(error, openai.BadRequestError)
        assert kind_of(error) == "invalid_request_error"
    # The bare engine has its own words for it, and no path.
    assert given.param == "temperature"


def test_what_the_engine_does_not_offer_is_a_server_error_of_its_own(both: Pair) -> None:
    errors = [raised(lambda c=c: c.embeddings.create(model=MODEL, input="x")) for c in both]
    assert [(type(error), error.status_code) for error in errors] == [(openai.InternalServerError, 501)] * 2
    assert errors[1].body == errors[0].body


def test_a_route_that_is_not_there_is_not_found(both: Pair, api: Client) -> None:
    _, given = both
    assert isinstance(raised(given.files.list), openai.NotFoundError)
    assert api.get("/v1/files").json()["error"]["type"] == "not_found_error"
