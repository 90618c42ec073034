"""Which bytes belong to one file: its versions, its hash and its length."""

from __future__ import annotations

import pytest

from graycat.engines.models.errors import DownloadFailed
from tests.support.files import Served, gguf, safetensors, sha256
from tests.support.places import CONTENT
from tests.support.servers import Handler


def test_a_file_that_changes_between_two_parts_is_never_spliced(place) -> None:
    new = gguf(seed=2)
    served = Served(CONTENT, drops=[100_000])

    def answer(handler: Handler) -> None:
        if not served.drops:
            served.content, served.etag = new, '"v2"'
        served(handler)

    here = place(answer)
    assert here.fetch().read_bytes() == new
    assert here.ranges() == ["", "bytes=100000-"]


def test_a_changed_file_is_noticed_where_if_range_is_ignored(place) -> None:
    new = gguf(seed=2)
    served = Served(CONTENT, drops=[100_000], heeds=False)

    def answer(handler: Handler) -> None:
        if not served.drops:
            served.content, served.etag = new, '"v2"'
        served(handler)

    here = place(answer)
    assert here.fetch().read_bytes() == new
    assert here.ranges() == ["", "bytes=100000-", ""]


@pytest.mark.parametrize("headers", [{"ETag": ""}, {"ETag": 'W/"weak"'}])
def test_without_a_way_to_tell_versions_apart_nothing_is_gone_on_with(place, headers: dict[str, str]) -> None:
    here = place(Served(CONTENT, etag=headers["ETag"], drops=[100_000]))
    assert here.fetch().read_bytes() == CONTENT
    assert here.ranges() == ["", ""]


def test_a_date_tells_versions_apart_too(place) -> None:
    date = "Mon, 23 Nov 2026 10:00:00 GMT"
    here = place(Served(CONTENT, etag="", headers={"Last-Modified": date}, drops=[100_000], heeds=False))
    assert here.fetch().read_bytes() == CONTENT
    assert here.seen.headers[1]["if-range"] == date


def test_a_range_that_is_no_more_there_begins_anew(place) -> None:
    new = gguf(50_000)
    served = Served(CONTENT, drops=[100_000], heeds=False)

    def answer(handler: Handler) -> None:
        if not served.drops:
            served.content = new
        served(handler)

    here = place(answer)
    assert here.fetch().read_bytes() == new
    assert here.ranges() == ["", "bytes=100000-", ""]


def test_a_pinned_hash_is_compared(place) -> None:
    here = place(Served(CONTENT))
    assert here.fetch(f"/m.gguf#sha256={sha256(CONTENT)}")
    assert here.fetch(f"/m.gguf#sha256={sha256(CONTENT).upper()}")
    assert len(here.seen.requests) == 1


def test_a_wrong_hash_leaves_nothing(place) -> None:
    here = place(Served(CONTENT))
    with pytest.raises(DownloadFailed, match="another hash") as caught:
        here.fetch(f"/m.gguf#sha256={'0' * 64}")
    assert caught.value.permanent
    assert here.files() == []


def test_parts_of_two_files_under_one_version_do_not_pass_a_pinned_hash(place) -> None:
    new = gguf(seed=2)
    served = Served(CONTENT, drops=[100_000])

    def answer(handler: Handler) -> None:
        if not served.drops:
            served.content = new
        served(handler)

    here = place(answer)
    assert here.fetch(f"/m.gguf#sha256={sha256(new)}").read_bytes() == new
    assert here.ranges() == ["", "bytes=100000-", ""]


def test_another_pin_replaces_the_file(place) -> None:
    served = Served(CONTENT)
    here = place(served)
    here.fetch()
    served.content = gguf(seed=2)
    path = here.fetch(f"/m.gguf#sha256={sha256(served.content)}")
    assert (path.name, path.read_bytes()) == ("m.gguf", served.content)
    assert here.files() == ["m.gguf", "m.gguf.json"]


@pytest.mark.parametrize("told", [-1000, 1000])
def test_a_wrong_length_is_no_whole_file(place, told: int) -> None:
    content = safetensors(100_000)
    headers = {"Content-Length": str(len(content) + told), "Content-Disposition": "attachment; filename=m.safetensors"}
    here = place(Served(content, headers=headers, ranges=False))
    with pytest.raises(DownloadFailed):
        here.fetch()
    assert not (here.folder / "m.safetensors").exists()
