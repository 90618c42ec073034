from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from graycat import log
from graycat.cli import cli
from graycat.cli.models import PROGRESS_INTERVAL_S, ProgressDisplay, format_file_size
from graycat.engines.models import downloads
from graycat.errors import SettingsError
from tests.support.files import Served, gguf, safetensors, sha256
from tests.support.servers import Seen, http_server

CONTENT = gguf()
ANSWERS = {
    "GET /m.gguf": Served(CONTENT),
    "GET /c.safetensors": Served(safetensors()),
    "GET /l.safetensors": Served(safetensors(seed=2)),
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch, bare_environment):
    """Return how to run ``graycat models`` with some settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(log, "setup", lambda *_: None)
    monkeypatch.setattr(downloads, "FIRST_BACKOFF_S", 0.005)

    def invoke(*arguments: str, **env: str) -> Result:
        env = bare_environment | {"GRAYCAT_HOME": str(tmp_path)} | env
        return CliRunner().invoke(cli, ["models", *arguments], env=env)

    return invoke


@pytest.fixture
def seen():
    """Return a server with some checkpoints."""
    with http_server(ANSWERS) as seen:
        yield seen


def test_the_checkpoints_of_the_settings_are_pulled(run, seen: Seen, tmp_path: Path) -> None:
    result = run("pull", MODEL_URL=f"{seen.url}/m.gguf", LORA_URL=f"{seen.url}/l.safetensors")
    assert result.exit_code == 0
    paths = [tmp_path / "models/text/m.gguf", tmp_path / "models/image/models/Lora/l.safetensors"]
    assert result.stdout.splitlines() == [f"models: {path} is here" for path in paths]


@pytest.mark.parametrize(("option", "asked"), [("--text", ["/m.gguf"]), ("--image", ["/l.safetensors"])])
def test_the_checkpoints_of_one_kind_of_engine_are_pulled(run, seen: Seen, option: str, asked: list[str]) -> None:
    assert run("pull", option, MODEL_URL=f"{seen.url}/m.gguf", LORA_URL=f"{seen.url}/l.safetensors").exit_code == 0
    assert [path for _, path, _ in seen.requests] == asked


@pytest.mark.parametrize(
    ("options", "name", "folder"),
    [
        ([], "m.gguf", "models/text"),
        (["--text"], "m.gguf", "models/text"),
        (["--image"], "c.safetensors", "models/image/models/Stable-diffusion"),
        (["--lora"], "l.safetensors", "models/image/models/Lora"),
        (["--vae"], "l.safetensors", "models/image/models/VAE"),
    ],
)
def test_a_url_is_pulled_into_its_folder(run, seen, tmp_path, options, name: str, folder: str) -> None:
    assert run("pull", *options, f"{seen.url}/{name}").exit_code == 0
    assert (tmp_path / folder / name).is_file()


def test_a_file_of_this_machine_is_left_where_it_is(run, tmp_path: Path) -> None:
    (tmp_path / "mine.gguf").touch()
    assert "is a file of this machine" in run("pull", MODEL_URL=str(tmp_path / "mine.gguf")).stdout


def test_a_pull_that_fails_goes_on_with_the_others(run, seen: Seen) -> None:
    result = run("pull", f"{seen.url}/none.gguf?token=hush", f"{seen.url}/m.gguf")
    assert result.exit_code == 1
    assert f"models: {seen.url}/none.gguf?...: the server answered 404" in result.stderr
    assert "m.gguf is here" in result.stdout
    assert "hush" not in result.output


def test_an_invalid_url_is_a_settings_error(run) -> None:
    result = run("pull", "ftp://host/m.gguf")
    assert isinstance(result.exception, SettingsError)
    assert "URL must begin with https://" in str(result.exception)


def test_checkpoints_are_listed_with_their_use(run, seen: Seen) -> None:
    env = {"MODEL_URL": f"{seen.url}/m.gguf"}
    run("pull", **env)
    run("pull", "--vae", f"{seen.url}/l.safetensors")
    head, *rows = run("list", **env).stdout.splitlines()
    assert head.split() == ["NAME", "SIZE", "SHA256", "SOURCE", "USED", "BY"]
    text = ["text/m.gguf", "0.3", "MB", sha256(CONTENT)[:12], f"{seen.url}/m.gguf", "MODEL_URL"]
    assert [row.split() for row in rows][0] == text
    assert rows[1].split()[0::5] == ["VAE/l.safetensors", "-"]


def test_a_damaged_checkpoint_is_reported(run, seen: Seen, tmp_path: Path) -> None:
    run("pull", f"{seen.url}/m.gguf")
    (tmp_path / "models/text/theirs.gguf").touch()
    result = run("verify")
    assert (result.exit_code, result.stdout.split()) == (0, ["text/m.gguf", "intact", "text/theirs.gguf", "unknown"])
    (tmp_path / "models/text/m.gguf").write_bytes(CONTENT[:-1] + b"!")
    assert run("verify", "theirs.gguf").exit_code == 0
    result = run("verify", "m.gguf")
    assert (result.exit_code, result.stdout.split()) == (1, ["text/m.gguf", "DAMAGED"])


def test_removing_a_checkpoint_names_the_settings_that_use_it(run, seen: Seen, tmp_path: Path) -> None:
    env = {"MODEL_URL": f"{seen.url}/m.gguf"}
    run("pull", **env)
    result = run("remove", "m.gguf", **env)
    assert result.exit_code == 0
    assert "MODEL_URL still names it" in result.stderr
    assert list((tmp_path / "models/text").glob("m*")) == []
    assert isinstance(run("remove", "m.gguf", **env).exception, SettingsError)


def test_without_a_terminal_progress_is_a_line_every_few_seconds(capsys) -> None:
    now = [0.0]
    with ProgressDisplay(lambda: now[0]) as progress:
        for percent in range(100):
            now[0] += PROGRESS_INTERVAL_S / 10
            progress("m.gguf", percent)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "models: m.gguf 9 %"
    assert len(lines) == 10


def test_on_a_terminal_progress_is_a_bar(capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with ProgressDisplay() as progress:
        progress("m.gguf", 50.0)
        progress("m.gguf", 100.0)
    assert "m.gguf" in capsys.readouterr().err


def test_file_sizes_are_in_mb_or_gb(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for size, text in ((1_500_000, "1.5 MB"), (2_500_000_000, "2.50 GB")):
        with path.open("wb") as file:
            file.truncate(size)
        assert format_file_size(path) == text
