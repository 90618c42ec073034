from __future__ import annotations

import threading
from pathlib import Path

import pytest

from graycat.engines.models import checkpoints, inventory
from graycat.engines.models.checkpoints import IMAGE, TEXT
from graycat.errors import SettingsError
from graycat.settings import Settings
from tests.support.files import Served, gguf, safetensors
from tests.support.servers import http_server


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings whose checkpoints are here, with one beside that somebody else put there."""
    answers = {"GET /m.gguf": Served(gguf()), "GET /m.safetensors": Served(safetensors())}
    with http_server(answers) as seen:
        settings = Settings(
            home=tmp_path, model_url=f"{seen.url}/m.gguf", vae_url=f"{seen.url}/m.safetensors", sd_model_url=""
        )
        for kind in (TEXT, IMAGE):
            checkpoints.ensure(settings, kind, lambda *_: None, threading.Event())
    (tmp_path / "models/text/theirs.gguf").write_bytes(gguf(100))
    (tmp_path / "models/text/0123.partial").write_bytes(b"GG")
    return settings


def test_all_stored_files_are_listed(settings: Settings) -> None:
    found = {
        item.name: (item.record is not None, item.used_by, item.partial) for item in inventory.list_stored(settings)
    }
    assert found == {
        "text/m.gguf": (True, ("MODEL_URL",), False),
        "text/theirs.gguf": (False, (), False),
        "text/0123.partial": (False, (), True),
        "VAE/m.safetensors": (True, ("VAE_URL",), False),
    }


def test_without_folders_nothing_is_listed(tmp_path: Path) -> None:
    assert list(inventory.list_stored(Settings(home=tmp_path))) == []


def test_damage_is_found(settings: Settings) -> None:
    item = inventory.find_by_name(settings, "m.gguf")
    assert inventory.is_intact(item) is True
    content = bytearray(item.path.read_bytes())
    content[-1] ^= 1
    item.path.write_bytes(content)
    assert inventory.is_intact(item) is False
    assert inventory.is_intact(inventory.find_by_name(settings, "theirs.gguf")) is None


def test_what_is_removed_leaves_nothing(settings: Settings) -> None:
    inventory.remove(inventory.find_by_name(settings, "VAE/m.safetensors"))
    inventory.remove(inventory.find_by_name(settings, "0123.partial"))
    assert sorted(item.name for item in inventory.list_stored(settings)) == ["text/m.gguf", "text/theirs.gguf"]
    assert list((settings.home / "models/image/models/VAE").glob("m*")) == []


@pytest.mark.parametrize("name", ["none.gguf", "../text/m.gguf", "", "text", "m.gguf.json"])
def test_only_what_is_listed_can_be_named(settings: Settings, name: str) -> None:
    with pytest.raises(SettingsError, match="no checkpoints"):
        inventory.find_by_name(settings, name)


def test_a_name_in_two_folders_needs_its_folder(settings: Settings) -> None:
    lora = settings.home / "models/image/models/Lora"
    lora.mkdir()
    (lora / "m.safetensors").write_bytes(b"")
    with pytest.raises(SettingsError, match="Lora/m.safetensors, VAE/m.safetensors"):
        inventory.find_by_name(settings, "m.safetensors")
