from __future__ import annotations

from graycat.engines.placeholder.errors import HTTPException, OutOfMemoryError, error_body


def test_what_is_refused_on_purpose_has_its_text_in_detail() -> None:
    expected = {"error": "HTTPException", "detail": "Model not found", "body": "", "errors": ""}
    assert error_body(HTTPException(404, "Model not found")) == (expected, 404)


def test_a_crash_has_its_text_in_errors() -> None:
    expected = {"error": "OutOfMemoryError", "detail": "", "body": "", "errors": "no room"}
    assert error_body(OutOfMemoryError("no room")) == (expected, 500)
    assert error_body(KeyError("x"))[0]["errors"] == "'x'"
