from __future__ import annotations

import gzip
import json
import re
import zlib

import pytest

from graycat.bounds.unreadable import explain

#: Words of Python's, or of its readers of JSON and of text.
PYTHON = re.compile(
    r"Expecting|Invalid|codec|can't decode|sys\.|int\b|float|char \d|Extra data|Exceeds|literal|object at"
)

BODIES = [
    (b"", "the body is empty"),
    (b" \n", "the body is empty"),
    (gzip.compress(b"{}", mtime=0), "the body is compressed; send plain JSON"),
    (zlib.compress(b"{}"), "the body is compressed; send plain JSON"),
    ("{}".encode("utf-16"), "the body is written in UTF-16; send JSON as UTF-8"),
    ('{"a": 1}'.encode("utf-16-le"), "the body is written in UTF-16"),
    ('{"a": 1}'.encode("utf-32"), "the body is written in UTF-32"),
    (b'{"a": "\xff"}', "byte 8 is not UTF-8"),
    (b'\xef\xbb\xbf{"a": }', "line 1, column 7: no JSON value begins there"),
    (b"a=b", "line 1, column 1: no JSON value begins there; text needs double quotes"),
    (b'{"a": "b"', "line 1, column 10: the body ends too early"),
    (b'{"a": ', "the body ends too early"),
    (b"{'a': 1}", "line 1, column 2: a name in double quotes is missing there"),
    (b'{"a" 1}', "column 6: a colon is missing there"),
    (b'{"a": 1 "b": 2}', "column 9: a comma is missing there"),
    (b'{"a": "b}', "column 7: the string that begins there has no end"),
    (b'{"a":\n "b\nc"}', "line 2, column 4: a line break or another control character must be escaped"),
    (rb'{"a": "\x41"}', "JSON has no such escape after a backslash"),
    (rb'{"a": "\u00g0"}', "JSON has no such escape after a backslash"),
    (b'{"a": 1} {}', "column 10: there the JSON is over, and something follows it"),
    (b'{"a": NaN}', "'a' is NaN, which JSON does not have; send a number"),
    (b'{"a": [1, {"b": -Infinity}]}', "'a[1].b' is -Infinity"),
    (b'{"a": {"b": 1e999}}', "'a.b' is a number that is too large"),
    (b'{"a": -' + b"9" * 5000 + b"}", "'a' has 5000 digits; a number may have 4300"),
    (b"9" * 5000, "'the body' has 5000 digits"),
    (b"NaN", "'the body' is NaN"),
]


@pytest.mark.parametrize(("raw", "expected"), BODIES, ids=lambda value: repr(value)[:30])
def test_what_is_wrong_is_told_in_plain_words_with_its_place(raw: bytes, expected: str) -> None:
    message = explain(raw)
    assert expected in message
    assert not PYTHON.search(message), message


@pytest.mark.parametrize("raw", [b'{"a": 1,}', b"[1,]", b"[1, 2"])
def test_a_comma_too_many_is_told_by_every_python(raw: bytes) -> None:
    assert not PYTHON.search(explain(raw))


def test_nothing_of_the_body_is_quoted_but_the_path_and_that_is_short() -> None:
    secret = "a wish that nobody may read"
    assert secret not in explain(json.dumps({"prompt": secret}).encode()[:-3])
    assert len(explain(json.dumps({"a" * 10_000: {"b" * 10_000: [float("nan")]}}).encode())) < 250
