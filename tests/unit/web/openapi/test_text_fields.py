from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from graycat.web.compat.field_types import FIELD_TYPES
from graycat.web.compat.text_routes import TEXT_ROUTES
from graycat.web.openapi.text_fields import FIELDS


@pytest.mark.parametrize("route", TEXT_ROUTES, ids=lambda route: route.paths[0])
def test_a_route_names_fields_that_are_described(route) -> None:
    assert set(route.fields) <= set(FIELDS)
    assert set(route.required) <= set(route.fields)


def test_every_described_field_is_named_by_a_route() -> None:
    assert set(FIELDS) == {name for route in TEXT_ROUTES for name in route.fields}


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_field_has_a_description(name: str) -> None:
    assert FIELDS[name]["description"].endswith(".")


SAMPLES: list[Any] = [
    *("a", "", 5, -1, 1.5, True, None, {}, {"a": 1}, {"prompt_string": "a"}, []),
    *(
        ["a"],
        [5],
        [1.5],
        ["a", 5],
        [None],
        [True],
        [{}],
        [["a"]],
        [[5, "a"]],
        [{"prompt_string": "a"}],
        [{"text": "a"}],
    ),
]


@pytest.mark.parametrize("route", TEXT_ROUTES, ids=lambda route: route.paths[0])
def test_what_the_document_allows_in_a_field_is_taken(route) -> None:
    for name in route.fields:
        known = FIELD_TYPES.get(route.kind, {}).get(name)
        if known is None:
            continue
        validator = jsonschema_rs.Draft202012Validator(FIELDS[name])
        refused = [sample for sample in SAMPLES if validator.is_valid(sample) and not known.fits(sample)]
        assert not refused, name
