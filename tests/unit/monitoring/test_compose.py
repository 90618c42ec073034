"""The stack that watches: pinned, closed to others, and without a password that everybody knows."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.composed import config, is_pinned, required, resolved
from tests.support.watching import FOLDER, read

ENV = {
    "GRAFANA_USER": "olga",
    "GRAFANA_PASSWORD": "a password",
    "BROKER_PASSWORD": "another",
    "CELERY_BROKER_URL": "redis://:another@valkey:6379/0",
}


@pytest.fixture(scope="module")
def stack() -> dict[str, Any]:
    """Return the stack as Compose sees it."""
    return resolved(FOLDER, ENV)


@pytest.mark.parametrize("name", sorted(ENV))
def test_without_a_password_it_does_not_start(name: str) -> None:
    done = config(FOLDER, {key: value for key, value in ENV.items() if key != name})
    assert done.returncode != 0
    assert name in done.stderr
    assert config(FOLDER, ENV | {name: ""}).returncode != 0


def test_the_example_names_all_that_is_required() -> None:
    assert required(FOLDER) == set(ENV)
    lines = (FOLDER / ".env.example").read_text().splitlines()
    assert {f"{name}=" for name in ENV} <= set(lines)


def test_all_that_was_asked_for_is_there_and_pinned(stack: dict[str, Any]) -> None:
    images = {name: service["image"] for name, service in stack["services"].items()}
    images |= {name: service["image"] for name, service in read(FOLDER / "compose.yml")["services"].items()}
    assert set(images) == {
        *("prometheus", "alertmanager", "grafana", "redis-exporter", "celery-exporter", "node-exporter"),
        *("blackbox-exporter", "nvidia-exporter", "loki", "alloy"),
    }
    assert [image for image in images.values() if not is_pinned(image)] == []


def test_nobody_else_reaches_it_and_nothing_reaches_docker(stack: dict[str, Any]) -> None:
    for name, service in stack["services"].items():
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["cap_drop"] == ["ALL"], name
        assert not service.get("privileged"), name
        assert service["restart"] == "unless-stopped", name
    assert "docker.sock" not in str(stack)
    assert "/var/lib/docker:" not in str(stack)


def test_secrets_are_files_or_required_and_grafana_is_closed(stack: dict[str, Any]) -> None:
    grafana = stack["services"]["grafana"]["environment"]
    assert grafana["GF_SECURITY_ADMIN_PASSWORD"] == ENV["GRAFANA_PASSWORD"]
    assert grafana["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert set(stack["secrets"]) == {"metrics-token", "alert-webhook"}
    assert "admin" not in (FOLDER / ".env.example").read_text().lower()
    assert "/secrets/" in (FOLDER / ".gitignore").read_text()


def test_what_is_scraped_is_in_the_stack(stack: dict[str, Any]) -> None:
    scraped = read(FOLDER / "prometheus" / "prometheus.yml")["scrape_configs"]
    hosts = {
        target.partition(":")[0]
        for job in scraped
        for group in job.get("static_configs", [])
        for target in group["targets"]
    }
    hosts |= {
        target.partition(":")[0]
        for name in ("celery", "machines")
        for group in read(FOLDER / "prometheus" / "targets" / f"{name}.yml")
        for target in group["targets"]
    }
    assert hosts - {"localhost"} <= set(stack["services"])
    files = {name for job in scraped for sd in job.get("file_sd_configs", []) for name in sd["files"]}
    assert all((FOLDER / "prometheus" / name).is_file() for name in files)
    paths = {
        volume.partition(":")[0] for service in stack["services"].values() for volume in service.get("volumes", [])
    }
    ours = [path for path in paths if path.startswith(str(FOLDER))]
    assert len(ours) >= 6
    assert all(FOLDER.parent.joinpath(path).exists() for path in ours)


def test_the_commands_of_the_readme_make_what_the_stack_mounts(tmp_path: Path, stack: dict[str, Any]) -> None:
    first = (FOLDER / "README.md").read_text().partition("```\ncd monitoring\n")[2].partition("docker compose up")[0]
    shutil.copy(FOLDER / ".env.example", tmp_path)
    env = {**os.environ, "GRAYCAT_METRICS_TOKEN": "sixteen-letters!"}
    subprocess.run(["bash", "-euc", first], cwd=tmp_path, env=env, check=True, timeout=60)
    assert (tmp_path / ".env").exists()
    for secret in stack["secrets"].values():
        # As the container's nobody may read it, and nobody of this machine gets to it.
        there = tmp_path / "secrets" / Path(secret["file"]).name
        assert stat.S_IMODE(there.stat().st_mode) == 0o444
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert (tmp_path / "secrets" / "metrics-token").read_text() == "sixteen-letters!"
