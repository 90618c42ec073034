"""Bounds of a text request's body, whichever API it is in: the fields have the same names or their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from graycat.bounds.budget import Budget, Place
from graycat.bounds.grammar import check_grammar
from graycat.bounds.nesting import check_text_depth
from graycat.bounds.schema import check_schema
from graycat.bounds.usable_schema import check_usable
from graycat.settings import Settings

#: Where to look in a field: keys, one inside the other.
Paths = tuple[tuple[str, ...], ...]
Check = Callable[[Any, Budget, Place], None]

#: Where a field has a JSON schema: llama.cpp's, OpenAI's and Anthropic's.
_SCHEMA_PATHS: dict[str, Paths] = {
    "json_schema": ((),),
    "response_format": (("schema",), ("json_schema", "schema")),
    "text": (("format", "schema"),),
    "output_format": (("schema",),),
    "output_config": (("format", "schema"),),
}
#: The same of one tool.
_TOOL_PATHS: Paths = (("function", "parameters"), ("parameters",), ("input_schema",))


def check_bounds(body: dict[str, Any], settings: Settings) -> None:
    """Check a text request. Raises RequestError, TooComplex, GrammarTooLarge; a field of another type is left alone.

    The nesting of the body as a whole was checked when it was read.
    """
    budget = Budget(settings)
    for field in _CHECKS.keys() & body.keys():
        value = body[field]
        if value is not None:
            _CHECKS[field](value, budget, (None, field))
    answers = count_answers(body)
    if answers > 1:
        budget.check(answers, "max_answers", "answers to give ('prompt', 'n', 'best_of')", None)


def count_answers(body: dict[str, Any]) -> int:
    """Return how many answers a request asks for."""
    answers = 1
    for name in ("n", "n_cmpl", "best_of"):
        answers = max(answers, parse_count(body.get(name)) or 1)
    prompt = body.get("prompt")
    if is_list_of_prompts(prompt):
        answers *= max(1, len(prompt))  # type: ignore[arg-type]
    return answers


def is_list_of_prompts(prompt: Any) -> bool:
    """Return whether a prompt is a list of prompts; a list with token ids is one prompt."""
    return isinstance(prompt, list) and not any(isinstance(part, int) for part in prompt)


def parse_count(value: Any) -> int | None:
    """Return a count that an engine can use; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        return None
    return int(value)


def _check_grammar(value: Any, budget: Budget, place: Place) -> None:
    if isinstance(value, str):
        check_grammar(value, budget, place)


def _check_schemas(paths: Paths, value: Any, budget: Budget, place: Place) -> None:
    """Check a field that has JSON schemas under some paths."""
    if not isinstance(value, dict):
        return
    budget.check_bytes(len(json.dumps(value)), "max_schema_bytes", place)
    for schema, where in _find(value, paths, place):
        check_schema(schema, budget, where)


def _check_own_schema(value: Any, budget: Budget, place: Place) -> None:
    """Check llama.cpp's own field of a schema, whose engine drops one that it cannot use."""
    _check_schemas(((),), value, budget, place)
    check_usable(value, place)


def _check_response_format(value: Any, budget: Budget, place: Place) -> None:
    paths = _SCHEMA_PATHS["response_format"]
    _check_schemas(paths, value, budget, place)
    for schema, where in _find(value, paths, place):
        # What is wrong within one is the engine's to say.
        if not isinstance(schema, dict):
            check_usable(schema, where)


def _check_tools(value: Any, budget: Budget, place: Place) -> None:
    """Check a list of tools, each with a schema of its arguments."""
    if not isinstance(value, list):
        return
    budget.check(len(value), "max_tools", "tools", place)
    budget.check_bytes(len(json.dumps(value)), "max_schema_bytes", place)
    for index, tool in enumerate(value):
        for schema, where in _find(tool, _TOOL_PATHS, (place, index)):
            check_schema(schema, budget, where)


