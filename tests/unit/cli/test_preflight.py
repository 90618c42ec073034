from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from graycat.cli import cli, preflight, running
from graycat.cli.preflight import Verdict
from graycat.engines.gpus import GpuState
from graycat.settings import Settings, environment, extras
from tests.support.helpers import ROOT, changed
from tests.support.ports import free_ports
from tests.support.servers import Answer, http_server

Examine = Callable[..., list[tuple[str, str, str]]]


@pytest.fixture
def free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Have the check look at an empty folder; return settings with ports that are free."""
    monkeypatch.chdir(tmp_path)
    for name in environment():
        if name.startswith("GRAYCAT_"):
            monkeypatch.delenv(name)
    ports = free_ports(4)
    return dict(zip(("PORT", "LLM_PORT", "SD_PORT", "FLOWER_PORT"), map(str, ports), strict=True))


@pytest.fixture
def examine(free: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Examine:
    """Return a function that examines this machine with some settings; it gives verdict, subject and text."""

    def run(**env: str) -> list[tuple[str, str, str]]:
        for name, value in (free | env).items():
            monkeypatch.setenv(name, value)
        # Loading the engine takes a second; one test does.
        monkeypatch.setattr(preflight, "check_libraries", lambda *_: iter(()))
        return [(found.verdict.value, found.subject, found.text) for found in preflight.examine()]

    return run


def failures(found: list[tuple[str, str, str]]) -> list[str]:
    return [text for verdict, _, text in found if verdict == Verdict.FAILED]


def check(env: dict[str, str], *options: str) -> Result:
    return CliRunner().invoke(cli, ["up", "--check", *options], env=env)


def test_a_machine_that_is_ready_is_so_in_every_line_and_nothing_is_written(free: dict[str, str], tmp_path) -> None:
    result = check(free)
    assert result.exit_code == 0, result.output
    subjects = {line.split()[1] for line in result.output.splitlines()}
    assert subjects == {"settings", "home", "ports", "broker", "engine", "libraries", "GPU", "models", "disk", "clock"}
    assert "FAILED" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_the_same_as_json(free: dict[str, str]) -> None:
    result = check(free | {"RUN_LLM": "false"}, "--json")
    assert {finding["verdict"] for finding in json.loads(result.output)} == {"ok", "warning"}
    assert CliRunner().invoke(cli, ["up", "--json"]).exit_code == 2


def test_all_settings_that_are_wrong_are_told_at_once_and_their_values_are_not(free: dict[str, str]) -> None:
    wrong = {"PORT": "web", "GRAYCAT_LLM_SLOTS": "0", "REMOTE": "true", "API_TOKEN": "hush-hush", "GRAYCAT_LEASES": "1"}
    result = check(free | wrong)
    assert result.exit_code == 1
    for text in (
        "PORT must be a whole number",
        "GRAYCAT_LLM_SLOTS must be a number above zero",
        "REMOTE=true needs REDIS_URL",
        "GRAYCAT_LEASES is no setting of graycat; did you mean GRAYCAT_LEASE_S?",
    ):
        assert f"FAILED   settings  {text}" in result.output
    # It may be another program's.
    assert "warning  settings  API_TOKEN is no setting of graycat; did you mean API_TOKENS?" in result.output
    assert "hush-hush" not in result.output


def test_a_misspelt_name_of_the_file_is_told_once_with_its_line(free: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("\nGRAYCAT_LEASES=1\nAPI_TOKEN=hush-hush\n")
    result = check(free)
    told = [line for line in result.output.splitlines() if "no setting" in line]
    assert told == [
        "FAILED   settings  .env, line 3: API_TOKEN is no setting of graycat; did you mean API_TOKENS?",
        "FAILED   settings  .env, line 2: GRAYCAT_LEASES is no setting of graycat; did you mean GRAYCAT_LEASE_S?",
    ]


def test_a_port_that_is_taken_is_named_beside_those_that_are_free(free: dict[str, str], examine: Examine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        taken = [str(server.getsockname()[1]) for server in (one, other)]
        found = examine(PORT=taken[0], SD_PORT=taken[1])
    assert failures(found) == [
        f"port {taken[0]} is taken: choose another with PORT=...",
        f"port {taken[1]} is taken: choose another with SD_PORT=...",
    ]
    assert ("ok", "ports", f"free: {free['FLOWER_PORT']}, {free['LLM_PORT']}") in found


def test_a_mistake_that_two_checks_come_upon_is_told_once(examine: Examine) -> None:
    found = failures(examine(LLM_GPUS="7"))
    assert found == ["LLM_GPUS names GPU 7; this machine has none"]


def test_secrets_and_files_are_looked_at(examine: Examine, tmp_path: Path) -> None:
    (tmp_path / "schedules.toml").write_text("[[schedules]]\n")
    found = failures(examine(API_TOKENS="game:short", GRAYCAT_EXPORTER="true", GRAYCAT_BATCH_DIR="nosuch://bucket"))
    named = ("GRAYCAT_BATCH_DIR", "API_TOKENS", "schedules.toml", "GRAYCAT_EXPORTER_PYTHON")
    assert len(found) == len(named)
    assert all(name in text for name, text in zip(named, found, strict=True))


def test_a_home_that_others_can_read_or_that_is_in_use(examine: Examine, tmp_path: Path) -> None:
    home = tmp_path / "state"
    home.mkdir()
    home.chmod(0o755)
    warnings = [
        text for verdict, subject, text in examine(GRAYCAT_HOME=str(home)) if (verdict, subject) == ("warning", "home")
    ]
    assert "open to other users (mode 755)" in warnings[0]
    lock = running.lock_home(home)
    try:
        assert f"another graycat uses {home}" in failures(examine(GRAYCAT_HOME=str(home)))[0]
    finally:
        lock.close()


def test_a_home_that_cannot_be_made(examine: Examine, tmp_path: Path) -> None:
    assert failures(examine(GRAYCAT_HOME="/proc/nowhere/var"))
    assert preflight.existing_folder(tmp_path / "a" / "b") == tmp_path


def test_a_program_that_is_not_there(examine: Examine) -> None:
    found = failures(examine(SD_STARTUP_COMMAND="no-such-program --port {port}", RUN_LLM="false"))
    assert found == ["sd: there is no program no-such-program"]


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("import sys; sys.exit('ImportError: libnone.so.1: cannot open shared object file')", "libnone.so.1"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "another processor"),
    ],
)
def test_an_engine_that_cannot_be_loaded_says_why(
    module: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_engine.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(extras, "are_installed", lambda *_: True)
    monkeypatch.setattr(extras, "ENGINE", "broken_engine")
    (found,) = preflight.check_libraries(Settings(), {})
    assert found.verdict is Verdict.FAILED
    assert said in found.text
    # Another engine does not need it.
    assert not list(preflight.check_libraries(Settings(startup_command="server"), {}))


def test_an_engine_that_runs_already_is_named_and_so_are_its_workflows(tmp_path: Path) -> None:
    settings = Settings(run_llm=False, comfyui_url="http://127.0.0.1:8188", comfyui_workflows=str(tmp_path / "flows"))
    assert [found.text for found in preflight.check_engines(settings, {})] == ["sd: comfyui, one that runs already"]
    (missing,) = preflight.check_workflows(settings, {})
    assert (missing.verdict, missing.text) == (
        Verdict.WARNING,
        f"GRAYCAT_COMFYUI_WORKFLOWS: there is no folder {tmp_path}/flows",
    )
    (tmp_path / "flows").mkdir()
    for name in ("a.json", "a.inputs.json", "notes.txt"):
        (tmp_path / "flows" / name).write_text("{}")
    (found,) = preflight.check_workflows(settings, {})
    assert (found.verdict, found.text.startswith("sd: 1 workflows in ")) == (Verdict.OK, True)
    # Another engine runs none.
    (useless,) = preflight.check_workflows(changed(settings, comfyui_url=""), {})
    assert (useless.verdict, "only ComfyUI" in useless.text) == (Verdict.WARNING, True)
    assert not list(preflight.check_workflows(changed(settings, comfyui_workflows=""), {}))


@pytest.mark.parametrize(
    ("chat_model", "text"),
    [
        (Path("SmolLM2.gguf"), "the packaged one, SmolLM2"),
        (None, "the packaged one, Gemma 3 270M, about 250 MB, assembled at the first start"),
    ],
)
def test_the_packaged_model_that_will_be_served_is_named(
    monkeypatch: pytest.MonkeyPatch, chat_model: Path | None, text: str
) -> None:
    monkeypatch.setattr(preflight, "find_smollm2", lambda: chat_model)
    found = preflight.check_models(Settings(run_sd=False), {})
    assert [finding.text for finding in found if finding.subject == "models"] == [text]


def test_gpus_are_listed_with_their_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graycat.engines.gpus.list_gpus", lambda: (0, 1))
    monkeypatch.setattr(
        "graycat.engines.gpus.read_gpu_state", lambda gpu: GpuState(0, 2 * 10**9, 24 * 10**9, 40) if gpu else None
    )
    texts = [found.text for found in preflight.check_gpus(Settings(llm_gpus="1", run_sd=False), {})]
    assert texts == ["0: memory unknown", "1: 2.0 of 24.0 GB in use", "llm runs on 1"]


def sized(length: str | None) -> Answer:
    """Return an answer that says how long it is, and never sends its body."""

    def answer(handler) -> None:
        handler.send_response(200)
        if length is not None:
            handler.send_header("Content-Length", length)
        handler.end_headers()
        handler.close_connection = True

    return answer


def test_models_are_told_with_their_sizes_and_the_disk_must_have_room(examine: Examine, tmp_path: Path) -> None:
    here = tmp_path / "here.gguf"
    here.write_bytes(b"x")
    huge = 10**15
    answers = {"GET /huge.safetensors": sized(str(huge)), "GET /unknown.safetensors": sized(None)}
    with http_server(answers) as seen:
        found = examine(
            MODEL_URL=str(here),
            SD_STARTUP_COMMAND="true {port}",
            SD_MODEL_URL=f"{seen.url}/huge.safetensors {seen.url}/unknown.safetensors {seen.url}/none.safetensors",
        )
    texts: dict[str, list[tuple[str, str]]] = {subject: [] for _, subject, _ in found}
    for verdict, subject, text in found:
        texts[subject].append((verdict, text))
    verdicts = [verdict for verdict, _ in texts["models"]]
    assert verdicts == ["ok", "ok", "warning", "FAILED"]
    assert "is here" in texts["models"][0][1]
    assert "1000000.00 GB" in texts["models"][1][1]
    assert texts["disk"][0][0] == "FAILED"


def test_a_clock_that_is_behind_is_told(monkeypatch: pytest.MonkeyPatch, no_broker: Settings) -> None:
    (found,) = preflight.check_clock(no_broker, {})
    assert found.verdict is Verdict.OK
    monkeypatch.setattr("graycat.cli.preflight_broker.clock_difference_s", lambda _: -90.0)
    (found,) = preflight.check_clock(no_broker, {})
    assert (found.verdict, found.text.partition(" s ")[0]) == (Verdict.WARNING, "-90.0")
    monkeypatch.setattr("time.time", lambda: 0.0)
    (found,) = preflight.check_clock(changed(no_broker), {})
    assert found.verdict is Verdict.FAILED


def test_the_page_has_every_line_of_the_check() -> None:
    page = (ROOT / "docs" / "install.md").read_text()
    code = Path(preflight.__file__).read_text()
    subjects = set(re.findall(r'(?:ok|warning|failed)\("(\w+)"', code))
    assert len(subjects) >= 9
    assert [subject for subject in subjects if f"`{subject}`" not in page] == []
