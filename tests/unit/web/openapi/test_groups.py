from __future__ import annotations

import pytest

from graycat.web.openapi import groups


@pytest.mark.parametrize(
    ("endpoint", "is_alias", "expected"),
    [
        ("llamacpp.completion", False, "Games"),
        ("llamacpp.completion", True, "Aliases"),
        ("health.engine", False, "Games"),
        ("health.live", False, "Operators"),
        ("gallery.link", False, "Batches"),
    ],
)
def test_an_operation_is_in_the_group_of_who_calls_it(endpoint: str, is_alias: bool, expected: str) -> None:
    assert groups.group_name(endpoint, is_alias=is_alias) == expected


def test_an_operation_is_named_after_its_endpoint_and_an_alias_after_its_path() -> None:
    assert groups.operation_id("tasks.submit", "POST", "/tasks", is_alias=False) == "tasksSubmit"
    assert groups.operation_id("x.y", "GET", "/v1/models/{model}", is_alias=True) == "getV1ModelsModel"


def test_a_group_leads_to_its_guide(web) -> None:
    links = {tag["name"]: tag["externalDocs"]["url"] for tag in groups.tags() if "externalDocs" in tag}
    assert set(groups.GROUPS) - set(links) == {"Aliases"}
    assert {web.get(link).status_code for link in links.values()} == {200}
    assert groups.tags("/gpu")[0]["externalDocs"]["url"].startswith("/gpu/docs/guides/")
