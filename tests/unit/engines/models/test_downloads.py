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
from tests.support.download_setup import CONTENT
from tests.support.files import BLOCK, Served, sha256
from tests.support.helpers import PATIENCE_S, Stopwatch, eventually, outcome_of
from tests.support.servers import Answer, Handler, hold, reply


def test_a_file_comes_whole_with_a_record_beside_it(set_up_download) -> None:
    setup = set_up_download(Served(CONTENT))
    path = setup.fetch()
    assert (path, path.read_bytes()) == (setup.folder / "m.gguf", CONTENT)
    assert setup.files() == ["m.gguf", "m.gguf.json"]
    record = json.loads((setup.folder / "m.gguf.json").read_text())
    assert (record["sha256"], record["size"]) == (sha256(CONTENT), len(CONTENT))
    assert record["source"] == f"{setup.seen.url}/m.gguf"
    assert record["downloaded_at"].endswith("+00:00")
    assert setup.progress[-1] == ("m.gguf", 100.0)
    assert [percent for _, percent in setup.progress] == sorted(percent for _, percent in setup.progress)


def test_a_complete_file_is_not_requested_again(set_up_download) -> None:
    setup = set_up_download(Served(CONTENT))
    assert [setup.fetch() for _ in range(3)] == [setup.folder / "m.gguf"] * 3
    assert len(setup.seen.requests) == 1


def test_ten_breaks_cost_only_what_was_missing(set_up_download) -> None:
    drops = sorted(random.SystemRandom().sample(range(1000, len(CONTENT)), 10))
    setup = set_up_download(Served(CONTENT, drops=list(drops)))
    assert setup.fetch().read_bytes() == CONTENT
    assert setup.ranges() == ["", *(f"bytes={offset}-" for offset in drops)]
    assert {headers.get("if-range") for headers in setup.seen.headers[1:]} == {'"v1"'}


def test_a_server_without_ranges_gives_the_file_from_its_beginning(set_up_download) -> None:
    setup = set_up_download(Served(CONTENT, ranges=False, drops=[100_000]))
    assert setup.fetch().read_bytes() == CONTENT


def test_a_server_that_always_breaks_off_fails_the_download(set_up_download) -> None:
    setup = set_up_download(Served(CONTENT, ranges=False, drops=[5000] * 50))
    with pytest.raises(DownloadFailed, match="broke off") as caught:
        setup.fetch()
    assert not caught.value.permanent
    assert len(setup.seen.requests) == downloads.MAX_ATTEMPTS
    assert not (setup.folder / "m.gguf").exists()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_a_refusal_is_not_tried_again(set_up_download, status: int) -> None:
    setup = set_up_download(reply(status, b"secret words of the server"))
    with pytest.raises(DownloadFailed, match=f"answered {status}$") as caught:
        setup.fetch()
    assert caught.value.permanent
    assert len(setup.seen.requests) == 1
    assert setup.files() == []


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_temporary_error_is_tried_again(set_up_download, status: int) -> None:
    served = Served(CONTENT)
    answers: list[Answer] = [served, *[reply(status, b"{}")] * 3]

    def answer(handler: Handler) -> None:
        answers.pop()(handler)

    setup = set_up_download(answer)
    assert setup.fetch().read_bytes() == CONTENT
    assert len(setup.seen.requests) == 4


def test_a_redirect_is_followed(set_up_download) -> None:
    def redirect(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "/elsewhere/real.gguf")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    setup = set_up_download(redirect, latest=redirect, **{"elsewhere/real.gguf": Served(CONTENT)})
    assert setup.fetch().name == "m.gguf"
    # The address has no name for a checkpoint; the one that it leads to has.
    assert setup.fetch("/latest").name == "real.gguf"


def test_a_reply_that_is_compressed_unasked_arrives_as_the_file(set_up_download) -> None:
    body = gzip.compress(CONTENT)
    served = Served(body, headers={"Content-Encoding": "gzip"}, drops=[50_000])
    setup = set_up_download(served)
    assert setup.fetch().read_bytes() == CONTENT
    assert setup.ranges() == ["", ""]
    assert {headers["accept-encoding"] for headers in setup.seen.headers} == {"identity"}


def test_a_body_without_length_and_frame_needs_a_pin(set_up_download) -> None:
    setup = set_up_download(Served(CONTENT, length=False))
    with pytest.raises(DownloadFailed, match="sha256"):
        setup.fetch()
    assert setup.fetch(f"/m.gguf#sha256={sha256(CONTENT)}").read_bytes() == CONTENT


