"""One checkpoint over HTTP, from servers that break, lie and change their minds."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from graycat.engines.models import downloads, metadata, transfer
from graycat.engines.models.errors import DownloadFailed
from graycat.engines.models.sources import parse_source
from tests.support.files import BLOCK, Served, sha256
from tests.support.helpers import PATIENCE_S, Stopwatch, eventually, outcome_of
from tests.support.places import CONTENT
from tests.support.servers import Answer, Handler, hold, reply


def test_a_file_comes_whole_with_a_record_beside_it(place) -> None:
    here = place(Served(CONTENT))
    path = here.fetch()
    assert (path, path.read_bytes()) == (here.folder / "m.gguf", CONTENT)
    assert here.files() == ["m.gguf", "m.gguf.json"]
    record = json.loads((here.folder / "m.gguf.json").read_text())
    assert (record["sha256"], record["size"]) == (sha256(CONTENT), len(CONTENT))
    assert record["source"] == f"{here.seen.url}/m.gguf"
    assert record["downloaded_at"].endswith("+00:00")
    assert here.told[-1] == ("m.gguf", 100.0)
    assert [percent for _, percent in here.told] == sorted(percent for _, percent in here.told)


def test_what_is_there_is_not_asked_for_again(place) -> None:
    here = place(Served(CONTENT))
    assert [here.fetch() for _ in range(3)] == [here.folder / "m.gguf"] * 3
    assert len(here.seen.requests) == 1


def test_ten_breaks_cost_only_what_was_missing(place) -> None:
    drops = sorted(random.SystemRandom().sample(range(1000, len(CONTENT)), 10))
    here = place(Served(CONTENT, drops=list(drops)))
    assert here.fetch().read_bytes() == CONTENT
    assert here.ranges() == ["", *(f"bytes={offset}-" for offset in drops)]
    assert {headers.get("if-range") for headers in here.seen.headers[1:]} == {'"v1"'}


def test_a_server_without_ranges_gives_the_file_from_its_beginning(place) -> None:
    here = place(Served(CONTENT, ranges=False, drops=[100_000]))
    assert here.fetch().read_bytes() == CONTENT


def test_a_server_that_always_breaks_off_is_given_up(place) -> None:
    here = place(Served(CONTENT, ranges=False, drops=[5000] * 50))
    with pytest.raises(DownloadFailed, match="broke off") as caught:
        here.fetch()
    assert not caught.value.permanent
    assert len(here.seen.requests) == downloads.MAX_ATTEMPTS
    assert not (here.folder / "m.gguf").exists()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_a_refusal_is_told_at_once(place, status: int) -> None:
    here = place(reply(status, b"secret words of the server"))
    with pytest.raises(DownloadFailed, match=f"answered {status}$") as caught:
        here.fetch()
    assert caught.value.permanent
    assert len(here.seen.requests) == 1
    assert here.files() == []


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_server_in_trouble_is_asked_again(place, status: int) -> None:
    served = Served(CONTENT)
    answers: list[Answer] = [served, *[reply(status, b"{}")] * 3]

    def answer(handler: Handler) -> None:
        answers.pop()(handler)

    here = place(answer)
    assert here.fetch().read_bytes() == CONTENT
    assert len(here.seen.requests) == 4


def test_a_redirect_is_followed(place) -> None:
    def redirect(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "/elsewhere/real.gguf")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    here = place(redirect, latest=redirect, **{"elsewhere/real.gguf": Served(CONTENT)})
    assert here.fetch().name == "m.gguf"
    # The address has no name for a checkpoint; the one that it leads to has.
    assert here.fetch("/latest").name == "real.gguf"


def test_a_reply_that_is_compressed_unasked_arrives_as_the_file(place) -> None:
    body = gzip.compress(CONTENT)
    served = Served(body, headers={"Content-Encoding": "gzip"}, drops=[50_000])
    here = place(served)
    assert here.fetch().read_bytes() == CONTENT
    assert here.ranges() == ["", ""]
    assert {headers["accept-encoding"] for headers in here.seen.headers} == {"identity"}


def test_a_body_without_length_and_frame_needs_a_pin(place) -> None:
    here = place(Served(CONTENT, length=False))
    with pytest.raises(DownloadFailed, match="sha256"):
        here.fetch()
    assert here.fetch(f"/m.gguf#sha256={sha256(CONTENT)}").read_bytes() == CONTENT


def test_a_chunked_body_ends_where_it_says(place) -> None:
    def chunked(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.piece(CONTENT[:1000])
        if len(here.seen.requests) > 1:
            handler.piece(CONTENT[1000:])
            handler.wfile.write(b"0\r\n\r\n")

    here = place(chunked)
    assert here.fetch().read_bytes() == CONTENT
    assert len(here.seen.requests) == 2


def test_a_server_that_falls_silent_is_asked_again(place, monkeypatch) -> None:
    monkeypatch.setattr(transfer, "READ_TIMEOUT_S", 0.2)

    def stall(handler: Handler, offset: int) -> None:
        if offset >= 5 * BLOCK and len(here.seen.requests) == 1:
            hold(handler)

    here = place(Served(CONTENT, before=stall))
    assert here.fetch().read_bytes() == CONTENT
    assert here.ranges() == ["", f"bytes={5 * BLOCK}-"]


def test_a_server_that_hardly_sends_anything_is_left(place, monkeypatch) -> None:
    monkeypatch.setattr(transfer, "SPEED_WINDOW_S", 0.0)
    monkeypatch.setattr(transfer, "MIN_WINDOW_BYTES", 10**9)
    here = place(Served(CONTENT))
    assert here.fetch().read_bytes() == CONTENT
    assert len(here.seen.requests) > 1


def test_a_download_stops_when_it_is_told_and_goes_on_later(place) -> None:
    def pause(handler: Handler, offset: int) -> None:
        if offset >= 5 * BLOCK and not here.stop.is_set():
            here.stop.wait(PATIENCE_S)

    here = place(Served(CONTENT, before=pause))
    result = outcome_of(here.fetch)
    eventually(lambda: here.told)
    watch = Stopwatch()
    here.stop.set()
    with pytest.raises(DownloadFailed, match="was stopped"):
        result()
    assert watch.seconds < 2
    assert 0 < here.half() < len(CONTENT)
    here.stop.clear()
    here.seen.answers["GET /m.gguf"] = Served(CONTENT)
    assert here.fetch().read_bytes() == CONTENT
    assert here.ranges()[-1].startswith("bytes=")


def test_a_record_without_its_file_is_no_checkpoint(place) -> None:
    """Killed between the record and the name, what is there is downloaded again, not taken for the file."""
    here = place(Served(CONTENT))
    path = here.fetch()
    path.unlink()
    assert metadata.find(here.folder, parse_source(f"{here.seen.url}/m.gguf")) is None
    assert here.fetch().read_bytes() == CONTENT


def test_a_whole_file_without_its_name_needs_no_server(place) -> None:
    here = place(Served(CONTENT))
    served = here.seen.answers.pop("GET /m.gguf")
    assert isinstance(served, Served)
    here.folder.mkdir(parents=True)
    key = parse_source(f"{here.seen.url}/m.gguf").key
    state = {"version": "", "validator": '"v1"', "size": len(CONTENT), "name": "m.gguf"}
    (here.folder / f"{key}.partial").write_bytes(CONTENT)
    (here.folder / f"{key}.partial.json").write_text(json.dumps(state))
    assert here.fetch().read_bytes() == CONTENT
    assert here.seen.requests == []


def test_a_folder_that_cannot_be_written_is_told(place, tmp_path: Path) -> None:
    here = place(Served(CONTENT))
    (tmp_path / "models").write_text("a file")
    with pytest.raises(DownloadFailed, match="cannot be written"):
        here.fetch()


def test_no_secret_of_an_address_is_kept_or_told(place, caplog) -> None:
    here = place(reply(404, b""), **{"m.gguf?token=hush-hush": Served(CONTENT, drops=[50_000])})
    here.seen.url = here.seen.url.replace("://", "://me:pass-word@")
    with caplog.at_level("DEBUG", logger="graycat"):
        here.fetch("/m.gguf?token=hush-hush")
        with pytest.raises(DownloadFailed) as caught:
            here.fetch("/m.gguf?x=hush-hush")
    kept = "".join(path.read_text() for path in here.folder.glob("*.json"))
    told = caplog.text + "".join(str(vars(record)) for record in caplog.records) + str(caught.value)
    assert [word for word in ("hush-hush", "pass-word") if word in kept + told] == []
    assert here.seen.headers[0]["authorization"].startswith("Basic ")
    # The same file under a newer signature.
    here.fetch("/m.gguf?token=another")
    assert len(here.seen.requests) == 3
