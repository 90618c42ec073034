"""Every route that takes a body, and bodies that nobody should send: plain words as JSON, no redirection, no 500."""

from __future__ import annotations

import gzip
import re

import pytest
from flask.testing import FlaskClient

from tests.support import good_requests
from tests.unit.web.openapi.test_document import operations

PYTHON = re.compile(r"NoneType|Traceback|Expecting |codec|sys\.|<!doctype|<html|Error\(|' object|unhashable|\bNone\b")
BODIES = {
    "empty": b"",
    "gzip": gzip.compress(b"{}"),
    "utf-16": '{"prompt": "x"}'.encode("utf-16"),
    "no utf-8": b'{"prompt": "\xff"}',
    "half": b'{"prompt": ',
    "python's": b"{'prompt': None}",
    "more": b'{"prompt": "x"} {}',
    "a line break": b'{"prompt": "a\nb"}',
    "nan": b'{"prompt": "x", "temperature": NaN}',
    "infinite": b'{"prompt": "x", "temperature": 1e999}',
    "digits": b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}",
    "deep": b'{"prompt": ' + b"[" * 3000 + b"]" * 3000 + b"}",
    "a form": b"prompt=x",
}
NAMES = {"task_id": "t", "batch_id": "b", "number": "0", "chosen_id": "mine", "name": "n", "prefix": "gc_abcdefgh"}
NAMES |= {"queue": "sd", "worker": "sd@box"}


@pytest.mark.parametrize("name", BODIES)
def test_no_route_answers_in_python_s_words_nor_with_a_redirection(web: FlaskClient, name: str) -> None:
    for method, path in operations(web):
        if method not in ("POST", "PUT"):
            continue
        address = good_requests.fill(path, NAMES)
        answer = web.open(address, method=method, data=BODIES[name], headers=good_requests.ASYNC)
        # 503: what the body asks for is fine, and no engine runs here.
        assert answer.status_code // 100 in (2, 4) or answer.status_code == 503, (path, answer.text)
        if answer.status_code >= 400:
            assert answer.mimetype == "application/json", path
            assert not PYTHON.search(answer.text), (path, answer.text)
