from __future__ import annotations

from typing import Any

import pytest

from graycat.batches.runner.prompt_writer import build_chat_request
from graycat.batches.spec.images import PromptRequest
from graycat.bounds.body import check_bounds
from graycat.bounds.budget import Budget
from graycat.bounds.schema import UNLIMITED, check_schema
from graycat.errors import RequestError, TooComplex
from graycat.settings import Settings

SMALL = {
    "max_grammar_alternatives": 3,
    "max_repetition": 10,
    "max_grammar_size": 30,
    "max_schema_nodes": 40,
    "max_schema_properties": 3,
}


def check(schema: Any, **limits: Any) -> None:
    check_schema(schema, Budget(Settings(**limits)), (None, "json_schema"))


def record(fields: int, **keywords: Any) -> dict[str, Any]:
    """Return the schema of an object with some fields, as generators write it."""
    properties = {f"field_{i}": {"type": "string", "description": "What it is.", **keywords} for i in range(fields)}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def tools(count: int, fields: int) -> list[dict[str, Any]]:
    parameters = record(fields, minLength=1, maxLength=255)
    parameters["properties"]["when"] = {"type": ["string", "null"], "format": "date-time"}
    parameters["properties"]["tags"] = {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 20}
    function = {"name": "call", "description": "Does something useful. " * 10, "parameters": parameters}
    return [{"type": "function", "function": function} for _ in range(count)]


def api_description() -> dict[str, Any]:
    """Return a schema as one that is taken out of a large OpenAPI document: definitions that refer to each other."""
    definitions: dict[str, Any] = {}
    for number in range(40):
        # Every text of some well-known APIs may have 5,000 characters.
        schema = record(10, maxLength=5000)
        schema["properties"]["code"] = {"type": "string", "pattern": "^[a-zA-Z0-9._-]{1,64}$"}
        schema["properties"]["next"] = {"$ref": f"#/$defs/T{(number + 1) % 40}"}
        schema["properties"]["all"] = {"type": "array", "items": {"$ref": f"#/$defs/T{(number + 7) % 40}"}}
        schema["properties"]["size"] = {"type": "integer", "minimum": 0, "maximum": UNLIMITED}
        schema["properties"]["either"] = {"anyOf": [{"$ref": "#/$defs/T0"}, {"type": "null"}]}
        definitions[f"T{number}"] = schema
    return {"$defs": definitions, "$ref": "#/$defs/T0"}


REAL = {
    "a small one": {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}},
    "country codes": {"enum": [f"{a}{b}" for a in "ABCDEFGHIJKLMNOPQ" for b in "ABCDEFGHIJKLMNO"]},
    "a tree": {"$defs": {"t": {"properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/t"}}}}}},
    "a list of itself": {"type": "array", "items": {"$ref": "#"}},
    "no limit, as generators write it": record(50, minLength=0, maxLength=UNLIMITED),
    "columns of a database": record(40, maxLength=65_535),
    "a field named as a keyword": {"properties": {"pattern": {}, "enum": {"type": "string"}, "$ref": {}}},
    "a wide object": record(500),
    "a long list": {"type": "array", "items": record(10), "minItems": 1, "maxItems": 10_000},
    "anything": True,
}


@pytest.mark.parametrize("name", REAL)
def test_real_schemas_pass(name: str) -> None:
    check(REAL[name])


def test_an_openapi_document_passes() -> None:
    check(api_description())
    nested_definitions = {"type": "object", "properties": {"it": api_description()}}
    check_bounds({"response_format": {"json_schema": {"schema": nested_definitions}}}, Settings())


def test_definitions_count_where_they_are_referred_to_and_properties_of_that_name_do() -> None:
    definitions = {"$defs": {f"t{i}": {"maxLength": 10} for i in range(10)}}
    check(definitions, **SMALL)
    with pytest.raises(TooComplex, match="GRAYCAT_MAX_GRAMMAR_SIZE"):
        check(definitions | {"refs": [{"$ref": f"#/$defs/t{i}"} for i in range(4)]}, **SMALL)
    hidden = {"properties": {"$defs": {"anyOf": [{"maxLength": 10}] * 2, "items": [{"maxLength": 10}] * 2}}}
    with pytest.raises(TooComplex, match="GRAYCAT_MAX_GRAMMAR_SIZE"):
        check(hidden, **SMALL)
    properly_named = {"properties": {"properties": {"$defs": hidden["properties"]}}}
    check(properly_named, **SMALL)


