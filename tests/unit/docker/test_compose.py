"""The stack of docker/: the Procfile's processes, closed to others, and without a password that everybody knows."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from graycat.cli.up import list_processes
from graycat.metrics.server import BEAT_OFFSET
from graycat.queue.topology import WORKER_KINDS
from graycat.settings import Settings, variable
from graycat.supervision.specs import PROCESSES
from tests.containers.stack import code_blocks
from tests.support.composed import config, is_pinned, required, resolved
from tests.support.stack import ROOT
from tests.support.watching import read

FOLDER = ROOT / "docker"
ENV = {
    "VALKEY_PASSWORD": "letters",
    "API_TOKENS": "game:a-secret-of-the-game",
    "GRAYCAT_TOKEN_KEY": "k" * 32,
    "GRAYCAT_WEBHOOK_KEY": "w" * 16,
    "GRAYCAT_METRICS_TOKEN": "m" * 16,
    "GRAYCAT_FLOWER_PASSWORD": "f" * 16,
}
#: What Compose itself reads, and what is none of graycat's settings.
OTHERS = {"COMPOSE_PROJECT_NAME", "VALKEY_PASSWORD", "VALKEY_MEMORY", "COMPOSE_FILE", "GRAYCAT_VERSION", "BATCHES"}
#: Processes of the Procfile that are not graycat's own here.
ELSEWHERE = {"graycat broker": "valkey", "graycat exporter": "exporter"}
VARIABLES = {variable(field.name) for field in fields(Settings)}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """Return the services as Compose sees them."""
    found: dict[str, Any] = resolved(FOLDER, ENV)["services"]
    return found


def commands(services: Mapping[str, Any]) -> dict[str, str]:
    """Return what each service of ours runs."""
    return {
        name: " ".join(["graycat", *service["command"]])
        for name, service in services.items()
        if service["image"].startswith("graycat")
    }


@pytest.mark.parametrize("name", sorted(ENV))
def test_without_a_secret_it_does_not_start(name: str) -> None:
    done = config(FOLDER, {key: value for key, value in ENV.items() if key != name})
    assert done.returncode != 0
    assert name in done.stderr


def test_the_example_names_all_that_may_be_set() -> None:
    assert required(FOLDER) == set(ENV)
    text = (FOLDER / "compose.yml").read_text() + (FOLDER / "compose.gpu.yml").read_text()
    used = set(re.findall(r"\$\{(\w+)", text))
    named = set(re.findall(r"^#?(\w+)=", (FOLDER / ".env.example").read_text(), re.MULTILINE))
    assert used == named - {"COMPOSE_PROJECT_NAME", "COMPOSE_FILE"}
    assert named - OTHERS - VARIABLES == PENDING


#: Settings that are named here before they are there.
PENDING = {"GRAYCAT_FLOWER_PASSWORD"} - VARIABLES


def test_every_process_of_the_procfile_has_a_container(services: dict[str, Any]) -> None:
    processes = [spec.command for spec in PROCESSES]
    box = Settings.from_env({key: value for key, value in services["llm"]["environment"].items() if value})
    here = set(commands(services).values()) | set(ELSEWHERE) | set(list_processes(box).values())
    assert set(processes) <= here, "add a service to docker/compose.yml"


def test_what_a_container_is_told_can_be_run_with(services: dict[str, Any]) -> None:
    for name in commands(services):
        env = {key: value for key, value in services[name]["environment"].items() if value}
        assert set(env) - VARIABLES <= {"GRAYCAT_FLOWER_HOST", "GRAYCAT_FLOWER_PASSWORD"}, name
        settings = Settings.from_env(env)
        assert settings.broker_url == "redis://:letters@valkey:6379/0"
        assert settings.box == "docker"


def test_nobody_else_reaches_it(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if service.get("ports")}
    assert published == {"web": ["127.0.0.1:8000:8000/tcp"], "flower": ["127.0.0.1:5555:5555/tcp"]}
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["restart"] == "unless-stopped", name
        # The image brings web's; the exporter's has no program to ask with.
        assert service.get("healthcheck") or name in ("web", "exporter"), name
    assert "docker.sock" not in str(services)


def test_the_broker_keeps_its_data_and_asks_for_its_password(services: dict[str, Any]) -> None:
    command = " ".join(services["valkey"]["command"])
    for words in ("requirepass", "--appendonly yes", "--maxmemory-policy noeviction"):
        assert words in command
    assert services["valkey"]["environment"]["VALKEY_PASSWORD"] == "letters"
    images = [service["image"] for service in read(FOLDER / "compose.yml")["services"].values() if "image" in service]
    assert [image for image in images if not image.startswith("graycat") and not is_pinned(image)] == []


def test_workers_are_asked_and_scraped_on_the_ports_that_they_have(services: dict[str, Any]) -> None:
    base = int(services["control"]["environment"]["GRAYCAT_METRICS_PORT"])
    targets = {
        target
        for group in read(ROOT / "monitoring" / "prometheus" / "targets" / "workers.yml")
        for target in group["targets"]
    }
    for kind in WORKER_KINDS.values():
        host = "llm" if kind.name == "quick" else kind.name
        port = base + kind.metrics_offset
        assert f"{host}:{port}" in targets
        assert str(port) in services[host]["healthcheck"]["test"]
    assert str(base + BEAT_OFFSET) in services["beat"]["healthcheck"]["test"]


def test_nothing_hangs_on_the_life_of_another_container(services: dict[str, Any]) -> None:
    # A network or process namespace of another container is gone for good once that one is started again.
    for name, service in services.items():
        assert not {"network_mode", "pid", "ipc", "links"} & set(service), name
    processes = list_processes(Settings.from_env({k: v for k, v in services["llm"]["environment"].items() if v}))
    assert processes == {"llm": "graycat worker llm", "quick": "graycat worker quick"}


def test_one_service_builds_the_image_for_all(services: dict[str, Any]) -> None:
    ours = {name: service for name, service in services.items() if service["image"].startswith("graycat")}
    assert [name for name, service in ours.items() if "build" in service] == ["web"]
    assert {service["image"] for service in ours.values()} == {"graycat:local"}
    assert {service["pull_policy"] for name, service in ours.items() if name != "web"} == {"never"}


def test_logs_are_rotated_or_go_to_the_journal(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["logging"]["driver"] == "json-file", name
        assert {"max-size", "max-file"} <= set(service["logging"]["options"]), name
    done = config(FOLDER, ENV, "compose.yml", "compose.journald.yml")
    journal = yaml.safe_load(done.stdout)["services"]
    assert set(journal) == set(services)
    # Docker refuses options of another driver.
    options = {"driver": "journald", "options": {"tag": "graycat/{{.Name}}"}}
    assert all(service["logging"] == options for service in journal.values())


def test_the_gpu_box_takes_a_model_and_a_gpu() -> None:
    files = ["compose.yml", "compose.gpu.yml"]
    assert "MODEL_URL" in config(FOLDER, ENV, *files).stderr
    done = config(FOLDER, ENV | {"MODEL_URL": "hf://o/r/f.gguf"}, *files)
    assert done.returncode == 0, done.stderr
    assert "Dockerfile.gpu" in done.stdout


def test_the_first_five_minutes_fill_in_all_that_is_required(tmp_path: Path) -> None:
    first = (FOLDER / "README.md").read_text().partition("```\ncd docker\n")[2].partition("docker compose up")[0]
    for name in ("compose.yml", ".env.example"):
        shutil.copy(FOLDER / name, tmp_path)
    subprocess.run(["bash", "-euc", first], cwd=tmp_path, check=True, timeout=60)
    filled = dict(
        line.split("=", 1) for line in (tmp_path / ".env").read_text().splitlines() if line[:1] not in ("#", "")
    )
    assert all(filled[name] for name in ENV)
    assert filled["API_TOKENS"].startswith("game:")
    assert len({filled[name] for name in ENV}) == len(ENV)
    assert config(FOLDER, filled).returncode == 0


def test_make_containers_runs_each_block_of_the_readme(tmp_path: Path) -> None:
    text = (FOLDER / "README.md").read_text()
    blocks = code_blocks(text)
    assert text.count("\n```") == 2 * len(blocks)
    first, calls, update, trouble = blocks
    assert first.startswith("cd docker\n")
    assert "graycat status" in calls
    assert "--remove-orphans" in update
    assert "graycat logs" in trouble
    # A shell can read them all.
    for block in blocks:
        subprocess.run(["bash", "-n", "-c", block], cwd=tmp_path, check=True, timeout=30)
