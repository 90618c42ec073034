from __future__ import annotations

import pytest

from graycat.client.error_parsing import build_error
from graycat.client.errors import RequestError, UnsupportedParameter
from graycat.client.image_errors import PromptParameter, UnknownName, WorkflowNotFound, WorkflowUnavailable


@pytest.mark.parametrize(
    ("status", "kind", "known", "base"),
    [
        (404, "workflow_not_found", WorkflowNotFound, RequestError),
        (409, "workflow_unavailable", WorkflowUnavailable, RequestError),
        (400, "unknown_name", UnknownName, RequestError),
        (400, "prompt_parameter", PromptParameter, UnsupportedParameter),
    ],
)
def test_an_error_about_images_is_known(status: int, kind: str, known: type[Exception], base: type[Exception]) -> None:
    error = build_error(status, {"type": kind, "message": "no"})
    assert type(error) is known
    assert isinstance(error, base)
