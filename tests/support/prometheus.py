"""A real Prometheus with monitoring/'s configuration and rules, a hundred times as fast, and the exporters it reads."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests
import yaml

from tests.support.processes import Output, eventually
from tests.support.programs import program
from tests.support.stack import ROOT, end_with_tests, free_ports

FOLDER = ROOT / "monitoring" / "prometheus"
ALERTMANAGER = ROOT / "monitoring" / "alertmanager"
#: Seconds between two scrapes, and between two looks at the rules.
EVERY = "1s"
#: What a rule's window of minutes becomes: some scrapes, on a machine that is busy.
WINDOW = "12s"
#: Seconds that a program gets to answer, and to end.
START_S, STOP_S = 90.0, 60.0


class Programs:
    """Programs beside the tests, each on a port of its own; none is left behind ``stop``."""

    def __init__(self) -> None:
        self._running: list[tuple[subprocess.Popen[str], Output]] = []

    def start(self, command: list[str], env: Mapping[str, str] | None = None) -> None:
        """Start one, with more in its environment."""
        process = subprocess.Popen(
            command, text=True, env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=end_with_tests,  # noqa: PLW1509 (one C call, looked up before the fork)
        )  # fmt: skip
        assert process.stdout is not None
        self._running.append((process, Output(process.stdout)))

    @property
    def output(self) -> str:
        """Return what they have printed."""
        return "\n".join(output.text for _, output in self._running)

    def stop(self) -> None:
        """Stop them all."""
        for process, _ in self._running:
            process.send_signal(signal.SIGTERM)
        for process, output in self._running:
            process.wait(STOP_S)
            output.close(STOP_S)


def quick_rules(text: str) -> str:
    """Return rules that decide within seconds on what they would watch for minutes."""
    text = re.sub(r"^(\s+for:) \S+$", r"\1 2s", text, flags=re.MULTILINE)
    text = re.sub(r"\[\d+[smh]\]", f"[{WINDOW}]", text)
    return re.sub(r"offset \d+[smh]", f"offset {WINDOW}", text)


class Prometheus:
    """Prometheus, with the jobs of monitoring/prometheus/prometheus.yml that have targets here."""

    def __init__(self, folder: Path, programs: Programs, token: str, targets: Mapping[str, list[str]]) -> None:
        """``targets`` by job; the others are left out."""
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._programs = programs
        (folder / "metrics-token").write_text(token)
        (folder / "rules.yml").write_text(quick_rules((FOLDER / "rules" / "graycat.yml").read_text()))
        config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
        config["global"] |= {"scrape_interval": EVERY, "scrape_timeout": EVERY, "evaluation_interval": EVERY}
        config["rule_files"] = [str(folder / "rules.yml")]
        config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = targets["alertmanager"]
        jobs = [self._here(job, folder, targets) for job in config["scrape_configs"] if job["job_name"] in targets]
        config["scrape_configs"] = jobs
        file = folder / "prometheus.yml"
        file.write_text(yaml.safe_dump(config))
        programs.start(
            [
                *(program("prometheus", "prometheus"), f"--config.file={file}", f"--web.listen-address={self.url[7:]}"),
                *(f"--storage.tsdb.path={folder}/data", "--log.level=warn"),
            ]
        )

    @staticmethod
    def _here(job: dict[str, Any], folder: Path, targets: Mapping[str, list[str]]) -> dict[str, Any]:
        if "authorization" in job:
            job["authorization"]["credentials_file"] = str(folder / "metrics-token")
        job.pop("static_configs", None)
        file = folder / f"{job['job_name']}.yml"
        file.write_text(yaml.safe_dump([{"targets": targets[job["job_name"]]}]))
        job["file_sd_configs"] = [{"files": [str(file)]}]
        if job["job_name"] == "celery":
            job |= {"scrape_interval": "5s", "scrape_timeout": "5s"}
        if job["job_name"] == "outside":
            job["relabel_configs"][-1]["replacement"] = targets["prober"][0]
        return job

    def get(self, path: str, **params: Any) -> Any:
        """Return the data that its API answers."""
        response = requests.get(f"{self.url}/api/v1/{path}", params=params, timeout=10)
        assert response.ok, (params, response.text)
        return response.json()["data"]

    def ready(self) -> bool:
        """Return whether it answers, and each of its targets has been read."""
        try:
            if not requests.get(f"{self.url}/-/ready", timeout=10).ok:
                return False
        except requests.ConnectionError:
            return False
        targets = self.get("targets", state="active")["activeTargets"]
        return bool(targets) and all(target["health"] == "up" for target in targets)

    def wait(self) -> None:
        """Return when every target has been read. Raises AssertionError naming those that cannot be."""
        try:
            eventually(self.ready, START_S)
        except AssertionError:
            targets = self.get("targets", state="active")["activeTargets"]
            bad = [(target["scrapeUrl"], target["lastError"]) for target in targets if target["health"] != "up"]
            raise AssertionError(f"{bad}\n{self._programs.output}") from None

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Return the samples of a query of now."""
        found: list[dict[str, Any]] = self.get("query", query=expr)["result"]
        return found

    def value(self, expr: str) -> float:
        """Return the one value of a query; NaN where there is none."""
        samples = self.query(expr)
        return float(samples[0]["value"][1]) if samples else float("nan")

    def names(self) -> set[str]:
        """Return the metrics that it has read."""
        return set(self.get("label/__name__/values"))

    def firing(self) -> dict[str, dict[str, Any]]:
        """Return the alerts that fire, by their names."""
        alerts = self.get("alerts")["alerts"]
        return {alert["labels"]["alertname"]: alert for alert in alerts if alert["state"] == "firing"}
