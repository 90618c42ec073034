from __future__ import annotations

import pytest

from graycat.web.openapi.answers import add
from graycat.web.openapi.components import ACCEPTED, JSON, answer, errors
from tests.unit.web.openapi.test_document import operations


def test_every_json_answer_has_a_schema(web) -> None:
    for (method, path), operation in operations(web).items():
        for status, response in operation["responses"].items():
            media = response.get("content", {}).get(JSON)
            assert media is None or "schema" in media, f"{method} {path} {status}"


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("openai.models", {"$ref": "#/components/schemas/ModelList"}),
        ("sdapi.list_samplers", {"type": "array", "items": {}}),
    ],
)
def test_the_schema_of_an_answer_is_that_of_its_endpoint(endpoint: str, expected: dict[str, str]) -> None:
    responses = {"202": {"content": {JSON: {}}}, **answer(JSON)}
    add(endpoint, responses)
    assert responses["200"]["content"][JSON]["schema"] == expected
    assert responses["202"]["content"][JSON]["schema"] == {"$ref": "#/components/schemas/AcceptedTask"}
    assert ACCEPTED["202"]["content"] == {JSON: {}}


def test_who_is_not_ready_answers_how_it_is_and_no_error() -> None:
    responses = answer(JSON) | errors((503,))
    add("health.ready", responses)
    assert responses["503"]["content"][JSON]["schema"] == {"$ref": "#/components/schemas/Readiness"}


def test_a_list_of_prompts_is_answered_by_a_list() -> None:
    responses = answer(JSON)
    add("llamacpp.completion", responses)
    one, many = responses["200"]["content"][JSON]["schema"]["anyOf"]
    assert many == {"type": "array", "items": one}
