from __future__ import annotations

from graycat.schedules.definition import FIELDS
from graycat.web.openapi import schedules
from tests.unit.web.api.test_schedules import NIGHTLY


def test_what_a_schedule_takes_is_documented_field_by_field() -> None:
    body = schedules.operation("schedules.add")["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == set(FIELDS)
    assert body["required"] == ["name", "cron", "spec"]


def test_every_shown_field_is_documented(web) -> None:
    web.post("/schedules", json=NIGHTLY)
    shown = web.get("/schedules/nightly").json
    assert set(shown) == set(schedules.schemas()["Schedule"]["properties"])


def test_other_routes_have_no_operation_here() -> None:
    assert schedules.operation("tasks.show") == {}
