from __future__ import annotations

from graycat.usage.amounts import Amounts, Row, day_of
from graycat.web.openapi import usage


def test_the_schema_names_the_fields_of_the_answer() -> None:
    properties = usage.schemas()["Usage"]["properties"]
    row = Row("game", day_of(0), "llm", Amounts())
    assert list(properties["rows"]["items"]["properties"]) == list(row.to_dict())
    assert list(properties["total"]["properties"]) == list(Amounts().to_dict())


def test_only_the_usage_route_is_described() -> None:
    operation = usage.operation("usage.show")
    assert [parameter["name"] for parameter in operation["parameters"]] == ["from", "to", "owner"]
    assert usage.operation("tokens.mint") == {}