def _find(value: Any, paths: Paths, place: Place) -> Iterator[tuple[Any, Place]]:
    """Yield what lies under each of some paths, with its place; nothing for a path that leads nowhere."""
    for path in paths:
        found, where = value, place
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
            where = (where, key)
        if found is not None:
            yield found, where


def _check_words(value: Any, budget: Budget, place: Place) -> None:
    """Check a list of words, such as those that end an answer; or a single one."""
    words = value
    if not isinstance(value, list):
        words = [value]
    budget.check(len(words), "max_words", "entries", place)
    for index, word in enumerate(words):
        _check_word(word, budget, (place, index))


def _check_word(word: Any, budget: Budget, place: Place) -> None:
    if isinstance(word, dict):
        # A trigger of a grammar.
        word = word.get("value")
    if isinstance(word, str):
        budget.check(len(word), "max_word_chars", "characters", place)


def _check_biases(value: Any, budget: Budget, place: Place) -> None:
    """Check biases of tokens: an object, or a list of pairs."""
    if not isinstance(value, (dict, list)):
        return
    budget.check(len(value), "max_logit_bias", "entries", place)
    for index, entry in enumerate(value):
        word = entry
        if isinstance(entry, list) and entry:
            word = entry[0]
        _check_word(word, budget, (place, index))


def _check_samplers(value: Any, budget: Budget, place: Place) -> None:
    if isinstance(value, (str, list)):
        budget.check(len(value), "max_samplers", "samplers", place)


def _check_items(value: Any, budget: Budget, place: Place) -> None:
    """Check the length of a list of texts or the like; token ids in it do not count."""
    if not isinstance(value, list) or len(value) <= budget.settings.max_items:
        return
    items = len(value) - sum(map(_is_token_id, value))
    budget.check(items, "max_items", "entries", place)


def _is_token_id(value: Any) -> bool:
    return isinstance(value, int)


def _check_messages(value: Any, budget: Budget, place: Place) -> None:
    """Check a chat's messages: their number, the parts of each, and the arguments of calls, which an engine parses."""
    _check_items(value, budget, place)
    if not isinstance(value, list):
        return
    for index, message in enumerate(value):
        if not isinstance(message, dict):
            continue
        _check_items(message.get("content"), budget, ((place, index), "content"))
        _check_arguments(message.get("arguments"), budget)
        calls = message.get("tool_calls")
        if isinstance(calls, list):
            _check_calls(calls, budget, ((place, index), "tool_calls"))


def _check_calls(calls: list[Any], budget: Budget, place: Place) -> None:
    _check_items(calls, budget, place)
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            _check_arguments(function.get("arguments"), budget)


def _check_arguments(arguments: Any, budget: Budget) -> None:
    if isinstance(arguments, str):
        check_text_depth(arguments, budget.settings.max_json_depth)


def _check_probabilities(value: Any, budget: Budget, place: Place) -> None:
    budget.check(parse_count(value) or 0, "max_probs", "probabilities for each token", place)


#: What is checked of each field, in every API.
_CHECKS: dict[str, Check] = {
    "grammar": _check_grammar,
    "chat_parser": _check_grammar,
    **{field: partial(_check_schemas, paths) for field, paths in _SCHEMA_PATHS.items()},
    "json_schema": _check_own_schema,
    "response_format": _check_response_format,
    **dict.fromkeys(("tools", "functions"), _check_tools),
    **dict.fromkeys(("stop", "stop_sequences", "dry_sequence_breakers", "preserved_tokens"), _check_words),
    **dict.fromkeys(("grammar_triggers", "response_fields"), _check_words),
    "logit_bias": _check_biases,
    "samplers": _check_samplers,
    **dict.fromkeys(("messages", "input"), _check_messages),
    **dict.fromkeys(("prompt", "content", "documents", "texts", "input_extra", "system", "lora"), _check_items),
    **dict.fromkeys(("n_probs", "logprobs", "top_logprobs"), _check_probabilities),
}
