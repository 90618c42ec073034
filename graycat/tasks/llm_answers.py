"""Rebuilds the answer that an engine gives whole from the events of its stream, for each API of llama.cpp's server.

The functions take the events' JSON in its order and return the JSON of the answer, equal to the engine's own but for
what differs between any two runs: ids, times and timings. Where the wire is from: ``server_task_result_cmpl_final`` and
``server_task_result_cmpl_partial`` in llama.cpp's ``tools/server/server-task.cpp``, compared with the answers of build
11549 in ``tests/integration/test_differences.py``. All raise EngineLost if the events end too early.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from graycat.errors import EngineError, EngineLost

Json = dict[str, Any]

#: The order of the fields in whole answers, as the engine writes them. Fields of later versions follow behind.
_CHAT_FIELDS = ("choices", "created", "model", "system_fingerprint", "object", "usage", "id")
_RESPONSE_FIELDS = ("completed_at", "created_at", "id", "model", "object", "output", "status", "usage")
_ITEM_FIELDS = {
    "message": ("content", "id", "role", "status", "type"),
    "reasoning": ("id", "summary", "type", "content", "encrypted_content", "status"),
}
_TOOL_CALL_FIELDS = ("type", "function", "id")


class NotRebuildableError(Exception):
    """Raised if the stream lacks something that the whole answer has. Only a plain call tells it then."""


@dataclass(frozen=True)
class Request:
    """What was asked. ``detokenize`` returns the text of token ids, by the engine. Raises EngineError, EngineLost."""

    body: Mapping[str, Any]
    detokenize: Callable[[Sequence[int]], str]


Rebuild = Callable[[Iterable[Any], Request], Any]


def _ordered(fields: Json, order: Sequence[str]) -> Json:
    """Return an object with its fields in this order, and what is not named behind them."""
    ordered = {}
    for name in order:
        if name in fields:
            ordered[name] = fields[name]
    return ordered | fields


def _in_order(answers: Mapping[int, Any]) -> list[Any]:
    """Return the answers by their index. Raises EngineLost if one is missing."""
    if not answers or sorted(answers) != list(range(len(answers))):
        raise EngineLost
    return [answers[index] for index in range(len(answers))]


class _NativeAnswer:
    """One answer of ``/completion`` or ``/infill``, from its events."""

    def __init__(self) -> None:
        self._content: list[str] = []
        self._probabilities: list[Any] = []
        #: Tokens at the end whose text was not sent, because it may become a stop word.
        self._held: list[int] = []
        self._final: Json = {}

    def add(self, event: Json) -> None:
        """Add the next event."""
        self._content.append(event["content"])
        self._probabilities += event.get("completion_probabilities", [])
        if event["stop"]:
            self._final = event
        elif event["content"]:
            self._held = []
        elif event.get("tokens_predicted"):
            # An event without it tells how far the prompt is.
            self._held += event.get("tokens", [])

    def whole(self, request: Request) -> Json:
        """Return the whole answer: the final event with the text and the probabilities of all."""
        if not self._final:
            raise EngineLost
        final = self._final
        final["content"] = "".join(self._content) + self._held_text(request)
        final.get("generation_settings", {})["stream"] = False
        if "completion_probabilities" in final or self._probabilities:
            final["completion_probabilities"] = self._probabilities
        return final

    def _held_text(self, request: Request) -> str:
        """Return the text that an answer ends with when its length is reached in the beginning of a stop word."""
        words = self._final.get("generation_settings", {}).get("stop")
        if not words or not self._held or self._final.get("stop_type") != "limit":
            return ""
        text = request.detokenize(self._held)
        return text if _ends_in_beginning(text, words) else ""


def _ends_in_beginning(text: str, words: Iterable[str]) -> bool:
    """Return whether a text ends with the beginning of one of the words."""
    for word in words:
        for length in range(1, len(word)):
            if text.endswith(word[:length]):
                return True
    return False


def rebuild_completion(events: Iterable[Any], request: Request) -> Json | list[Json]:
    """Return the answer of ``/completion`` and ``/infill``: an object, or a list if there are several answers."""
    answers: dict[int, _NativeAnswer] = {}
    for event in _objects(events):
        answers.setdefault(event.get("index", 0), _NativeAnswer()).add(event)
    whole = [answer.whole(request) for answer in _in_order(answers)]
    return whole[0] if len(whole) == 1 else whole


class _TextChoice:
    """One choice of ``/v1/completions``, from its events."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._logprobs: list[Any] = []
        #: The last event; its choice says why the answer ended.
        self.closing: Json = {}

    def add(self, choice: Json, event: Json) -> None:
        """Add the next event and the choice in it."""
        self._text.append(choice["text"])
        self._logprobs += (choice.get("logprobs") or {}).get("content", [])
        if choice["finish_reason"]:
            self.closing = event

    def whole(self, *, may_hold: bool) -> Json:
        """Return the whole choice. ``may_hold``: there are stop words, so the end of the text may not have been sent.

        Raises NotRebuildableError if it was not.
        """
        if not self.closing:
            raise EngineLost
        choice: Json = self.closing["choices"][0]
        # Each token has an event, and the closing one is no token.
        if may_hold and choice["finish_reason"] == "length" and self._text[-2:-1] == [""]:
            raise NotRebuildableError
        choice["text"] = "".join(self._text)
        if self._logprobs:
            choice["logprobs"] = {"content": self._logprobs}
        return choice