def test_a_chunked_body_ends_where_it_says(set_up_download) -> None:
    def chunked(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.piece(CONTENT[:1000])
        if len(setup.seen.requests) > 1:
            handler.piece(CONTENT[1000:])
            handler.wfile.write(b"0\r\n\r\n")

    setup = set_up_download(chunked)
    assert setup.fetch().read_bytes() == CONTENT
    assert len(setup.seen.requests) == 2


def test_a_server_that_stops_sending_is_tried_again(set_up_download, monkeypatch) -> None:
    monkeypatch.setattr(transfer, "READ_TIMEOUT_S", 0.2)

    def stall(handler: Handler, offset: int) -> None:
        if offset >= 5 * BLOCK and len(setup.seen.requests) == 1:
            hold(handler)

    setup = set_up_download(Served(CONTENT, before=stall))
    assert setup.fetch().read_bytes() == CONTENT
    assert setup.ranges() == ["", f"bytes={5 * BLOCK}-"]


def test_a_connection_that_is_too_slow_is_replaced(set_up_download, monkeypatch) -> None:
    monkeypatch.setattr(transfer, "SPEED_WINDOW_S", 0.0)
    monkeypatch.setattr(transfer, "MIN_WINDOW_BYTES", 10**9)
    setup = set_up_download(Served(CONTENT))
    assert setup.fetch().read_bytes() == CONTENT
    assert len(setup.seen.requests) > 1


def test_a_download_can_be_stopped_and_resumed(set_up_download) -> None:
    def pause(handler: Handler, offset: int) -> None:
        if offset >= 5 * BLOCK and not setup.stop.is_set():
            setup.stop.wait(PATIENCE_S)

    setup = set_up_download(Served(CONTENT, before=pause))
    result = outcome_of(setup.fetch)
    eventually(lambda: setup.progress)
    watch = Stopwatch()
    setup.stop.set()
    with pytest.raises(DownloadFailed, match="was stopped"):
        result()
    assert watch.seconds < 2
    assert 0 < setup.partial_bytes() < len(CONTENT)
    setup.stop.clear()
    setup.seen.answers["GET /m.gguf"] = Served(CONTENT)
    assert setup.fetch().read_bytes() == CONTENT
    assert setup.ranges()[-1].startswith("bytes=")


def test_a_record_without_its_file_is_no_checkpoint(set_up_download) -> None:
    """Killed between the record and the name, what is there is downloaded again, not taken for the file."""
    setup = set_up_download(Served(CONTENT))
    path = setup.fetch()
    path.unlink()
    assert metadata.find(setup.folder, parse_source(f"{setup.seen.url}/m.gguf")) is None
    assert setup.fetch().read_bytes() == CONTENT


def test_a_whole_file_without_its_name_needs_no_server(set_up_download) -> None:
    setup = set_up_download(Served(CONTENT))
    served = setup.seen.answers.pop("GET /m.gguf")
    assert isinstance(served, Served)
    setup.folder.mkdir(parents=True)
    key = parse_source(f"{setup.seen.url}/m.gguf").key
    state = {"version": "", "validator": '"v1"', "size": len(CONTENT), "name": "m.gguf"}
    (setup.folder / f"{key}.partial").write_bytes(CONTENT)
    (setup.folder / f"{key}.partial.json").write_text(json.dumps(state))
    assert setup.fetch().read_bytes() == CONTENT
    assert setup.seen.requests == []


def test_a_folder_that_cannot_be_written_is_an_error(set_up_download, tmp_path: Path) -> None:
    setup = set_up_download(Served(CONTENT))
    (tmp_path / "models").write_text("a file")
    with pytest.raises(DownloadFailed, match="cannot be written"):
        setup.fetch()


def test_no_secret_of_an_address_is_stored_or_logged(set_up_download, caplog) -> None:
    setup = set_up_download(reply(404, b""), **{"m.gguf?token=hush-hush": Served(CONTENT, drops=[50_000])})
    setup.seen.url = setup.seen.url.replace("://", "://me:pass-word@")
    with caplog.at_level("DEBUG", logger="graycat"):
        setup.fetch("/m.gguf?token=hush-hush")
        with pytest.raises(DownloadFailed) as caught:
            setup.fetch("/m.gguf?x=hush-hush")
    stored = "".join(path.read_text() for path in setup.folder.glob("*.json"))
    logged = caplog.text + "".join(str(vars(record)) for record in caplog.records) + str(caught.value)
    assert [word for word in ("hush-hush", "pass-word") if word in stored + logged] == []
    assert setup.seen.headers[0]["authorization"].startswith("Basic ")
    # The same file under a newer signature.
    setup.fetch("/m.gguf?token=another")
    assert len(setup.seen.requests) == 3
