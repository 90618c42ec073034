"""One checkpoint over HTTP, from servers that break, lie and change their minds."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from graycat.engines import downloads, sidecars, transfers
from graycat.engines.origins import parse
from graycat.errors import DownloadFailed
from graycat.settings import Settings
from tests.unit.files import BLOCK, Served, digest_of, gguf, safetensors, sha256
from tests.unit.helpers import PATIENCE_S, Stopwatch, changed, eventually, outcome_of
from tests.unit.servers import Answer, Handler, Seen, hold, http_server, reply

CONTENT = gguf()
#: What a process runs that pulls one address.
PULL = [sys.executable, "-c", "from graycat.cli import main; main()", "models", "pull"]


class Place:
    """A folder, and a server whose files come into it."""

    def __init__(self, home: Path, seen: Seen) -> None:
        self.settings, self.seen = Settings(home=home), seen
        self.folder = home / "models" / "text"
        self.stop = threading.Event()
        self.told: list[tuple[str, float]] = []

    def fetch(self, path: str = "/m.gguf", **changes: Any) -> Path:
        """Download a file of the server."""
        settings = changed(self.settings, **changes)
        return downloads.fetch(parse(self.seen.url + path), self.folder, settings, self.report, self.stop)

    def report(self, name: str, percent: float) -> None:
        """Take note of progress."""
        self.told.append((name, percent))

    def files(self) -> list[str]:
        """Return the names of all files but the lock."""
        return sorted(path.name for path in self.folder.iterdir() if path.name != downloads.LOCK)

    def ranges(self) -> list[str]:
        """Return the ranges that were asked for, '' for none."""
        return [headers.get("range", "") for headers in self.seen.headers]

    def half(self) -> int:
        """Return how many bytes of unfinished downloads are here."""
        return sum(path.stat().st_size for path in self.folder.glob("*.partial"))


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "FIRST_BACKOFF_S", 0.005)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Callable[..., Place]]:
    """Return how to start a server with some answers; the first one is /m.gguf's."""
    with ExitStack() as running:

        def start(answer: Answer, **others: Answer) -> Place:
            answers = {"GET /m.gguf": answer, **{f"GET /{name}": other for name, other in others.items()}}
            return Place(tmp_path, running.enter_context(http_server(answers)))

        yield start


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


def test_a_server_without_ranges_gives_the_file_from_its_beginning(place) -> None:
    here = place(Served(CONTENT, ranges=False, drops=[100_000]))
    assert here.fetch().read_bytes() == CONTENT


def test_a_server_that_always_breaks_off_is_given_up(place) -> None:
    here = place(Served(CONTENT, ranges=False, drops=[5000] * 50))
    with pytest.raises(DownloadFailed, match="broke off") as caught:
        here.fetch()
    assert not caught.value.permanent
    assert len(here.seen.requests) == downloads.TRIES
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


#: What servers call a file, and what it is called here.
NAMES = [
    ("attachment; filename=real.gguf", "real.gguf"),
    ('attachment; filename="../../../etc/cron.d/evil.gguf"', "evil.gguf"),
    ('attachment; filename="..\\\\..\\\\evil.gguf"', "evil.gguf"),
    ("attachment; filename*=UTF-8''%2e%2e%2f%2e%2e%2fevil.gguf", "evil.gguf"),
    ('attachment; filename="/etc/passwd"', "m.gguf"),
    ('attachment; filename=".hidden.gguf"', "hidden.gguf"),
    ('attachment; filename="..gguf"', "m.gguf"),
    ('attachment; filename="a b;$(c).gguf"', "a_b__(c).gguf"),
    (f'attachment; filename="{"x" * 400}.gguf"', f"{'x' * 120}.gguf"),
    ("attachment; filename=m.gguf.json", "m.gguf"),
    ("attachment; filename=virus.exe", "m.gguf"),
    ("attachment", "m.gguf"),
    ('attachment; filename=""', "m.gguf"),
]


@pytest.mark.parametrize(("disposition", "name"), NAMES)
def test_a_server_s_name_for_a_file_leads_nowhere_else(place, disposition: str, name: str) -> None:
    here = place(Served(CONTENT, headers={"Content-Disposition": disposition}))
    assert here.fetch() == here.folder / name
    assert here.files() == [name, f"{name}.json"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("m.gguf", b"<!DOCTYPE html>" * 99), ("m.safetensors", CONTENT), ("m.gguf", safetensors()), ("m.gguf", b"GGUF")],
)
def test_what_is_not_what_its_name_says_is_refused(place, name: str, content: bytes) -> None:
    here = place(Served(content, headers={"Content-Disposition": f"attachment; filename={name}"}))
    with pytest.raises(DownloadFailed, match=r"no .*\.(gguf|safetensors)"):
        here.fetch()
    assert not (here.folder / name).exists()