def rebuild_openai_completion(events: Iterable[Any], request: Request) -> Json:
    """Return the answer of ``/v1/completions``."""
    choices: dict[int, _TextChoice] = {}
    for event in _objects(events):
        choice = event["choices"][0]
        choices.setdefault(choice["index"], _TextChoice()).add(choice, event)
    in_order = _in_order(choices)
    may_hold = bool(request.body.get("stop"))
    whole = [choice.whole(may_hold=may_hold) for choice in in_order]
    answer: Json = in_order[0].closing
    answer["choices"] = whole
    return answer


class _ChatChoice:
    """One choice of a chat, from its events."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._message: Json = {"role": "assistant", "content": ""}
        self._tool_calls: dict[int, Json] = {}
        self._finish_reason = ""
        #: How many tokens had been generated when the newest part of the message was sent, if the events tell.
        self._sent_tokens = -1
        #: The event that tells the usage.
        self.closing: Json = {}

    def add(self, choice: Json, event: Json) -> None:
        """Add the next event and the choice in it."""
        for name, part in choice["delta"].items():
            if name == "tool_calls":
                self._add_tool_calls(part)
            elif name == "role":
                self._message[name] = part
            elif part is not None:
                self._message[name] = self._message.get(name, "") + part
        self._sent_tokens = event.get("timings", {}).get("predicted_n", self._sent_tokens)
        if choice["finish_reason"]:
            self._finish_reason = choice["finish_reason"]
            self.closing = event

    def _add_tool_calls(self, parts: list[Json]) -> None:
        for part in parts:
            if part["index"] not in self._tool_calls:
                self._tool_calls[part["index"]] = {name: part[name] for name in _TOOL_CALL_FIELDS if name in part}
            else:
                self._tool_calls[part["index"]]["function"]["arguments"] += part["function"].get("arguments", "")

    def whole(self, *, may_hold: bool) -> Json:
        """Return the whole choice. ``may_hold``: there are stop words, so the end of the text may not have been sent.

        Raises NotRebuildableError if it was not.
        """
        if not self._finish_reason:
            raise EngineLost
        if may_hold and self._finish_reason == "length" and self._sent_tokens != self._count_tokens():
            raise NotRebuildableError
        message = self._message
        if self._tool_calls:
            message["tool_calls"] = _in_order(self._tool_calls)
        return {"finish_reason": self._finish_reason, "index": self._index, "message": message}

    def _count_tokens(self) -> Any:
        return self.closing.get("usage", {}).get("completion_tokens")


def rebuild_chat(events: Iterable[Any], request: Request) -> Json:
    """Return the answer of ``/v1/chat/completions``. The stream must tell its usage (``stream_options``)."""
    choices: dict[int, _ChatChoice] = {}
    newest = -1
    for event in _objects(events):
        for choice in event["choices"]:
            newest = choice["index"]
            choices.setdefault(newest, _ChatChoice(newest)).add(choice, event)
        if not event["choices"]:
            # The usage follows right behind the end of its choice.
            choices[newest].closing = event
    in_order = _in_order(choices)
    may_hold = bool(request.body.get("stop"))
    whole = [choice.whole(may_hold=may_hold) for choice in in_order]
    answer = in_order[0].closing | {"choices": whole, "object": "chat.completion"}
    return _ordered(answer, _CHAT_FIELDS)


def rebuild_response(events: Iterable[Any], _request: Request) -> Json:
    """Return the answer of ``/v1/responses``, which the last event holds."""
    for event in _objects(events):
        if event.get("type") == "response.completed":
            answer: Json = event["response"]
            answer.setdefault("completed_at", answer["created_at"])
            answer["output"] = list(map(_whole_item, answer["output"]))
            return _ordered(answer, _RESPONSE_FIELDS)
    raise EngineLost


def _whole_item(item: Json) -> Json:
    """Return an item of a response's output as the whole answer has it."""
    item.setdefault("status", "completed")
    return _ordered(item, _ITEM_FIELDS.get(item["type"], ()))


