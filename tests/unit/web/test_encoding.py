from __future__ import annotations

import json
from typing import Any

import pytest

from graycat.web.encoding import JsonWriter

BODIES: tuple[dict[str, Any], ...] = (
    {},
    {"b": 1, "a": {"d": [{"z": 1, "y": None}], "c": "x"}, "ü": 'ü\n"\\\x7f\U0001f600', "": True},
    {"prompt": "plain text {}", "n": 1.5, "ids": [1, 2], "stop": []},
)


@pytest.mark.parametrize("ensure_ascii", [True, False])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("body", BODIES, ids=str)
def test_an_object_is_written_as_json_dumps_writes_it(body: dict[str, Any], encoding: str, ensure_ascii: bool) -> None:
    raw = json.dumps(body, ensure_ascii=ensure_ascii).encode(encoding)
    for writer in (JsonWriter(), JsonWriter(raw)):
        value = json.loads(raw)
        for fields in (value, value | {"stream": True}, value):
            assert writer.write(fields) == json.dumps(fields)
            assert "".join(writer.pieces_sorted(fields)) == json.dumps(fields, sort_keys=True)


@pytest.mark.parametrize("raw", ['{"a": "\x7f"}', '{"a": "\\u0041\\n"}', '{"a": "ü"}', '{"a": "x"}'])
def test_a_text_that_json_may_hold_as_it_is_may_still_be_written_otherwise(raw: str) -> None:
    value = json.loads(raw)
    assert JsonWriter(raw.encode()).write(value) == json.dumps(value)


def test_characters_that_look_like_ascii_in_utf_16_are_escaped() -> None:
    raw = '{"a": "\u0141"}'.encode("utf-16-be")
    assert raw.isascii()
    assert JsonWriter(raw).write(json.loads(raw)) == '{"a": "\\u0141"}'


def test_a_value_is_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []
    real = json.dumps

    def note(value: Any, **options: Any) -> str:
        written.append(value)
        return real(value, **options)

    monkeypatch.setattr(json, "dumps", note)
    fields = {"ids": [1, 2, 3], "text": "ü"}
    writer = JsonWriter()
    writer.write(fields)
    writer.write(fields | {"stream": True})
    list(writer.pieces_sorted(fields))
    assert written.count([1, 2, 3]) == written.count("ü") == 1


def test_a_value_that_was_replaced_is_written_anew() -> None:
    writer = JsonWriter()
    assert writer.write({"n_predict": 500}) == '{"n_predict": 500}'
    assert writer.write({"n_predict": 10}) == '{"n_predict": 10}'
