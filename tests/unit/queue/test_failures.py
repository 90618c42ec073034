from __future__ import annotations

import pytest

from graycat.queue.failures import read_error

SILENT = "the engine answered 500 and did not say why; the operator finds more in its log"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":"OutOfMemoryError","detail":"","body":"","errors":"CUDA"}', "OutOfMemoryError: CUDA"),
        (b'{"detail":"Not Found"}', "Not Found"),
        (b'{"detail":[{"loc":["body","steps"],"msg":"too many"}, "odd"]}', "body.steps: too many; odd"),
        (b'{"error": "prompt required"}', "prompt required"),
        (b"Internal Server Error", "Internal Server Error"),
        (b'["odd"]', '["odd"]'),
        (b'{"message": "odd"}', '{"message": "odd"}'),
    ],
)
def test_every_form_of_an_error_says_something(body: bytes, message: str) -> None:
    assert read_error(500, body) == {"code": 500, "type": "engine_error", "message": message}


@pytest.mark.parametrize(
    "body", [b"", b"null", b"{}", b"[]", b'""', b'{"error":null}', b'{"error":{}}', b'{"detail":[]}']
)
def test_an_error_that_says_nothing_says_so(body: bytes) -> None:
    assert read_error(500, body) == {"code": 500, "type": "engine_silent", "message": SILENT}


def test_an_error_in_llama_cpp_s_form_keeps_all_that_it_says() -> None:
    body = b'{"error":{"code":400,"message":"too long","type":"exceed_context_size_error","n_ctx":4096}}'
    assert read_error(400, body) == {
        "code": 400,
        "message": "too long",
        "type": "exceed_context_size_error",
        "n_ctx": 4096,
    }


def test_a_long_text_is_cut() -> None:
    assert len(read_error(500, b"x" * 10_000)["message"]) == 500
