"""Requests made up from /openapi.json: no status that it does not tell, and no 5xx that is not the engine's own."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import CHECKS, load_all_checks

from graycat.web.compat.text_routes import TEXT_ROUTES
from tests.support.stack import REQUEST_S, Client, Stack

#: Requests an operation: such as fit the document, and such as do not.
FITTING, MISFITS = 15, 10
#: So that what generates is short, whatever the document would allow.
SHORT = {"n_predict": 1, "max_tokens": 1, "max_output_tokens": 1}
POSITIVE, NEGATIVE = schemathesis.GenerationMode
LIMITS = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
NAMES = ("status_code_conformance", "content_type_conformance", "response_schema_conformance")
TABLES = {(route.kind.method, path): route for route in TEXT_ROUTES for path in route.paths}
#: The paths that differ in what answers them; aliases are the same view.
OPERATIONS = sorted({(route.kind.method, route.paths[0]) for route in TABLES.values()}) + [
    *(("GET", path) for path in ("/health", "/ready", "/props", "/v1/models", "/tasks/{task_id}")),
    *(("POST", path) for path in ("/health", "/props", "/template")),
]
#: What takes no field, no body and no part of a path cannot be asked wrongly.
CASES = [(*operation, POSITIVE) for operation in OPERATIONS] + [
    (*operation, NEGATIVE) for operation in OPERATIONS if operation in TABLES
]


@pytest.fixture(scope="module")
def document(stack: Stack) -> Any:
    """Return the document as a user gets it."""
    load_all_checks()
    # The API token is the session's own.
    config = schemathesis.Config.from_dict({"generation": {"with-security-parameters": False}})
    return schemathesis.openapi.from_url(f"{stack.url}/openapi.json", config=config)


def ask(case: Any, api: Client, engine: Client) -> None:
    """Send a request; the answer is one that the document tells, and a 5xx is what the bare engine answers too."""
    if isinstance(case.body, dict):
        case.body = case.body | SHORT
    answer = case.call(session=api.session, timeout=REQUEST_S)
    case.validate_response(answer, checks=[check for check in CHECKS.get_all() if check.__name__ in NAMES])
    if answer.status_code >= 500:
        sent = case.as_transport_kwargs()
        given = {name: sent[name] for name in ("json", "data") if name in sent}
        bare = engine.request(case.method, case.path, **given)
        assert (answer.status_code, answer.json()) == (bare.status_code, bare.json()), case.as_curl_command()
    if answer.status_code == 202:
        # Accepted; what it would have been is worth knowing, too.
        del case.headers["Prefer"]
        ask(case, api, engine)


@pytest.mark.parametrize(("method", "path", "mode"), CASES)
def test_an_answer_is_one_that_the_document_tells(
    document: Any, api: Client, engine: Client, method: str, path: str, mode: schemathesis.GenerationMode
) -> None:
    strategy = document[path][method].as_strategy(generation_mode=mode)
    most = FITTING if mode.is_positive else MISFITS

    @settings(LIMITS, max_examples=most)
    @given(case=strategy)
    def run(case: Any) -> None:
        ask(case, api, engine)

    run()


def test_every_operation_of_the_tables_is_asked() -> None:
    assert {route.kind for route in TABLES.values()} == {TABLES[key].kind for key in OPERATIONS if key in TABLES}
