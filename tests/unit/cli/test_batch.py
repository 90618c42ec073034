"""``graycat batch``, on the web application behind a real socket."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from click.testing import CliRunner, Result

from graycat.batches.output import Outputs
from graycat.cli import cli
from graycat.client import batches as client_batches
from graycat.web.services import services_of
from tests.support.batching import Batching
from tests.support.helpers import SECRET, free_port, in_background

Graycat = Callable[..., Result]
SPEC = 'name = "two"\nitems = ["a knight", "a thief"]\ndefaults = {steps = 2}\n'


@pytest.fixture
def batching(broker, tmp_path, shared_app, monkeypatch) -> Batching:
    found = Batching(broker, tmp_path / "out")
    monkeypatch.setattr(services_of(shared_app), "outputs", Outputs(found.settings))
    return found


@pytest.fixture
def graycat(live, monkeypatch, tmp_path, batching) -> Graycat:
    """Return how to run ``graycat batch`` in a folder with a spec, with the settings of the live server's machine."""
    (tmp_path / "two.toml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT", str(urlsplit(live.url).port))
    monkeypatch.setenv("API_TOKENS", f"tests:{SECRET}")
    monkeypatch.setattr(client_batches, "POLL_INTERVAL_S", 0.01)

    def invoke(*words: str, stdin: str = "") -> Result:
        options = [] if "--help" in words else ["--patience=1"]
        return CliRunner().invoke(cli, ["batch", *words, *options], input=stdin, catch_exceptions=False)

    return invoke


def test_the_same_key_prints_the_same_id(graycat: Graycat) -> None:
    first, again = graycat("submit", "two.toml", "--key", "night"), graycat("submit", "two.toml", "--key", "night")
    assert (first.exit_code, first.stderr, again.stdout) == (0, "", first.stdout)
    assert len(first.stdout.strip()) == 16
    quiet = graycat("submit", "two.toml", "--key", "night", "--quiet")
    assert (quiet.exit_code, quiet.output) == (0, "")
    other = graycat("submit", "two.toml", "--key", "night", "--set", "steps=3")
    assert (other.exit_code, "batch_conflict" in other.stderr) == (4, True)


def test_waiting_exits_by_the_batch_s_state(graycat: Graycat, batching: Batching) -> None:
    batch_id = graycat("submit", "two.toml", "--key", "k").stdout.strip()
    player = in_background(lambda: batching.run_to_end(batch_id))
    done = graycat("submit", "two.toml", "--key", "k", "--wait")
    player.join()
    assert (done.exit_code, done.stdout.strip()) == (0, batch_id)
    assert "2/2 done" in graycat("watch", batch_id).stdout
    cancelled = graycat("submit", "two.toml").stdout.strip()
    graycat("cancel", cancelled)
    ended = graycat("watch", cancelled, "--quiet")
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert "has been cancelled: cancelled by its owner" in ended.stderr


def test_a_dry_run_prints_what_would_be_made(graycat: Graycat) -> None:
    output = graycat("submit", "two.toml", "--dry-run").stdout
    assert "2 images" in output
    assert "1-random-a-knight" in output
    assert json.loads(graycat("submit", "two.toml", "--dry-run", "--json").stdout)["total"] == 2
    assert graycat("list").stdout == ""


def test_a_batch_is_listed_shown_and_controlled(graycat: Graycat, batching: Batching) -> None:
    batch_id = graycat("submit", "-", stdin='{"name": "piped", "items": ["a"]}').stdout.strip()
    assert f"{batch_id}  queued" in graycat("list").stdout
    assert graycat("list", "--state", "failed").stdout == ""
    assert graycat("pause", batch_id).stdout.startswith(f"{batch_id} paused: 0/1 done")
    assert "paused (paused by its owner)" in graycat("show", batch_id).stdout
    assert json.loads(graycat("resume", batch_id, "--json").stdout)["state"] == "queued"
    batching.run_to_end(batch_id)
    shown = graycat("show", batch_id, "--items")
    assert "a.png" in shown.stdout
    assert len(json.loads(graycat("show", batch_id, "--state", "done", "--json").stdout)["item_list"]) == 1
    assert graycat("retry-failed", batch_id, "--quiet").output == ""


def test_images_are_exported_once(graycat: Graycat, batching: Batching, tmp_path: Path) -> None:
    batch_id = graycat("submit", "two.toml").stdout.strip()
    batching.run_to_end(batch_id)
    assert graycat("export", batch_id, "here").stdout == "2 images in here, 2 of them new\n"
    assert graycat("export", batch_id, "here").stdout == "2 images in here, 0 of them new\n"
    assert len(list((tmp_path / "here").glob("*.png"))) == 2
    assert "succeeded: 2 of 2 images done" in (tmp_path / "here" / "index.html").read_text()
    (tmp_path / "file").write_text("in the way")
    assert graycat("export", batch_id, "file/here").exit_code == 2


def test_a_gallery_s_link_opens_it_without_a_token(graycat: Graycat, batching: Batching) -> None:
    batch_id = graycat("submit", "two.toml").stdout.strip()
    batching.run_to_end(batch_id)
    link = graycat("gallery", batch_id, "--ttl", "1h").stdout.strip()
    page = requests.get(link, timeout=10)
    assert (page.status_code, "2 of 2 images done" in page.text) == (200, True)
    assert graycat("gallery", batch_id, "--ttl", "90d").exit_code == 4


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("show", "nothing"), 4, "batch_not_found"),
        (("show", "../x"), 2, "not a batch's id"),
        (("submit", "missing.toml"), 2, "No such file"),
        (("submit", "two.txt"), 2, "must end in"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    graycat: Graycat, words: tuple[str, ...], code: int, message: str
) -> None:
    result = graycat(*words)
    assert (result.exit_code, message in result.stderr) == (code, True)


def test_the_problems_of_a_spec_are_printed(graycat: Graycat) -> None:
    refused = graycat("submit", "-", stdin='{"items": ["a"], "window": "x"}')
    assert (refused.exit_code, "name: is required" in refused.stderr, "window: " in refused.stderr) == (4, True, True)


def test_an_unreachable_server_is_exit_code_3(graycat: Graycat, monkeypatch) -> None:
    monkeypatch.setenv("PORT", str(free_port()))
    assert graycat("list").exit_code == 3


def test_the_help_lists_the_exit_codes(graycat: Graycat) -> None:
    assert "130" in graycat("--help").stdout
