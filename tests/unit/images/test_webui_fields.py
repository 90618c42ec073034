"""The types of fields; more of them are in test_webui_requests.py, on the whole check."""

from __future__ import annotations

import json
from typing import Any

import pytest

from graycat.errors import RequestError
from graycat.images import webui_fields
from graycat.images.webui_fields import drop_nulls, normalize

FIELDS = (
    *webui_fields.SEED_FIELDS,
    *webui_fields.INT_FIELDS,
    *webui_fields.FLOAT_FIELDS,
    *webui_fields.BOOL_FIELDS,
    *webui_fields.TEXT_FIELDS,
    *webui_fields.LIST_FIELDS,
)
VALUES: list[Any] = [None, True, 0, -1, 1.5, 1e300, "", "64", "x", [], {}, ["a"]]


@pytest.mark.parametrize("field", FIELDS)
def test_every_value_is_sent_in_the_field_s_type_or_refused(field: str) -> None:
    for value in VALUES:
        problem = ""
        sent: dict[str, Any] = {}
        try:
            sent = normalize(drop_nulls({field: value}))
        except RequestError as error:
            problem = str(error)
        assert not problem or field in problem
        assert None not in sent.values()
        assert json.loads(json.dumps(sent, allow_nan=False)) == sent
        if field in (*webui_fields.INT_FIELDS, *webui_fields.SEED_FIELDS) and sent:
            assert type(sent[field]) is int
        if field in webui_fields.TEXT_FIELDS and sent:
            assert type(sent[field]) is str


def test_fields_that_nobody_knows_stay() -> None:
    body = {"new_field": None, "other": [1, None]}
    assert normalize(drop_nulls(body)) == body


@pytest.mark.parametrize("field", webui_fields.SEED_FIELDS)
@pytest.mark.parametrize("value", [1.5, -0.5, 1e300, float("nan"), float("inf"), "1.5"])
def test_a_seed_with_a_fraction_is_refused(field: str, value: Any) -> None:
    with pytest.raises(RequestError, match=f"'{field}' must be a whole number"):
        normalize({field: value})


@pytest.mark.parametrize("field", webui_fields.SEED_FIELDS)
def test_a_seed_that_is_whole_is_a_number_in_any_spelling(field: str) -> None:
    for value in (1, 1.0, "1"):
        assert normalize({field: value}) == {field: 1}


@pytest.mark.parametrize("style", [None, [], {}, 7, True])
def test_a_style_is_a_name(style: Any) -> None:
    with pytest.raises(RequestError, match=r"'styles\[1\]' must be a string"):
        normalize({"styles": ["fine", style]})
    assert normalize({"styles": ["fine", ""]}) == {"styles": ["fine", ""]}