class _Message:
    """An answer of ``/v1/messages``, from its events."""

    def __init__(self) -> None:
        self._message: Json = {}
        self._blocks: dict[int, Json] = {}
        self._closing: Json = {}
        self._ended = False

    def add(self, event: Json) -> None:
        """Add the next event. Raises EngineError if it is an error, NotRebuildableError for two blocks in one place."""
        kind = event["type"]
        if kind == "message_start":
            self._message = event["message"]
        elif kind == "content_block_start":
            if event["index"] in self._blocks:
                raise NotRebuildableError
            self._blocks[event["index"]] = dict(event["content_block"])
        elif kind == "content_block_delta":
            _add_to_block(self._blocks[event["index"]], event["delta"])
        elif kind == "message_delta":
            self._closing = event
        elif kind == "message_stop":
            self._ended = True
        elif "code" in event:
            raise EngineError(int(event["code"]), json.dumps({"error": event}).encode())

    def whole(self) -> Json:
        """Return the whole answer. Raises NotRebuildableError if the stream does not say how it began."""
        if not self._ended:
            raise EngineLost
        if not self._message or not self._closing:
            raise NotRebuildableError
        message = self._message
        message["content"] = [_whole_block(self._blocks[index]) for index in sorted(self._blocks)]
        message["usage"] |= self._closing["usage"]
        message |= self._closing["delta"]
        return message


def rebuild_message(events: Iterable[Any], _request: Request) -> Json:
    """Return the answer of ``/v1/messages``. Raises EngineError for an error that came within the stream.

    Raises NotRebuildableError if the stream lacks its first event, as it does if the first token is no whole character.
    """
    message = _Message()
    for event in _objects(events):
        message.add(event)
    return message.whole()


def _add_to_block(block: Json, delta: Json) -> None:
    """Add to a block what came next: text, thoughts, a signature, or a tool's input as JSON."""
    for name, part in delta.items():
        if name != "type":
            block[name] = block.get(name, "") + part


def _whole_block(block: Json) -> Json:
    """Return a block as the whole answer has it: the input of a tool is an object, empty if its JSON is cut off."""
    if block["type"] != "tool_use":
        return block
    try:
        block["input"] = json.loads(block.pop("partial_json", ""), parse_constant=_refuse_constant)
    except ValueError:
        block["input"] = {}
    return block


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _objects(events: Iterable[Any]) -> Iterator[Json]:
    """Yield the events that are objects: ``[DONE]`` and ``null`` carry nothing."""
    for event in events:
        if event is not None:
            yield event