def test_a_web_page_in_place_of_a_large_file_is_noticed_at_its_first_bytes(place) -> None:
    asked: list[int] = []
    served = Served(b"<html>" + bytes(50 * BLOCK), before=lambda _, offset: asked.append(offset))
    with pytest.raises(DownloadFailed, match="web page"):
        place(served).fetch()


@pytest.mark.parametrize("name", ["m.ckpt", "m.pt", "m.pth", "m.bin"])
def test_a_pickled_checkpoint_needs_to_be_wanted(place, name: str) -> None:
    content = b"PK\x03\x04" + bytes(1000)
    here = place(Served(CONTENT), download=Served(content, headers={"Content-Disposition": f"a; filename={name}"}))
    with pytest.raises(DownloadFailed, match="GRAYCAT_ALLOW_PICKLE"):
        here.fetch("/download")
    assert here.fetch("/download", allow_pickle=True).name == name
    with pytest.raises(DownloadFailed, match="GRAYCAT_ALLOW_PICKLE"):
        here.fetch("/download")


def test_a_file_that_somebody_else_put_there_is_left_alone(place) -> None:
    here = place(Served(CONTENT))
    here.folder.mkdir(parents=True)
    (here.folder / "m.gguf").write_bytes(b"theirs")
    path = here.fetch()
    assert path.name.startswith("m-")
    assert (path.read_bytes(), (here.folder / "m.gguf").read_bytes()) == (CONTENT, b"theirs")


def test_two_origins_of_one_name_do_not_replace_each_other(place) -> None:
    other = gguf(seed=2)
    here = place(Served(CONTENT), **{"b/m.gguf": Served(other)})
    paths = [here.fetch(), here.fetch("/b/m.gguf")]
    assert [path.read_bytes() for path in paths] == [CONTENT, other]
    assert [here.fetch(), here.fetch("/b/m.gguf")] == paths
    assert len(here.seen.requests) == 2


def test_a_server_that_falls_silent_is_asked_again(place, monkeypatch) -> None:
    monkeypatch.setattr(transfers, "READ_TIMEOUT_S", 0.2)

    def stall(handler: Handler, offset: int) -> None:
        if offset >= 5 * BLOCK and len(here.seen.requests) == 1:
            hold(handler)

    here = place(Served(CONTENT, before=stall))
    assert here.fetch().read_bytes() == CONTENT
    assert here.ranges() == ["", f"bytes={5 * BLOCK}-"]


def test_a_server_that_hardly_sends_anything_is_left(place, monkeypatch) -> None:
    monkeypatch.setattr(transfers, "SLOW_AFTER_S", 0.0)
    monkeypatch.setattr(transfers, "SLOWEST_BYTES", 10**9)
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
    with pytest.raises(DownloadFailed, match="told to stop"):
        result()
    assert watch.seconds < 2
    assert 0 < here.half() < len(CONTENT)
    here.stop.clear()
    here.seen.answers["GET /m.gguf"] = Served(CONTENT)
    assert here.fetch().read_bytes() == CONTENT
    assert here.ranges()[-1].startswith("bytes=")


def test_a_file_that_the_disk_has_no_room_for_is_not_begun(place, monkeypatch) -> None:
    monkeypatch.setattr(downloads, "free_bytes", lambda _: downloads.RESERVE_BYTES + len(CONTENT) - 1)
    here = place(Served(CONTENT))
    with pytest.raises(DownloadFailed, match="too full: 0.3 GB are needed"):
        here.fetch()
    assert here.half() == 0


def test_a_disk_that_fills_up_meanwhile_ends_a_download(place, monkeypatch) -> None:
    monkeypatch.setattr(downloads, "LOOK_EVERY_BYTES", BLOCK)
    free = [0, 10**12]
    monkeypatch.setattr(downloads, "free_bytes", lambda _: free.pop())
    content = gguf(3_000_000)
    here = place(Served(content))
    with pytest.raises(DownloadFailed, match="too full"):
        here.fetch()
    assert 0 < here.half() < len(content)
    monkeypatch.setattr(downloads, "free_bytes", lambda _: 10**12)
    assert here.fetch().read_bytes() == content