def test_the_most_tools_that_openai_takes_pass() -> None:
    check_bounds({"tools": tools(128, 12)}, Settings())
    anthropic = [{"name": "f", "input_schema": tool["function"]["parameters"]} for tool in tools(128, 12)]
    check_bounds({"tools": anthropic}, Settings())


def test_what_batches_ask_of_a_text_engine_passes() -> None:
    request = PromptRequest(text="x", count=500, model="", temperature=1.0, seed=1)
    check_bounds(build_chat_request(request, [], 0), Settings())


@pytest.mark.parametrize(
    ("within", "above", "setting", "place"),
    [
        (record(3), record(4), "max_schema_properties", ".properties"),
        ({"enum": [1, 2, 3]}, {"enum": [1, 2, 3, 4]}, "max_grammar_alternatives", ".enum"),
        ({"anyOf": [{}] * 3}, {"anyOf": [{}] * 4}, "max_grammar_alternatives", ".anyOf"),
        ({"oneOf": [{}] * 3}, {"oneOf": [{}] * 4}, "max_grammar_alternatives", ".oneOf"),
        ({"allOf": [{}] * 3}, {"allOf": [{}] * 4}, "max_grammar_alternatives", ".allOf"),
        ({"maxItems": 10}, {"maxItems": 11}, "max_repetition", ".maxItems"),
        ({"minItems": 10}, {"minItems": 11}, "max_repetition", ".minItems"),
        ({"maxLength": 10}, {"maxLength": 11}, "max_repetition", ".maxLength"),
        ({"minLength": 10.0}, {"minLength": 11.0}, "max_repetition", ".minLength"),
        ({"maxLength": UNLIMITED}, {"minLength": UNLIMITED}, "max_repetition", ".minLength"),
        ({"pattern": "^a{10}$"}, {"pattern": "^a{11}$"}, "max_repetition", ".pattern"),
        ([{"maxItems": 10}] * 3, [{"maxItems": 10}] * 4, "max_grammar_size", "[0].maxItems"),
        ({"x": [1] * 36}, {"x": [1] * 40}, "max_schema_nodes", ".x"),
        ({"type": ["string", "null"], "x": [1] * 30}, {"type": ["x", "x"], "x": [1] * 30}, "max_schema_nodes", ".x"),
    ],
)
def test_each_limit_of_a_schema(within: Any, above: Any, setting: str, place: str) -> None:
    check(within, **SMALL)
    with pytest.raises(TooComplex, match=f"GRAYCAT_{setting.upper()}") as caught:
        check(above, **SMALL)
    assert str(caught.value).startswith(f"json_schema{place} has ")


def test_what_a_reference_leads_to_counts_once_for_each_of_its_names() -> None:
    def referring(*references: str) -> dict[str, Any]:
        return {"$defs": {"a": {"b": [1] * 9}}, "refs": [{"$ref": reference} for reference in references]}

    check(referring("#/$defs/a", "#/$defs/a", "#/$defs/a"), max_schema_nodes=45)
    with pytest.raises(TooComplex, match="GRAYCAT_MAX_SCHEMA_NODES"):
        check(referring("#/$defs/a", "#/$defs", "#/$defs/a/b"), max_schema_nodes=45)


@pytest.mark.parametrize("reference", ["", "#", "#/", "#/none/0/x", "https://example.com/a#/b", "a.json", "#/list/7"])
def test_a_reference_that_leads_nowhere_is_left_to_the_engine(reference: str) -> None:
    check({"list": [1], "$ref": reference})


def test_references_may_follow_each_other_but_not_without_end() -> None:
    def chain(length: int) -> dict[str, Any]:
        links: dict[str, Any] = {f"r{i}": {"$ref": f"#/$defs/r{i + 1}"} for i in range(length)}
        links[f"r{length}"] = {"type": "string"}
        # Deeper in the schema, where llama.cpp finds them as well.
        return {"properties": {"x": {"$ref": "#/$defs/r0"}, "y": {"$defs": links}}}

    check(chain(20))
    with pytest.raises(RequestError, match="from reference to reference"):
        check(chain(50))


@pytest.mark.parametrize("count", [True, "7", None, [7], {"a": 1}])
def test_a_count_of_another_type_is_left_to_the_engine(count: Any) -> None:
    check({"maxItems": count, "minLength": count}, **SMALL)


def test_a_count_below_zero_is_refused() -> None:
    with pytest.raises(RequestError, match=r"json_schema.maxItems must not be below 0"):
        check({"maxItems": -1})
