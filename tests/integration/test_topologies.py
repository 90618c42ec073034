"""Machines with no, one and four GPUs: ``graycat up`` starts the right workers, each engine pinned, named, logged."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support import nvml
from tests.support.boxes import FAKE
from tests.support.processes import eventually
from tests.support.stack import BIN, ROOT, START_S, Stack, free_port_range

#: GPUs there are, LLM_GPUS, SD_GPUS, and the GPUs of the text and the image engines then; None for the CPU.
TOPOLOGIES: list[tuple[int, str, str, list[int | None], list[int | None]]] = [
    (0, "auto", "auto", [None], [None]),
    (1, "auto", "auto", [0], [0]),
    (4, "0,2", "auto", [0, 2], [1, 3]),
]
PINS = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment in which processes find a driver's library."""
    return nvml.build(tmp_path_factory.mktemp("driver"))


def suffix(gpu: int | None) -> str:
    return "" if gpu is None else f"-gpu{gpu}"


def pinned(pid: int) -> tuple[str | None, ...]:
    """Return what a process was told of GPUs."""
    words = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    told = dict(word.partition("=")[::2] for word in words)
    return tuple(told.get(name) for name in PINS)


def engine_on(stack: Stack, program: str, port: int) -> int:
    """Return the process id of the engine that was started for a port."""
    return next(pid for pid, line in stack.command_lines().items() if program in line and f"--port {port}" in line)


@pytest.mark.parametrize(("gpus", "llm", "sd", "texts", "images"), TOPOLOGIES, ids=["none", "one", "four"])
def test_each_gpu_has_its_workers_its_engine_its_port_and_its_log(
    tmp_path: Path,
    driver: dict[str, str],
    gpus: int,
    llm: str,
    sd: str,
    texts: list[int | None],
    images: list[int | None],
) -> None:
    env = driver | {"FAKE_GPUS": str(gpus), "LLM_GPUS": llm, "SD_GPUS": sd, "GRAYCAT_BOX": "box", "RUN_SD": "true"}
    env["STARTUP_COMMAND"] = f"{FAKE} --port {{port}} --tells {','.join(PINS)}"
    env["SD_STARTUP_COMMAND"] = f"{sys.executable} -m tests.fakes.webui --port {{port}}"
    env |= {"LLM_PORT": str(free_port_range(2)), "SD_PORT": str(free_port_range(2))}
    stack = Stack(tmp_path / "home", env=env)
    names = {f"{kind}@box{suffix(gpu)}" for kind in ("llm", "quick") for gpu in texts}
    names |= {f"sd@box{suffix(gpu)}" for gpu in images} | {"control@box"}
    try:
        stack.launch("up", "graycat up")
        eventually(lambda: {row["name"] for row in rows(stack) if row["consuming"]} == names, 2 * START_S)
        by_name = {row["name"]: row for row in rows(stack)}
        for kind, program, found in (("llm", "llama_server.py", texts), ("sd", "tests.fakes.webui", images)):
            for place, gpu in enumerate(found):
                row = by_name[f"{kind}@box{suffix(gpu)}"]
                pid = engine_on(stack, program, int(env[f"{kind.upper()}_PORT"]) + place)
                assert row["gpu"] == gpu
                assert pinned(pid) == ((None, None) if gpu is None else (str(gpu), "PCI_BUS_ID"))
                assert (stack.home / "log" / f"{kind}-engine{suffix(gpu)}.log").exists()
                if gpu is not None:
                    eventually(partial(gpu_state, stack, row["name"]), START_S)
        for gpu in texts:
            told = logs(stack, f"llm-engine{suffix(gpu)}").splitlines()[:2]
            assert told == [f"{PINS[0]}={gpu}", f"{PINS[1]}={'PCI_BUS_ID' if gpu is not None else None}"]
        answer = stack.client().post("/completion", {"prompt": "x", "n_predict": 2})
        assert (answer.status_code, answer.json()["tokens_predicted"]) == (200, 2)
        stack.stop()
    finally:
        stack.kill_all()


def rows(stack: Stack) -> list[dict[str, Any]]:
    """Return what /ready says of the workers; nothing while nobody answers."""
    try:
        found: list[dict[str, Any]] = requests.get(f"{stack.url}/ready", timeout=5).json()["workers"]
    except (requests.ConnectionError, requests.Timeout):
        return []
    return found


def gpu_state(stack: Stack, name: str) -> bool:
    """Return whether a worker's GPU is reported as the driver has it."""
    state = next(row["gpu_state"] for row in rows(stack) if row["name"] == name)
    return bool(state == {"utilization": 42, "memory_used": 3000, "memory_total": 8000, "temperature": 61})


def logs(stack: Stack, name: str) -> str:
    """Return what ``graycat logs`` shows of an engine."""
    words = [str(BIN / "graycat"), "logs", name]
    return subprocess.run(words, cwd=ROOT, env=stack.env, check=True, capture_output=True, text=True).stdout


def test_a_gpu_that_is_not_there_ends_the_start_with_one_line(tmp_path: Path, driver: dict[str, str]) -> None:
    stack = Stack(tmp_path / "home", env=driver | {"FAKE_GPUS": "1", "LLM_GPUS": "0,1"})
    try:
        output = stack.launch("up", "graycat up")
        assert stack.wait("up", START_S) == 2
        output.wait_for("graycat: LLM_GPUS names GPU 1; this machine has 0", START_S)
    finally:
        stack.kill_all()
