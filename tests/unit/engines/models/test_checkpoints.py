from __future__ import annotations

import threading
from pathlib import Path

import pytest

from graycat.engines import llama, webui
from graycat.engines.models import checkpoints, downloads
from graycat.engines.models.checkpoints import IMAGE, TEXT
from graycat.engines.models.errors import DownloadFailed
from graycat.errors import SettingsError
from graycat.settings import Settings
from tests.support.files import Served, gguf, safetensors
from tests.support.servers import http_server

ANSWERS = {
    "GET /m.gguf": Served(gguf()),
    "GET /n.gguf": Served(gguf(seed=2)),
    "GET /c.safetensors": Served(safetensors()),
    "GET /l.safetensors": Served(safetensors(seed=2)),
    "GET /v.safetensors": Served(safetensors(seed=3)),
    "GET /latest": Served(gguf(), headers={"Content-Disposition": "attachment; filename=real.gguf"}),
}


def ensure(settings: Settings, kind: str) -> list[Path]:
    """Have everything there, telling nobody."""
    return checkpoints.ensure(settings, kind, lambda *_: None, threading.Event())


def test_each_setting_s_checkpoints_lie_where_their_engine_looks(tmp_path: Path) -> None:
    with http_server(ANSWERS) as seen:
        settings = Settings(
            home=tmp_path,
            model_url=f"{seen.url}/m.gguf, {seen.url}/n.gguf",
            sd_model_url=f"{seen.url}/c.safetensors",
            lora_url=f" {seen.url}/l.safetensors\n",
            vae_url=f"{seen.url}/v.safetensors,,",
        )
        paths = ensure(settings, TEXT) + ensure(settings, IMAGE)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "models/text/m.gguf",
        "models/text/n.gguf",
        "models/image/models/Stable-diffusion/c.safetensors",
        "models/image/models/Lora/l.safetensors",
        "models/image/models/VAE/v.safetensors",
    ]
    assert checkpoints.list_missing(settings, TEXT) == checkpoints.list_missing(settings, IMAGE) == []


def test_only_what_is_missing_is_downloaded(tmp_path: Path) -> None:
    with http_server(ANSWERS) as seen:
        ensure(Settings(home=tmp_path, model_url=f"{seen.url}/m.gguf"), TEXT)
        both = Settings(home=tmp_path, model_url=f"{seen.url}/m.gguf {seen.url}/n.gguf")
        assert [checkpoint.source.name for checkpoint in checkpoints.list_missing(both, TEXT) if checkpoint.source] == [
            "n.gguf"
        ]
        ensure(both, TEXT)
        assert [path for _, path, _ in seen.requests] == ["/m.gguf", "/n.gguf"]


def test_progress_counts_all_files(tmp_path: Path) -> None:
    reports: list[tuple[str, float]] = []
    with http_server(ANSWERS) as seen:
        settings = Settings(home=tmp_path, model_url=f"{seen.url}/m.gguf,{seen.url}/n.gguf")
        checkpoints.ensure(settings, TEXT, lambda *args: reports.append(args), threading.Event())
    percents = [percent for _, percent in reports]
    assert percents == sorted(percents)
    assert dict(reports) == {"m.gguf": 50.0, "n.gguf": 100.0}


@pytest.mark.parametrize("text", ["{path}", "file://{path}"])
def test_a_file_of_this_machine_needs_no_download(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a model, mine.gguf"
    path.touch()
    settings = Settings(home=tmp_path, model_url=text.format(path=path))
    assert checkpoints.list_missing(settings, TEXT) == []
    assert ensure(settings, TEXT) == [path]
    assert checkpoints.main_checkpoint(settings, TEXT) == path


def test_without_settings_nothing_is_required(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert ensure(settings, TEXT) == ensure(settings, IMAGE) == []
    assert checkpoints.main_checkpoint(settings, TEXT) is None


@pytest.mark.parametrize(
    ("changes", "kind", "variable"),
    [
        ({"model_url": "/no/such.gguf"}, TEXT, "MODEL_URL"),
        ({"model_url": "https://host/m.ckpt"}, TEXT, "MODEL_URL"),
        ({"model_url": "https://me:hush@host:0/m.gguf"}, TEXT, "MODEL_URL"),
        ({"sd_model_url": "/local/c.safetensors"}, IMAGE, "SD_MODEL_URL"),
        ({"lora_url": "http://8.8.8.8/l.safetensors"}, IMAGE, "LORA_URL"),
        ({"vae_url": "hf://owner"}, IMAGE, "VAE_URL"),
        ({"model_url": "hf://owner/repo/m.gguf", "hf_endpoint": "hub.lan"}, TEXT, "HF_ENDPOINT"),
    ],
)
def test_an_address_that_cannot_be_used_names_its_variable(tmp_path, changes, kind: str, variable: str) -> None:
    with pytest.raises(SettingsError, match=rf"\b{variable}\b") as caught:
        checkpoints.list_required(Settings(home=tmp_path, **changes), kind)
    assert "hush" not in str(caught.value)


def test_a_pickled_checkpoint_must_be_allowed(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, sd_model_url="https://host/c.ckpt", allow_pickle=True)
    assert len(checkpoints.list_missing(settings, IMAGE)) == 1


def test_an_engine_s_command_names_the_file_as_it_came(tmp_path: Path) -> None:
    with http_server(ANSWERS) as seen:
        settings = Settings(
            home=tmp_path,
            model_url=f"{seen.url}/latest",
            startup_command="llama-server -m {model}",
            sd_model_url=f"{seen.url}/c.safetensors",
            sd_startup_command="sd-server -m {model} --lora-model-dir {models}/Lora --port {port}",
        )
        text, image = llama.build_text_engine(settings, own=True), webui.build_image_engine(settings)
        ensure(settings, TEXT)
        ensure(settings, IMAGE)
    models = tmp_path / "models"
    assert text.command() == ["llama-server", "-m", str(models / "text" / "real.gguf")]
    folder = models / "image" / "models"
    checkpoint = str(folder / "Stable-diffusion" / "c.safetensors")
    assert image.command() == ["sd-server", "-m", checkpoint, "--lora-model-dir", f"{folder}/Lora", "--port", "7860"]


def test_the_embedded_engine_loads_the_downloaded_file(tmp_path: Path) -> None:
    with http_server(ANSWERS) as seen:
        engine = llama.build_text_engine(Settings(home=tmp_path, model_url=f"{seen.url}/latest"), own=True)
        ensure(Settings(home=tmp_path, model_url=f"{seen.url}/latest"), TEXT)
    assert list(engine.command() or [])[-2:] == ["--model", str(tmp_path / "models" / "text" / "real.gguf")]


def test_a_download_that_fails_says_so(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(downloads, "FIRST_BACKOFF_S", 0.005)
    with http_server({}) as seen, pytest.raises(DownloadFailed, match="404"):
        ensure(Settings(home=tmp_path, model_url=f"{seen.url}/m.gguf"), TEXT)
