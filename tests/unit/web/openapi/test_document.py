from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from openapi_spec_validator import OpenAPIV31SpecValidator

from graycat.web.openapi.document import PAGES, PUBLIC_ENDPOINTS
from tests.support.helpers import SECRET


def operations(web) -> dict[tuple[str, str], dict[str, Any]]:
    """Return every documented operation by its method and path."""
    paths = web.get("/openapi.json").json["paths"]
    return {(method.upper(), path): o for path, by_method in paths.items() for method, o in by_method.items()}


def address(path: str) -> str:
    """Return a path that a client could ask for."""
    return path.replace("{number}", "0").replace("{task_id}", "a-task").replace("{batch_id}", "a-batch")


def test_the_document_has_every_route_and_no_other(web, shared_app: Flask) -> None:
    rules = [rule for rule in shared_app.url_map.iter_rules() if rule.endpoint.partition(".")[0] not in PAGES]
    routes = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in rules
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert set(operations(web)) == routes
    assert ("POST", "/v1/chat/completions") in routes
    assert ("GET", "/tasks/{task_id}/images/{number}") in routes


def test_public_routes_are_documented_as_public(web, shared_app: Flask) -> None:
    client = shared_app.test_client()
    for (method, path), operation in operations(web).items():
        status = client.open(address(path), method=method).status_code
        assert (status == 401) == (operation.get("security") != []), f"{method} {path}"
    public = [
        r for r in shared_app.url_map.iter_rules() if r.endpoint in PUBLIC_ENDPOINTS and "GET" in (r.methods or ())
    ]
    assert len(public) == sum(o.get("security") == [] for o in operations(web).values())


def test_routes_that_accept_basic_auth_are_documented_so(web, shared_app: Flask) -> None:
    client = shared_app.test_client()
    for (method, path), operation in operations(web).items():
        taken = client.open(address(path), method=method, auth=("me", SECRET)).status_code != 401
        assert taken == ({"password": []} in operation.get("security", []) or operation.get("security") == []), path


def test_every_operation_says_what_it_does_and_what_can_go_wrong(web) -> None:
    for (_, path), operation in operations(web).items():
        assert operation["summary"].endswith("."), path
        assert "`" not in operation["summary"], path
        assert {"500", "503"} <= set(operation["responses"]), path
        assert any(status.startswith("2") for status in operation["responses"]), path


def test_every_part_that_is_referred_to_is_there(web) -> None:
    document = web.get("/openapi.json")
    schemas = document.json["components"]["schemas"]
    assert set(re.findall(r'"\$ref":"#/components/schemas/(\w+)"', document.text.replace(" ", ""))) == set(schemas)
    named = {name for o in operations(web).values() for way in o.get("security", []) for name in way}
    assert named <= set(document.json["components"]["securitySchemes"])


@pytest.mark.parametrize(
    ("path", "names"),
    [("/tasks/{task_id}/images/{number}", {"task_id": "string", "number": "integer"}), ("/health", {})],
)
def test_a_path_s_variables_are_documented(web, path: str, names: dict[str, str]) -> None:
    parameters = operations(web)["GET", path]["parameters"]
    assert {p["name"]: p["schema"]["type"] for p in parameters if p["in"] == "path"} == names


def test_every_operation_is_in_a_group_of_the_document_and_has_a_name_of_its_own(web) -> None:
    document = web.get("/openapi.json").json
    groups = [tag["name"] for tag in document["tags"]]
    assert groups[:4] == ["Games", "Chat", "Tasks", "Images"]
    assert {tag for o in operations(web).values() for tag in o["tags"]} == set(groups)
    names = [o["operationId"] for o in operations(web).values()]
    assert all(re.fullmatch(r"[a-z][A-Za-z0-9]+", name) for name in names)
    assert sorted(set(names)) == sorted(names)


def test_a_further_path_of_an_operation_is_an_alias(web) -> None:
    found = operations(web)
    assert found["POST", "/completion"]["tags"] == ["Games"]
    assert found["POST", "/completions"]["tags"] == ["Aliases"]
    assert found["POST", "/completions"]["summary"].endswith("The same as /completion.")
    assert found["GET", "/v1/models"]["tags"] == ["Chat"]
    assert found["GET", "/models"]["tags"] == found["GET", "/v1/health"]["tags"] == ["Aliases"]


def test_the_document_is_a_valid_one(web) -> None:
    OpenAPIV31SpecValidator(web.get("/openapi.json").json).validate()


def arrays(part: Any) -> Iterator[dict[str, Any]]:
    """Yield every schema of an array in a part of the document."""
    if isinstance(part, dict):
        if part.get("type") == "array":
            yield part
        for inner in part.values():
            yield from arrays(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from arrays(inner)


def test_every_array_says_what_its_items_are(web) -> None:
    """Generators of clients leave out an operation with an array of nothing."""
    document = web.get("/openapi.json").json
    found = list(arrays({"paths": document["paths"], "components": document["components"]}))
    assert len(found) > 20
    assert [schema for schema in found if "items" not in schema] == []
