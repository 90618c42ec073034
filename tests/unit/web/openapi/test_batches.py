from __future__ import annotations

from graycat.batches import spec
from graycat.web.openapi import batches


def test_the_body_has_every_field_of_a_spec() -> None:
    body = batches.operation("batches.submit")["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == set(spec.FIELDS)


def test_other_endpoints_have_no_operation() -> None:
    assert batches.operation("tasks.submit") == {}