def test_a_write_that_fails_is_told_and_gone_on_with_later(place, bare_environment) -> None:
    here = place(Served(CONTENT))
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
    command = [PULL[0], "-c", limit + PULL[2], *PULL[3:], f"{here.seen.url}/m.gguf"]
    env = bare_environment | {"GRAYCAT_HOME": str(here.settings.home)}
    done = subprocess.run(command, env=env, cwd=here.settings.home, check=False, capture_output=True, text=True)
    assert (done.returncode, "the disk is full" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr
    assert here.files()[0].endswith(".partial")
    assert here.fetch().read_bytes() == CONTENT
    assert here.ranges()[-1] == "bytes=100000-"


def puller(here: Place, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a process that pulls the server's file."""
    env = env | {"GRAYCAT_HOME": str(here.settings.home)}
    command = [*PULL, f"{here.seen.url}/m.gguf"]
    return subprocess.Popen(command, env=env, cwd=here.settings.home, stderr=subprocess.DEVNULL)


def test_a_killed_download_goes_on_to_the_right_file(place, bare_environment) -> None:
    content = gguf(2_000_000)
    points = sorted(random.SystemRandom().sample(range(BLOCK, len(content) - BLOCK), 5))
    limit = [points[0]]

    def pause(handler: Handler, offset: int) -> None:
        if offset >= limit[0]:
            hold(handler)

    here = place(Served(content, before=pause))
    for round_, limit[0] in enumerate(points, start=1):
        process = puller(here, bare_environment)
        eventually(partial(has_come, here, round_, limit[0] - BLOCK))
        os.kill(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_S)
        assert not (here.folder / "m.gguf").exists()
    limit[0] = len(content)
    assert puller(here, bare_environment).wait(PATIENCE_S) == 0
    assert digest_of(here.folder / "m.gguf") == sha256(content)
    assert here.files() == ["m.gguf", "m.gguf.json"]
    assert len(here.seen.requests) == len(points) + 1
    assert all(asked.startswith("bytes=") for asked in here.ranges()[1:])


def has_come(here: Place, requests: int, size: int) -> bool:
    """Tell whether so many requests were made and so many bytes are here."""
    return len(here.seen.requests) == requests and here.half() >= size


def test_two_processes_at_once_fetch_a_file_once(place, bare_environment) -> None:
    gate = threading.Event()

    def pause(handler: Handler, offset: int) -> None:
        if offset >= 5 * BLOCK:
            gate.wait(PATIENCE_S)

    here = place(Served(CONTENT, before=pause))
    first = puller(here, bare_environment)
    assert here.seen.asked.wait(PATIENCE_S)
    second = puller(here, bare_environment)
    eventually(lambda: has_open(second.pid, here.folder / downloads.LOCK))
    gate.set()
    assert (first.wait(PATIENCE_S), second.wait(PATIENCE_S)) == (0, 0)
    assert len(here.seen.requests) == 1
    assert digest_of(here.folder / "m.gguf") == sha256(CONTENT)


def has_open(pid: int, path: Path) -> bool:
    """Tell whether a process has a file open."""
    folder = Path(f"/proc/{pid}/fd")
    try:
        return any(str(link.readlink()) == str(path) for link in folder.iterdir())
    except FileNotFoundError:
        # It has closed one meanwhile.
        return False


def test_who_waits_for_another_process_can_be_told_to_stop(place) -> None:
    here = place(Served(CONTENT))
    here.folder.mkdir(parents=True)
    with downloads.locked(here.folder / downloads.LOCK, here.stop):
        result = outcome_of(here.fetch)
        here.stop.set()
        with pytest.raises(DownloadFailed, match="told to stop"):
            result()
    assert here.seen.requests == []


def test_a_record_without_its_file_is_no_checkpoint(place) -> None:
    """Killed between the record and the name, what is there is downloaded again, not taken for the file."""
    here = place(Served(CONTENT))
    path = here.fetch()
    path.unlink()
    assert sidecars.find(here.folder, parse(f"{here.seen.url}/m.gguf")) is None
    assert here.fetch().read_bytes() == CONTENT


def test_a_whole_file_without_its_name_needs_no_server(place) -> None:
    here = place(Served(CONTENT))
    served = here.seen.answers.pop("GET /m.gguf")
    assert isinstance(served, Served)
    here.folder.mkdir(parents=True)
    key = parse(f"{here.seen.url}/m.gguf").key
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
