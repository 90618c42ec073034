from __future__ import annotations

import gzip

import pytest

from graycat.web.openapi import document

PATHS = pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/docs/assets/reference.js"])


def test_an_answer_is_built_once_a_process(web_with, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []

    def count() -> dict[str, object]:
        built.append(1)
        return {"openapi": "3.1.0", "info": {"version": "1"}, "paths": {}}

    monkeypatch.setattr(document, "openapi", count)
    web = web_with()
    assert {web.get("/openapi.json").status_code for _ in range(3)} == {200}
    assert built == [1]


@PATHS
def test_an_answer_is_compressed_for_those_who_can_read_that(web, path: str) -> None:
    plain = web.get(path)
    packed = web.get(path, headers={"Accept-Encoding": "br, gzip"})
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data
    assert len(packed.data) * 2 < len(plain.data)
    assert {answer.headers["Vary"] for answer in (plain, packed)} == {"Accept-Encoding"}


@PATHS
@pytest.mark.parametrize("refusal", ["identity", "gzip;q=0", "br"])
def test_an_answer_is_not_compressed_for_others(web, path: str, refusal: str) -> None:
    assert "Content-Encoding" not in web.get(path, headers={"Accept-Encoding": refusal}).headers


@PATHS
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_who_has_the_answer_is_not_sent_it_again(web, path: str, encoding: str) -> None:
    headers = {"Accept-Encoding": encoding}
    first = web.get(path, headers=headers)
    assert first.headers["Cache-Control"] == "public, max-age=300"
    again = web.get(path, headers={**headers, "If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert web.get(path, headers={**headers, "If-None-Match": 'W/"another"'}).status_code == 200


@PATHS
def test_a_head_request_has_the_headers_alone(web, path: str) -> None:
    answer = web.head(path)
    assert (answer.status_code, answer.data) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 1000
