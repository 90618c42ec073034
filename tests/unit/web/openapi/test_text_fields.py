from __future__ import annotations

import pytest

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
