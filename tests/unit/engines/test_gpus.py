from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from graycat.engines import gpus
from graycat.engines.gpus import Placement, find_placement, list_placements
from graycat.errors import SettingsError
from graycat.families import LLM, SD, EngineFamily
from graycat.settings import Settings
from tests.support import nvml as nvml_library

ROOT = Path(__file__).parents[3]
BASE = Settings()


@pytest.fixture(params=[0, 1, 4])
def count(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many GPUs there are."""
    number: int = request.param
    monkeypatch.setattr(gpus, "list_gpus", lambda: tuple(range(number)))
    return number


def pins(llm: str, sd: str, family: EngineFamily) -> list[int | None]:
    return [place.gpu for place in list_placements(replace(BASE, llm_gpus=llm, sd_gpus=sd), family)]


#: LLM_GPUS, SD_GPUS, how many there are: what text and images get.
TOPOLOGIES = [
    ("auto", "auto", 0, [None], [None]),
    ("auto", "auto", 1, [0], [0]),
    ("auto", "auto", 4, [0, 1, 2], [3]),
    ("auto", "2", 4, [0, 1, 3], [2]),
    ("0", "auto", 4, [0], [1, 2, 3]),
    ("1,0", "2", 4, [1, 0], [2]),
    ("", "0", 1, [None], [0]),
    ("", "", 4, [None], [None]),
    ("auto", "", 4, [0, 1, 2, 3], [None]),
]


@pytest.mark.parametrize(("llm", "sd", "there", "text", "images"), TOPOLOGIES)
def test_each_engine_gets_its_gpu(
    monkeypatch: pytest.MonkeyPatch, llm: str, sd: str, there: int, text: list[int | None], images: list[int | None]
) -> None:
    monkeypatch.setattr(gpus, "list_gpus", lambda: tuple(range(there)))
    assert (pins(llm, sd, LLM), pins(llm, sd, SD)) == (text, images)


def test_engines_of_a_kind_have_ports_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "list_gpus", lambda: (0, 1, 2, 3))
    settings = replace(BASE, llm_gpus="0,3", llm_port=1400)
    assert [place.port for place in list_placements(settings, LLM)] == [1400, 1401]
    assert find_placement(settings, LLM, 3) == Placement(3, 1401)
    assert find_placement(settings, LLM, 2) == Placement(2, 1400)


@pytest.mark.parametrize("text", ["7", "0,7", "zero", "0,0", "-1"])
def test_gpus_that_are_not_there_are_refused_with_their_variable(count: int, text: str) -> None:
    with pytest.raises(SettingsError, match="LLM_GPUS"):
        list_placements(replace(BASE, llm_gpus=text), LLM)


def test_a_gpu_that_is_not_there_is_refused_on_the_command_line(count: int) -> None:
    with pytest.raises(SettingsError, match="--gpu 9"):
        find_placement(BASE, LLM, 9)


def test_an_engine_sees_its_gpu_and_no_other() -> None:
    # In the order of NVML's indexes, which is not CUDA's own.
    assert Placement(1, 1337).environment == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1"}
    assert Placement(None, 1337).environment == {}
    assert Placement(1, 1337).worker_name("llm").endswith("-gpu1")


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment of a machine with GPUs."""
    return nvml_library.build(tmp_path_factory.mktemp("nvml"))


@pytest.mark.parametrize("number", [0, 1, 4])
def test_gpus_are_those_that_nvml_lists(nvml: dict[str, str], number: int) -> None:
    code = "from graycat.engines import gpus; print(gpus.list_gpus(), gpus.read_gpu_state(0))"
    env = nvml | {"FAKE_GPUS": str(number), "PYTHONPATH": str(ROOT)}
    told = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True).stdout
    assert told.startswith(str(tuple(range(number))))
    assert "utilization=42, memory_used=3000, memory_total=8000, temperature=61" in told


def test_without_nvml_there_is_no_gpu() -> None:
    assert gpus.list_gpus() == ()
    assert gpus.read_gpu_state(0) is None
