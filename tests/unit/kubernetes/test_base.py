"""The kustomization of kubernetes/: closed, complete, of one mind with graycat. ``make kubernetes`` has its schemas."""

from __future__ import annotations

import re
from dataclasses import fields
from functools import cache
from typing import Any

import pytest
import yaml

from graycat.families import BY_NAME
from graycat.metrics.server import BEAT_OFFSET, HEALTH_PATH
from graycat.queue.topology import WORKER_KINDS
from graycat.settings import Settings, variable
from graycat.settings.rules import is_secret, secrets_in
from graycat.status.scaling import ScaleHint
from graycat.supervision.specs import PROCESSES
from tests.support.composed import is_pinned
from tests.support.stack import ROOT

FOLDER = ROOT / "kubernetes"
FOLDERS = ("base", "valkey", "keda")
#: Processes of the Procfile that have no pod of graycat's image: the broker is Valkey's, the exporter is Prometheus's.
ELSEWHERE = {"graycat broker", "graycat exporter"}
SETTINGS = {variable(field.name): field for field in fields(Settings)}
#: Seconds that a pod has beyond GRAYCAT_STOP_GRACE_S: to hand back, to stop its engine, and to be told.
MARGIN_S = 15


@cache
def all_objects() -> list[dict[str, Any]]:
    """Return the objects of all files that the kustomizations name."""
    found: list[dict[str, Any]] = []
    for folder in FOLDERS:
        for name in yaml.safe_load((FOLDER / folder / "kustomization.yaml").read_text())["resources"]:
            found += yaml.safe_load_all((FOLDER / folder / name).read_text())
    return found


def objects(kind: str) -> dict[str, dict[str, Any]]:
    """Return the objects of a kind by name."""
    return {item["metadata"]["name"]: item for item in all_objects() if item["kind"] == kind}


def pods() -> dict[str, dict[str, Any]]:
    """Return the specs of all pods by the names of their deployments."""
    found = {**objects("Deployment"), **objects("StatefulSet")}
    return {name: item["spec"]["template"]["spec"] for name, item in found.items()}


def containers() -> dict[str, dict[str, Any]]:
    """Return all containers by name."""
    return {item["name"]: item for pod in pods().values() for item in pod["containers"]}


def test_every_file_is_part_of_it() -> None:
    for folder in FOLDERS:
        listed = set(yaml.safe_load((FOLDER / folder / "kustomization.yaml").read_text())["resources"])
        assert listed == {path.name for path in (FOLDER / folder).glob("*.yaml")} - {"kustomization.yaml"}
    whole = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    assert set(whole["resources"]) == set(FOLDERS)


def test_every_process_of_the_procfile_has_a_container() -> None:
    commands = {" ".join(["graycat", *item["args"]]) for item in containers().values() if item["image"] == "graycat"}
    assert commands == {process.command for process in PROCESSES} - ELSEWHERE


@pytest.mark.parametrize("name", sorted(containers()))
def test_a_container_is_closed(name: str) -> None:
    closed = containers()[name]["securityContext"]
    assert (closed["allowPrivilegeEscalation"], closed["readOnlyRootFilesystem"]) == (False, True)
    assert closed["capabilities"] == {"drop": ["ALL"]}
    assert containers()[name]["resources"]["limits"]["memory"]
    image = containers()[name]["image"]
    assert image == "graycat" or is_pinned(image)


