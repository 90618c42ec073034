from __future__ import annotations

from typing import Any

import pytest

from graycat.engines.placeholder import schema
from graycat.engines.placeholder.schema import Field, Invalid, Problem, UnreadableBody


def problems_of(coerce: schema.Coerce, value: Any) -> list[tuple[tuple[str | int, ...], str]]:
    with pytest.raises(Invalid) as caught:
        coerce(value)
    return [(problem.loc, problem.type) for problem in caught.value.problems]


@pytest.mark.parametrize("value", ["", "x", None, [], float("nan"), float("inf"), "1e3"])
def test_what_is_no_integer(value: object) -> None:
    assert problems_of(schema.integer, value) == [((), "type_error.integer")]


@pytest.mark.parametrize(("value", "expected"), [("-3", -3), (-2.9, -2), (False, 0), (10**30, 10**30)])
def test_what_becomes_an_integer(value: object, expected: int) -> None:
    assert schema.integer(value) == expected


def test_a_list_reports_each_invalid_item() -> None:
    coerce = schema.list_of(schema.integer)
    assert coerce(["1", 2.0]) == [1, 2]
    assert problems_of(coerce, [1, "x", None]) == [
        ((1,), "type_error.integer"),
        ((2,), "type_error.none.not_allowed"),
    ]


def test_limits_are_reported_with_their_value() -> None:
    coerce = schema.within(schema.number, ge=0, le=1)
    assert (coerce("0"), coerce(1)) == (0.0, 1.0)
    with pytest.raises(Invalid) as caught:
        coerce(2)
    (problem,) = caught.value.problems
    assert problem.to_dict() == {
        "loc": [],
        "msg": "ensure this value is less than or equal to 1",
        "type": "value_error.number.not_le",
        "ctx": {"limit_value": 1},
    }


def test_a_choice_is_not_converted() -> None:
    coerce = schema.one_of(0, 1)
    assert coerce(1.0) == 1
    assert problems_of(coerce, "1") == [((), "value_error.const")]


def test_a_model_drops_unknown_fields_and_reports_all_problems() -> None:
    coerce = schema.model([Field("a", schema.integer, 1), Field("b", schema.text, nullable=False, required=True)])
    assert coerce({"b": 2, "c": 3}) == {"a": 1, "b": "2"}
    assert problems_of(coerce, {"a": "x"}) == [(("a",), "type_error.integer"), (("b",), "value_error.missing")]
    assert problems_of(coerce, 5) == [((), "type_error.dict")]
    assert problems_of(coerce, {"b": None}) == [(("b",), "type_error.none.not_allowed")]


def test_a_default_is_never_shared() -> None:
    field = Field("a", schema.array, [])
    field.read({}).append(1)
    assert field.read({}) == []


def test_a_body_is_what_its_type_says() -> None:
    assert schema.parse(b"", "application/json") is None
    assert schema.parse(b"{}", "") == {}
    assert schema.parse(b"{}", "application/problem+json; charset=utf-8") == {}
    assert schema.parse(b"{}", "text/plain") == b"{}"
    with pytest.raises(UnreadableBody):
        schema.parse(b"\xff", "application/json")
    with pytest.raises(UnreadableBody):
        schema.parse(b"[" * 100_000, "application/json")
    with pytest.raises(Invalid):
        schema.parse(b"{", "application/json")


def test_a_missing_body_is_reported() -> None:
    with pytest.raises(Invalid) as caught:
        schema.validate(None, schema.mapping)
    assert caught.value.problems == (Problem(("body",), "field required", "value_error.missing"),)


def test_fields_can_have_other_defaults() -> None:
    fields = schema.replace_defaults([Field("a", schema.integer, 1), Field("b", schema.integer, 2)], a=5)
    assert schema.model(fields)({}) == {"a": 5, "b": 2}
