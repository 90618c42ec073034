"""Which bytes belong to one file: its versions, its hash and its length."""

from __future__ import annotations

import pytest

from graycat.engines.models.errors import DownloadFailed
from tests.support.download_setup import CONTENT
from tests.support.files import Served, gguf, safetensors, sha256
from tests.support.servers import Handler


def test_a_file_that_changes_between_two_parts_is_never_spliced(set_up_download) -> None:
    new = gguf(seed=2)
    served = Served(CONTENT, drops=[100_000])

    def answer(handler: Handler) -> None:
        if not served.drops:
            served.content, served.etag = new, '"v2"'
        served(handler)

    setup = set_up_download(answer)
    assert setup.fetch().read_bytes() == new
    assert setup.ranges() == ["", "bytes=100000-"]


def test_a_changed_file_is_noticed_where_if_range_is_ignored(set_up_download) -> None:
    new = gguf(seed=2)
    served = Served(CONTENT, drops=[100_000], heeds=False)

    def answer(handler: Handler) -> None:
        if not served.drops:
            served.content, served.etag = new, '"v2"'
        served(handler)

    setup = set_up_download(answer)
    assert setup.fetch().read_bytes() == new
    assert setup.ranges() == ["", "bytes=100000-", ""]


@pytest.mark.parametrize("headers", [{"ETag": ""}, {"ETag": 'W/"weak"'}])
def test_without_a_validator_nothing_is_resumed(set_up_download, headers: dict[str, str]) -> None:
    setup = set_up_download(Served(CONTENT, etag=headers["ETag"], drops=[100_000]))
    assert setup.fetch().read_bytes() == CONTENT
    assert setup.ranges() == ["", ""]


def test_a_date_is_a_validator_too(set_up_download) -> None:
    date = "Mon, 23 Nov 2026 10:00:00 GMT"
    setup = set_up_download(Served(CONTENT, etag="", headers={"Last-Modified": date}, drops=[100_000], heeds=False))
    assert setup.fetch().read_bytes() == CONTENT
    assert setup.seen.headers[1]["if-range"] == date


def test_a_range_beyond_the_end_restarts_the_download(set_up_download) -> None:
    new = gguf(50_000)
    served = Served(CONTENT, drops=[100_000], heeds=False)

    def answer(handler: Handler) -> None:
        if not served.drops:
            served.content = new
        served(handler)

    setup = set_up_download(answer)
    assert setup.fetch().read_bytes() == new
    assert setup.ranges() == ["", "bytes=100000-", ""]


def test_a_pinned_hash_is_compared(set_up_download) -> None:
    setup = set_up_download(Served(CONTENT))
    assert setup.fetch(f"/m.gguf#sha256={sha256(CONTENT)}")
    assert setup.fetch(f"/m.gguf#sha256={sha256(CONTENT).upper()}")
    assert len(setup.seen.requests) == 1


def test_a_wrong_hash_leaves_nothing(set_up_download) -> None:
    setup = set_up_download(Served(CONTENT))
    with pytest.raises(DownloadFailed, match="another hash") as caught:
        setup.fetch(f"/m.gguf#sha256={'0' * 64}")
    assert caught.value.permanent
    assert setup.files() == []


def test_parts_of_two_files_under_one_version_do_not_pass_a_pinned_hash(set_up_download) -> None:
    new = gguf(seed=2)
    served = Served(CONTENT, drops=[100_000])

    def answer(handler: Handler) -> None:
        if not served.drops:
            served.content = new
        served(handler)

    setup = set_up_download(answer)
    assert setup.fetch(f"/m.gguf#sha256={sha256(new)}").read_bytes() == new
    assert setup.ranges() == ["", "bytes=100000-", ""]


def test_another_pin_replaces_the_file(set_up_download) -> None:
    served = Served(CONTENT)
    setup = set_up_download(served)
    setup.fetch()
    served.content = gguf(seed=2)
    path = setup.fetch(f"/m.gguf#sha256={sha256(served.content)}")
    assert (path.name, path.read_bytes()) == ("m.gguf", served.content)
    assert setup.files() == ["m.gguf", "m.gguf.json"]


@pytest.mark.parametrize("difference", [-1000, 1000])
def test_a_wrong_length_is_no_whole_file(set_up_download, difference: int) -> None:
    content = safetensors(100_000)
    headers = {
        "Content-Length": str(len(content) + difference),
        "Content-Disposition": "attachment; filename=m.safetensors",
    }
    setup = set_up_download(Served(content, headers=headers, ranges=False))
    with pytest.raises(DownloadFailed):
        setup.fetch()
    assert not (setup.folder / "m.safetensors").exists()