@pytest.mark.parametrize("name", sorted(pods()))
def test_a_pod_is_nobody_in_particular_and_has_time_to_drain(name: str) -> None:
    pod = pods()[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    if name != "valkey":
        grace_s = float(objects("ConfigMap")["graycat"]["data"]["GRAYCAT_STOP_GRACE_S"])
        assert pod["terminationGracePeriodSeconds"] >= grace_s + MARGIN_S


def test_settings_are_graycat_s_own_and_no_secret_has_a_value() -> None:
    shared = objects("ConfigMap")["graycat"]["data"]
    settings = Settings.from_env({**shared, "GRAYCAT_METRICS_TOKEN": "m" * 16})
    for name in shared:
        assert not secrets_in(SETTINGS[name], getattr(settings, SETTINGS[name].name)), name
    for container in containers().values():
        for row in container["env"]:
            secret = row["name"] == "VALKEY_PASSWORD" or is_secret(SETTINGS[row["name"]])
            assert secret is ("secretKeyRef" in row.get("valueFrom", {})), row


def test_the_documented_secret_has_what_pods_need() -> None:
    needed = {"GRAYCAT_METRICS_TOKEN"}
    for container in containers().values():
        for row in container["env"]:
            reference = row.get("valueFrom", {}).get("secretKeyRef")
            if reference and not reference.get("optional"):
                assert reference["name"] == "graycat"
                needed.add(reference["key"])
    text = (ROOT / "docs" / "scaling.md").read_text()
    assert set(re.findall(r"--from-literal=(\w+)=", text)) == needed


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_keda_and_the_hint_have_the_same_bounds(name: str) -> None:
    scaled = objects("ScaledObject")[name]["spec"]
    settings = Settings.from_env({**objects("ConfigMap")["graycat"]["data"], "GRAYCAT_METRICS_TOKEN": "m" * 16})
    least, most, _ = BY_NAME[name].worker_bounds(settings)
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (least, most)
    # Applied again, it must not set the number back.
    assert "replicas" not in objects("Deployment")[scaled["scaleTargetRef"]["name"]]["spec"]
    (trigger,) = scaled["triggers"]
    scale, family, value = trigger["metadata"]["valueLocation"].split(".")
    assert (scale, family, trigger["metadata"]["targetValue"]) == ("scale", name, "1")
    assert value in {field.name for field in fields(ScaleHint)}
    assert objects("TriggerAuthentication")[trigger["authenticationRef"]["name"]]


def test_a_task_outlives_the_start_of_a_worker() -> None:
    settings = Settings.from_env({**objects("ConfigMap")["graycat"]["data"], "GRAYCAT_METRICS_TOKEN": "m" * 16})
    assert settings.queue_ttl_s > settings.scale_start_s


@pytest.mark.parametrize("name", [*sorted(WORKER_KINDS), "beat"])
def test_a_worker_is_ready_if_it_consumes_and_killed_only_if_it_does_not_listen(name: str) -> None:
    shared = objects("ConfigMap")["graycat"]["data"]
    offset = BEAT_OFFSET if name == "beat" else WORKER_KINDS[name].metrics_offset
    port = int(shared["GRAYCAT_METRICS_PORT"]) + offset
    assert containers()[name]["readinessProbe"]["httpGet"] == {"path": HEALTH_PATH, "port": port}
    # While the broker is away or the model loads it is not ready, and a restart would mend neither.
    assert containers()[name]["livenessProbe"]["tcpSocket"] == {"port": port}
    (metrics,) = objects("NetworkPolicy")["metrics"]["spec"]["ingress"]
    assert metrics["ports"][0]["port"] <= port <= metrics["ports"][0]["endPort"]


def test_web_is_ready_while_no_engine_is() -> None:
    web = containers()["web"]
    for probe, path in (("livenessProbe", "/health"), ("readinessProbe", "/health/web")):
        assert web[probe]["httpGet"]["path"] == path


def test_nothing_comes_in_that_is_not_named() -> None:
    closed = objects("NetworkPolicy")["closed"]["spec"]
    assert (closed["podSelector"], closed.get("ingress")) == ({}, None)


def test_services_and_budgets_find_their_pods() -> None:
    named = {item["metadata"]["name"]: item["spec"]["selector"] for item in objects("Service").values()}
    for name, budget in objects("PodDisruptionBudget").items():
        named[f"budget {name}"] = budget["spec"]["selector"]["matchLabels"]
    labels = [
        item["spec"]["template"]["metadata"]["labels"]
        for kind in ("Deployment", "StatefulSet")
        for item in objects(kind).values()
    ]
    for name, selector in named.items():
        assert any(selector.items() <= found.items() for found in labels), name
