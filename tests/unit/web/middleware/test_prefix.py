from __future__ import annotations

from typing import Any

import pytest
from werkzeug.test import Client

from graycat.web.middleware.prefix import PrefixMiddleware, without_prefix


@pytest.mark.parametrize(
    ("path", "rest"),
    [
        ("/gpu/tasks", "/tasks"),
        ("/tasks", "/tasks"),
        ("/gpu/", "/"),
        ("/gpu", "/gpu"),
        ("/gpus/tasks", "/gpus/tasks"),
        ("/gpu/gpu/tasks", "/gpu/tasks"),
        ("/tasks/gpu/x", "/tasks/gpu/x"),
        ("", ""),
    ],
)
def test_a_prefix_is_taken_away_once(path: str, rest: str) -> None:
    assert without_prefix(path, "/gpu") == rest


def test_the_application_knows_where_it_is() -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [f"{environ['SCRIPT_NAME']} {environ['PATH_INFO']}".encode()]

    client = Client(PrefixMiddleware(application, "/gpu"))
    assert [client.get(path).text for path in ("/gpu/health", "/health")] == ["/gpu /health"] * 2
