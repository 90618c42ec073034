"""Hugging Face's library against a hub of ours."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from graycat.engines.models import downloads, huggingface
from graycat.engines.models.errors import DownloadFailed
from graycat.engines.models.sources import parse_source
from graycat.engines.models.transfer import TransferInterrupted
from graycat.settings import Settings
from tests.support.files import COMMIT, Served, gguf, hub_answers, sha256
from tests.support.helpers import free_port
from tests.support.servers import Seen, http_server, reply

CONTENT = gguf()
REPO, FILE = "owner/repo", "Q4/m.gguf"


def settings_of(seen: Seen, home: Path, **changes: object) -> Settings:
    """Return settings whose hub is the server, as HF_ENDPOINT says."""
    env = {"HF_ENDPOINT": seen.url, "GRAYCAT_HOME": str(home)} | {name: str(value) for name, value in changes.items()}
    return Settings.from_env(env)


def fetch(settings: Settings, address: str = f"hf://{REPO}/{FILE}") -> Path:
    """Download a file of the hub."""
    source = parse_source(address, settings.hf_endpoint)
    return downloads.fetch(source, settings.home / "models", settings, lambda *_: None, threading.Event())


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "FIRST_BACKOFF_S", 0.005)


def test_a_file_comes_from_the_commit_that_its_branch_is_at(tmp_path: Path) -> None:
    with http_server(hub_answers(REPO, FILE, CONTENT)) as seen:
        path = fetch(settings_of(seen, tmp_path))
        assert (path.name, path.read_bytes()) == ("m.gguf", CONTENT)
        asked = [(method, where) for method, where, _ in seen.requests]
        assert asked[0] == ("HEAD", f"/{REPO}/resolve/main/{FILE}")
        assert asked[1] == ("GET", f"/{REPO}/resolve/{COMMIT}/{FILE}")
        # What is here stays, offline too, and nobody is asked.
        assert fetch(settings_of(seen, tmp_path, HF_HUB_OFFLINE="1")) == path
        assert len(seen.requests) == 3
    record = path.with_name("m.gguf.json").read_text()
    assert all(word in record for word in (COMMIT, f"hf://{REPO}@main/{FILE}", sha256(CONTENT)))


@pytest.mark.parametrize("address", ["hf://owner/repo@v1/Q4/m.gguf", "{url}/owner/repo/resolve/v1/Q4/m.gguf"])
def test_a_pinned_revision_is_asked_for(tmp_path: Path, address: str) -> None:
    with http_server(hub_answers(REPO, FILE, CONTENT)) as seen:
        assert fetch(settings_of(seen, tmp_path), address.format(url=seen.url)).read_bytes() == CONTENT
        assert seen.requests[0][1] == f"/{REPO}/resolve/v1/{FILE}"


def test_a_hub_download_resumes_whatever_the_edge_s_etag_is(tmp_path: Path) -> None:
    served = Served(CONTENT, etag='"edge"', drops=[50_000, 200_000])
    with http_server(hub_answers(REPO, FILE, CONTENT, served=served)) as seen:
        assert fetch(settings_of(seen, tmp_path)).read_bytes() == CONTENT
    parts = [headers.get("range", "") for (_, path, _), headers in zip(seen.requests, seen.headers, strict=True)
             if path.startswith("/cdn")]  # fmt: skip
    assert parts == ["", "bytes=50000-", "bytes=200000-"]


def test_a_token_gives_access_and_is_never_logged(tmp_path: Path, caplog) -> None:
    with http_server(hub_answers(REPO, FILE, CONTENT, token="hf_hush")) as seen:
        with pytest.raises(DownloadFailed, match="HF_TOKEN may not read it"):
            fetch(settings_of(seen, tmp_path, HF_TOKEN="hf_wrong"))
        with caplog.at_level("DEBUG", logger="graycat"):
            settings = settings_of(seen, tmp_path, HF_TOKEN="hf_hush")
            assert fetch(settings).read_bytes() == CONTENT
    tokens = {path.split("/")[1]: headers.get("authorization")
            for (_, path, _), headers in zip(seen.requests, seen.headers, strict=True)}  # fmt: skip
    assert tokens == {"owner": "Bearer hf_hush", "cdn": None}
    assert "hf_hush" in settings.secrets
    assert "hf_hush" not in repr(settings) + caplog.text


def test_offline_nothing_is_requested(tmp_path: Path) -> None:
    with http_server(hub_answers(REPO, FILE, CONTENT)) as seen:
        with pytest.raises(DownloadFailed, match="HF_HUB_OFFLINE"):
            fetch(settings_of(seen, tmp_path, HF_HUB_OFFLINE="true"))
        assert seen.requests == []


def test_content_that_is_not_what_the_hub_announced_is_refused(tmp_path: Path) -> None:
    served = Served(gguf(seed=2))
    with (
        http_server(hub_answers(REPO, FILE, CONTENT, served=served)) as seen,
        pytest.raises(DownloadFailed, match="another hash"),
    ):
        fetch(settings_of(seen, tmp_path))


def test_content_of_another_length_than_announced_is_refused(tmp_path: Path) -> None:
    with (
        http_server(hub_answers(REPO, FILE, CONTENT, served=Served(CONTENT[:-1]))) as seen,
        pytest.raises(DownloadFailed, match="another size"),
    ):
        fetch(settings_of(seen, tmp_path))


def test_a_hub_s_hash_is_compared_with_the_pinned_one_before_the_download(tmp_path: Path) -> None:
    with http_server(hub_answers(REPO, FILE, CONTENT)) as seen:
        with pytest.raises(DownloadFailed, match="sha256"):
            fetch(settings_of(seen, tmp_path), f"hf://{REPO}/{FILE}#sha256={'0' * 64}")
        assert [method for method, _, _ in seen.requests] == ["HEAD"]


def test_a_file_that_the_hub_does_not_have_is_an_error(tmp_path: Path) -> None:
    with http_server({}) as seen, pytest.raises(DownloadFailed) as caught:
        fetch(settings_of(seen, tmp_path))
    assert caught.value.permanent
    assert seen.url not in str(caught.value)


def test_an_endpoint_that_is_no_hub_is_an_error(tmp_path: Path) -> None:
    with (
        http_server({f"HEAD /{REPO}/resolve/main/{FILE}": reply(200, b"")}) as seen,
        pytest.raises(DownloadFailed, match="no hub"),
    ):
        fetch(settings_of(seen, tmp_path))


@pytest.mark.parametrize(
    ("status", "error"), [(503, TransferInterrupted), (429, TransferInterrupted), (418, DownloadFailed)]
)
def test_a_hub_in_trouble_may_do_better_later(tmp_path: Path, status: int, error: type[Exception]) -> None:
    with (
        http_server({f"HEAD /{REPO}/resolve/main/{FILE}": reply(status, b"")}) as seen,
        pytest.raises(error, match=str(status)),
    ):
        huggingface.resolve(parse_source(f"hf://{REPO}/{FILE}"), settings_of(seen, tmp_path))


def test_a_hub_that_is_not_there_may_come_back(tmp_path: Path) -> None:
    seen = Seen({}, url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(TransferInterrupted, match="cannot be reached"):
        huggingface.resolve(parse_source(f"hf://{REPO}/{FILE}"), settings_of(seen, tmp_path))


def test_a_token_does_not_travel_by_plain_http(tmp_path: Path) -> None:
    settings = settings_of(Seen({}, url="http://8.8.8.8"), tmp_path, HF_TOKEN="hf_hush")
    with pytest.raises(DownloadFailed, match="plain http"):
        fetch(settings)
