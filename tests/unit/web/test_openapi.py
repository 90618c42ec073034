from __future__ import annotations

import re

from flask import Flask


def documented(web) -> set[tuple[str, str]]:
    paths = web.get("/openapi.json").json["paths"]
    return {(method.upper(), path) for path, operations in paths.items() for method in operations}


def test_the_document_has_every_route_and_no_other(web, shared_app: Flask) -> None:
    rules = [rule for rule in shared_app.url_map.iter_rules() if rule.endpoint != "static"]
    routes = {
        (method, re.sub(r"<(.*?)>", r"{\1}", rule.rule))
        for rule in rules
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert documented(web) == routes
    assert ("POST", "/v1/chat/completions") in routes


def test_what_needs_no_token_is_told(web, shared_app: Flask) -> None:
    client = shared_app.test_client()
    paths = web.get("/openapi.json").json["paths"]
    for path, operations in paths.items():
        for method, operation in operations.items():
            status = client.open(path, method=method.upper()).status_code
            assert (status == 401) == ("security" not in operation), f"{method} {path}"


def test_every_operation_says_what_it_does_and_what_can_go_wrong(web) -> None:
    for path, operations in web.get("/openapi.json").json["paths"].items():
        for operation in operations.values():
            assert operation["summary"].endswith("."), path
            assert {"200", "500", "503"} <= set(operation["responses"]), path


def test_the_page_shows_every_route_and_needs_nothing_from_elsewhere(web) -> None:
    page = web.get("/docs").text
    for _, path in documented(web):
        assert f">{path}<" in page
    assert re.findall(r"(?:src|href)=\"(?!/)[^\"]*\"", page) == []
    assert "<script" not in page
