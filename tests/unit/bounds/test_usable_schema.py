from __future__ import annotations

from typing import Any

import pytest

from graycat.bounds.body import check_bounds
from graycat.bounds.usable_schema import check_usable
from graycat.errors import RequestError
from graycat.settings import Settings

TREE: dict[str, Any] = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}}
    },
}
NESTED = {"properties": {"a": {"$defs": {"b": {"type": "null"}}, "$ref": "#/$defs/b"}}}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"$ref": "#/nowhere"}, "json_schema.$ref is '#/nowhere'"),
        ({"$ref": "#/$defs/a", "$defs": {"b": {}}}, "json_schema.$ref"),
        ({"$ref": "https://example.org/s.json"}, "which this schema does not have"),
        ({"$ref": "#"}, "json_schema.$ref"),
        ({"properties": {"a": {"items": {"$ref": "#/x"}}}}, "json_schema.properties.a.items.$ref"),
        ({"anyOf": [{"type": "null"}, {"$ref": "#/x"}]}, "json_schema.anyOf[1].$ref"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}}}, "json_schema.$ref.$ref"),
        ({"type": "banana"}, "json_schema.type must be of array, boolean"),
        ({"type": ["string", "banana"]}, "json_schema.type"),
        ({"type": 5}, "json_schema.type"),
        ({"prefixItems": [{"enum": []}]}, "json_schema.prefixItems[0].enum must be a list of at least one value"),
        ("banana", "json_schema must be a JSON schema"),
        (5, "json_schema must be a JSON schema"),
        (False, "json_schema must be a JSON schema"),
        ({"items": {"minimum": 3, "maximum": 1}}, "json_schema.items.minimum is above the maximum"),
        ([{}], "json_schema must be a JSON schema"),
    ],
)
def test_a_schema_that_an_engine_would_drop_is_refused_with_its_path(schema: Any, said: str) -> None:
    with pytest.raises(RequestError) as refused:
        check_bounds({"prompt": "x", "json_schema": schema}, Settings())
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        None,
        TREE,
        NESTED,
        {"type": "object", "$defs": {"unused": {"$ref": "#/nowhere"}}},
        {"type": "object", "properties": {"$ref": {"type": "string"}}},
        {"type": "string", "default": {"$ref": "#/x"}, "enum": [{"$ref": "#/x"}]},
        {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {}}},
        {"type": "object", "properties": {"child": {"$ref": "#"}}},
        {"$ref": "#here", "$defs": {"a": {"$anchor": "here"}}},
        {"$id": "https://example.org/s.json", "properties": {"a": {"$ref": "s.json#/$defs/b"}}},
        {"type": ["string", "null"]},
        {"minimum": 1, "maximum": 1.5, "minItems": "a"},
        {"definitions": {"a": {"const": 1}}, "items": {"$ref": "#/definitions/a"}},
    ],
)
def test_a_schema_that_an_engine_can_use_passes(schema: Any) -> None:
    check_bounds({"prompt": "x", "json_schema": schema}, Settings())


@pytest.mark.parametrize("schema", ["x", [{}]])
def test_a_chat_s_schema_that_is_no_object_is_refused(schema: Any) -> None:
    with pytest.raises(RequestError, match="response_format.json_schema.schema"):
        check_bounds({"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}, Settings())


def test_what_is_wrong_within_a_chat_s_schema_is_the_engine_s_to_say() -> None:
    schema = {"$ref": "#/nowhere"}
    check_bounds({"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}, Settings())


def test_many_references_to_one_place_are_followed_once() -> None:
    names = {f"f{number}": {"$ref": "#/$defs/a"} for number in range(1000)}
    check_usable({"properties": names, "$defs": {"a": {"$ref": "#/$defs/a"}}}, (None, "json_schema"))
